//! The memory of an issuer holds private keys: no core file is made of it, and nobody but root looks into it.
//!
//! Both are the kernel's to refuse, for a process that isn't dumpable; then all that is below its `/proc/PID` is root's.

use std::{
    fs,
    io::{self, Write as _},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        net::UnixStream,
        process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    unistd::geteuid,
};

use super::fleet::*;

/// Any user but root.
const NOBODY: u32 = 65_534;

/// A fleet to be, and a copy of the binary, that `nobody` can use.
fn of_nobody() -> Fleet {
    let fleet = Fleet::new();
    copy_program(env!("CARGO_BIN_EXE_certwell-issuer"), fleet.path("issuer"));
    fs::set_permissions(fleet.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    if geteuid().is_root() {
        chown(fleet.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fleet
}

/// The command as `nobody`; where the test isn't root's, as whoever runs it.
fn as_nobody(fleet: &Fleet, words: &[&str]) -> Command {
    let mut command = Command::new(fleet.path("issuer"));
    command
        .args(["--config", fleet.path("etc/issuer.toml").to_str().unwrap()])
        .args(words)
        .env_remove("CREDENTIALS_DIRECTORY")
        .current_dir(fleet.path(""));
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let mut tries = 0;
    while !is() {
        tries += 1;
        assert!(tries < 500, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whose the files below `/proc/PID` are.
fn owner(child: &Child) -> u32 {
    fs::metadata(format!("/proc/{}/environ", child.id()))
        .unwrap()
        .uid()
}

#[test]
fn neither_init_nor_serve_can_be_dumped_or_looked_into_and_both_work_without_root() {
    let fleet = of_nobody();
    let socket = fleet.path("admin.sock");
    let mut words = fleet.init_arguments();
    words.extend(["--admin-socket".to_owned(), socket.display().to_string()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();

    // Held where it shows the recovery key: in a pipe that is full.
    let (mut reader, mut full) = io::pipe().unwrap();
    let capacity = fcntl(&full, FcntlArg::F_GETPIPE_SZ).unwrap();
    full.write_all(&vec![b'.'; usize::try_from(capacity).unwrap()])
        .unwrap();
    let mut command = as_nobody(&fleet, &words);
    command.stdout(full).stderr(Stdio::null());
    let mut init = command.spawn().unwrap();
    drop(command);
    let made = fleet.path("state/certwell.db");
    eventually("init", || made.exists());
    assert_eq!(owner(&init), 0, "init");
    let mut shown = Vec::new();
    io::Read::read_to_end(&mut reader, &mut shown).unwrap();
    assert!(init.wait().unwrap().success());
    assert!(String::from_utf8_lossy(&shown).contains("This recovery key is shown only now"));

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let listen = format!("listen = [\"{}\"]", free.unwrap());
    fleet.set("listen = [\"127.0.0.1:7443\"]", &listen);
    let mut serve = as_nobody(&fleet, &["serve"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("serve", || UnixStream::connect(&socket).is_ok());
    let owner = owner(&serve);
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert_eq!(owner, 0, "serve");
}
