//! What is in the way on disk.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, lchown, symlink},
    path::Path,
    process::Command,
};

use super::{command, doctor, is_root, run};
use crate::host::{Host, NAME};

const STRANGER: Option<u32> = Some(65_534);

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Moved aside, for a link to lead there.
fn aside(path: &Path) -> std::path::PathBuf {
    let aside = path.with_extension("aside");
    fs::rename(path, &aside).unwrap();
    aside
}

#[tokio::test]
async fn what_lies_in_the_place_of_a_directory_and_whose_it_is_is_told() {
    if !is_root() {
        return;
    }
    type Fault = fn(&Path);
    let faults: &[(&str, Fault, Option<&str>)] = &[
        (
            "a file",
            |path| {
                aside(path);
                fs::write(path, "").unwrap();
            },
            Some("not-a-directory"),
        ),
        (
            "a dangling link",
            |path| {
                aside(path);
                symlink("/nowhere", path).unwrap();
            },
            Some("dangling-link"),
        ),
        (
            "our own link",
            |path| symlink(aside(path), path).unwrap(),
            None,
        ),
        (
            "somebody's link",
            |path| {
                symlink(aside(path), path).unwrap();
                lchown(path, STRANGER, STRANGER).unwrap();
            },
            Some("foreign-link"),
        ),
        (
            "somebody's directory",
            |path| chown(path, STRANGER, None).unwrap(),
            Some("wrong-owner"),
        ),
        ("open to all", |path| mode(path, 0o757), Some("wrong-mode")),
        (
            "open to all, sticky",
            |path| mode(path, 0o1777),
            Some("wrong-mode"),
        ),
        (
            "open to a group",
            |path| {
                chown(path, None, STRANGER).unwrap();
                mode(path, 0o770);
            },
            Some("wrong-mode"),
        ),
        ("open to the group root", |path| mode(path, 0o770), None),
        ("missing", |path| drop(aside(path)), None),
    ];
    let mut host = Host::new();
    host.start_nginx().await;
    for directory in ["state", "live"] {
        for (name, fault, expected) in faults {
            let host = Host::new();
            host.begin_map();
            let path = host.path(directory);
            fault(&path);
            let told = doctor(&host).await;
            let mut all: Vec<&str> = expected.iter().copied().collect();
            all.extend(["not-enrolled", "nginx-not-running"]);
            // nginx reads a certificate below it.
            if directory == "live" && matches!(*name, "a file" | "a dangling link" | "missing") {
                all.push("nginx-refuses");
            }
            assert_eq!(
                told.in_the_way(),
                all,
                "{directory}: {name}: {:#?}",
                told.in_the_way
            );
            if let Some(expected) = expected {
                told.says(expected, &[&path.display().to_string()]);
            }
            assert_eq!(
                told.notes().contains(&"directory-missing"),
                *name == "missing"
            );
        }
    }
    // Above both; told once.
    mode(host.root(), 0o777);
    let told = doctor(&host).await;
    assert_eq!(told.in_the_way(), ["wrong-mode", "not-enrolled"]);
    told.says(
        "wrong-mode",
        &[&format!("chmod o-w {}", host.root().display())],
    );
    mode(host.root(), 0o1777);
    assert_eq!(
        doctor(&host).await.in_the_way(),
        ["not-enrolled"],
        "sticky, as /tmp"
    );
    mode(host.root(), 0o700);
    fs::remove_dir_all(host.path("conf.d")).unwrap();
    host.write_nginx(false, "");
    let told = doctor(&host).await;
    told.says(
        "directory-missing",
        &["the challenge map's directory", "mkdir -p"],
    );
}

/// The verb in a mount namespace of its own, prepared by these commands of shell.
fn mounted(host: &Host, prepare: &str) -> Command {
    let agent = command(host);
    let script = format!("mount --make-rprivate / && {prepare} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "/bin/sh", "-c", &script, "sh"])
        .arg(agent.get_program())
        .args(agent.get_args());
    command
}

#[tokio::test]
async fn a_file_system_that_takes_nothing_is_told_of_with_the_reason() {
    if !is_root() {
        return;
    }
    let mut host = Host::new();
    host.start_nginx().await;
    if !mounted(&host, "true")
        .output()
        .unwrap()
        .stdout
        .starts_with(b"{")
    {
        crate::world::skipped("nothing can be mounted here");
        return;
    }
    for directory in ["state", "live"] {
        let path = host.path(directory);
        let at = path.display();
        let keep = format!("cp -a {at} {at}.kept");
        let back = format!("cp -a {at}.kept/. {at}/");
        let mount = |options: &str| format!("mount -t tmpfs -o mode=700,{options} none {at}");
        for (name, prepare, expected) in [
            (
                "read-only",
                format!(
                    "{keep} && {} && {back} && mount -o remount,ro {at}",
                    mount("size=1m")
                ),
                "read-only",
            ),
            (
                "full",
                format!(
                    "{keep} && {} && {back} && {{ cat /dev/zero > {at}/fill 2>/dev/null || true; }}",
                    mount("size=64k")
                ),
                "disk-full",
            ),
            (
                "without inodes",
                format!(
                    "{keep} && {} && {{ cp -a {at}.kept/. {at}/; mkdir -p {at}/a/b/c/d/e/f; }}",
                    mount("size=4m,nr_inodes=20")
                ),
                "no-inodes",
            ),
        ] {
            let told = run(mounted(&host, &prepare)).await;
            fs::remove_dir_all(host.path(&format!("{directory}.kept"))).unwrap();
            assert_eq!(
                told.in_the_way(),
                [expected, "not-enrolled"],
                "{directory} {name}: {:#?}",
                told.in_the_way
            );
            told.says(expected, &[&path.display().to_string()]);
        }
    }
}

#[tokio::test]
async fn a_disk_that_fails_is_told_of_in_the_system_s_words() {
    let mut host = Host::new();
    host.start_nginx().await;
    let agent = command(&host);
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-P"])
        .arg(host.path("state"))
        .args(["-e", "inject=openat:error=EIO"])
        .arg(agent.get_program())
        .args(agent.get_args());
    if !Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .status()
        .is_ok_and(|ended| ended.success())
    {
        crate::world::skipped("strace can't trace here");
        return;
    }
    let told = run(strace).await;
    assert_eq!(told.in_the_way(), ["not-writable", "not-enrolled"]);
    told.says(
        "not-writable",
        &["Input/output error", "the state directory"],
    );
    assert!(host.live().exists(), "{NAME}");
}
