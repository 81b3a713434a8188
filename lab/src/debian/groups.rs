//! Control groups of the hosts: nspawn makes them, and nobody else removes them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// In each hierarchy that there may be.
fn all() -> impl Iterator<Item = PathBuf> {
    let at = |hierarchy: &str| {
        Path::new("/sys/fs/cgroup")
            .join(hierarchy)
            .join("certwell-lab")
    };
    ["", "unified", "systemd"].map(at).into_iter()
}

/// Removes those of one host, which has ended.
pub(super) fn remove_of(host: &str) {
    for groups in all() {
        remove(&groups.join(host));
    }
}

/// Removes those of hosts whose nspawn has ended, a killed run's among them.
pub fn remove_left() {
    for groups in all() {
        for entry in fs::read_dir(groups).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let nspawn = name.rsplit_once('-').map(|(_, pid)| pid.to_owned());
            if nspawn.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove(&entry.path());
            }
        }
    }
}

/// From the innermost outwards, as the kernel wants it. One that stays costs nothing.
fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
