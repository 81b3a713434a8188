//! What is in the packages, and what lintian says of them.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::made::{BOTH, control, entries, package, run};

#[test]
fn lintian_finds_neither_errors_nor_warnings() -> Result<()> {
    for name in BOTH {
        let package = package(name)?.display().to_string();
        let arguments = ["--fail-on", "error,warning", "--tag-display-limit", "0"];
        run("lintian", arguments.into_iter().chain([package.as_str()]))?;
    }
    Ok(())
}

#[test]
fn each_override_of_lintian_carries_its_reason() -> Result<()> {
    for name in BOTH {
        let room = name.trim_start_matches("certwell-");
        let path = certwell_lab::paths::packaging()
            .join("debian")
            .join(room)
            .join("lintian-overrides");
        let text = std::fs::read_to_string(path)?;
        let mut before = "";
        for line in text.lines() {
            ensure!(
                line.starts_with('#') || before.starts_with('#'),
                "no reason before {line:?}"
            );
            before = line;
        }
    }
    Ok(())
}

#[test]
fn a_person_s_files_are_conffiles_and_nothing_that_a_daemon_rewrites_is() -> Result<()> {
    let lines = |name| Ok::<_, anyhow::Error>(control(name, "conffiles")?.trim().to_owned());
    assert_eq!(lines("certwell-agent")?, "/etc/certwell/agent.toml");
    assert_eq!(lines("certwell-issuer")?, "/etc/certwell/conf.d/README");
    Ok(())
}

#[test]
fn all_that_a_package_should_bring_is_there_for_everybody_to_read_and_for_root_to_write()
-> Result<()> {
    let wanted: [(&str, &[&str]); 2] = [
        (
            "certwell-agent",
            &[
                "/usr/bin/certwell-agent",
                "/usr/lib/systemd/system/certwell-agent.service",
                "/usr/libexec/certwell-agent/back-off",
                "/usr/lib/tmpfiles.d/certwell-agent.conf",
                "/usr/share/bash-completion/completions/certwell-agent",
                "/usr/share/zsh/vendor-completions/_certwell-agent",
                "/usr/share/fish/vendor_completions.d/certwell-agent.fish",
                "/usr/share/man/man1/certwell-agent.1.gz",
                "/usr/share/man/man1/certwell-agent-enroll.1.gz",
                "/usr/share/doc/certwell-agent/changelog.gz",
                "/usr/share/doc/certwell-agent/changelog.Debian.gz",
                "/usr/share/doc/certwell-agent/copyright",
                "/usr/share/doc/certwell-agent/docs/operations.md",
                "/usr/share/certwell-agent/nginx/conf.d/certwell-acme.conf",
                "/usr/share/certwell-agent/nginx/snippets/certwell-acme.conf",
                "/usr/share/certwell-agent/nginx/certwell-port80.conf",
            ],
        ),
        (
            "certwell-issuer",
            &[
                "/usr/bin/certwell-issuer",
                "/usr/bin/certwell",
                "/usr/lib/systemd/system/certwell-issuer.service",
                "/usr/libexec/certwell-issuer/back-off",
                "/usr/lib/systemd/system/certwell-issuer-backup.service",
                "/usr/lib/systemd/system/certwell-issuer-backup.timer",
                "/usr/lib/sysusers.d/certwell-issuer.conf",
                "/usr/lib/tmpfiles.d/certwell-issuer.conf",
                "/usr/share/bash-completion/completions/certwell",
                "/usr/share/zsh/vendor-completions/_certwell-issuer",
                "/usr/share/fish/vendor_completions.d/certwell.fish",
                "/usr/share/man/man1/certwell.1.gz",
                "/usr/share/man/man1/certwell-issuer-init.1.gz",
                "/usr/share/man/man1/certwell-status.1.gz",
                "/usr/share/doc/certwell-issuer/examples/issuer.toml",
                "/usr/share/doc/certwell-issuer/examples/grafana/certwell.json",
                "/usr/share/doc/certwell-issuer/examples/prometheus/certwell.rules.yml",
                "/usr/share/doc/certwell-issuer/copyright",
                "/usr/share/doc/certwell-issuer/docs/cli.md",
                "/usr/share/doc/certwell-issuer/docs/metrics.md",
                "/usr/share/doc/certwell-issuer/docs/operations.md",
            ],
        ),
    ];
    for (name, wanted) in wanted {
        let entries = entries(name)?;
        for path in wanted {
            ensure!(
                entries.iter().any(|entry| entry.path == *path),
                "{name} has no {path}"
            );
        }
        for entry in &entries {
            let program = ["/usr/bin/", "/usr/libexec/"]
                .iter()
                .any(|directory| entry.path.starts_with(directory));
            let mode = match entry.path.ends_with('/') {
                true => "drwxr-xr-x",
                false if program => "-rwxr-xr-x",
                false => "-rw-r--r--",
            };
            ensure!(
                entry.mode == mode && ["0/0", "root/root"].contains(&&*entry.owner),
                "{entry:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn both_packages_can_be_installed_on_one_machine() -> Result<()> {
    let files = |name| {
        let paths = entries(name)?.into_iter().map(|entry| entry.path);
        Ok::<BTreeSet<String>, anyhow::Error>(paths.filter(|path| !path.ends_with('/')).collect())
    };
    let (agent, issuer) = (files("certwell-agent")?, files("certwell-issuer")?);
    assert_eq!(agent.intersection(&issuer).collect::<Vec<_>>(), [""; 0]);
    Ok(())
}

#[test]
fn the_agent_recommends_nginx_and_needs_no_newer_library_than_bookworm_s() -> Result<()> {
    let fields = control("certwell-agent", "control")?;
    ensure!(
        fields.lines().any(|line| line == "Recommends: nginx"),
        "{fields}"
    );
    for name in BOTH {
        let fields = control(name, "control")?;
        let depends = fields
            .lines()
            .find(|line| line.starts_with("Depends:"))
            .unwrap_or_default();
        println!("{name}: {depends}");
        ensure!(depends.contains("libc6 (>= 2."), "{fields}");
        // OpenSSL's and SQLite's names differ between releases: both are built in.
        ensure!(
            !["libssl", "libsqlite", "t64"]
                .iter()
                .any(|library| depends.contains(library)),
            "{fields}"
        );
    }
    Ok(())
}
