//! Whether this machine can boot whole Debian hosts.

use std::{
    io::{self, Write as _},
    path::Path,
};

use nix::unistd::geteuid;

/// What stands in the way, in words; nothing when all is there.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !geteuid().is_root() {
        missing.push("root's rights".to_owned());
    }
    for (program, package) in [
        ("systemd-nspawn", "systemd-container"),
        ("mmdebstrap", "mmdebstrap"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
    ] {
        if !in_path(program) {
            missing.push(format!("{program} (Debian's package {package})"));
        }
    }
    if !Path::new("/proc/self/ns/net").exists() {
        missing.push("network namespaces in this kernel".to_owned());
    }
    missing
}

/// Whether it can; where it can't, says aloud that `test` is skipped, and why.
pub fn or_skip(test: &str) -> bool {
    let missing = missing();
    if !missing.is_empty() {
        // Written, not printed: what a passing test prints is shown to nobody.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: {test}: it boots whole Debian hosts; missing: {}",
            missing.join(", ")
        );
    }
    missing.is_empty()
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).exists())
}
