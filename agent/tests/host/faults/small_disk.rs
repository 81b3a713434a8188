//! A file system of its own for what the agent writes: small, so that it can be filled, and mounted, so that it can be
//! made read-only. It takes root.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::host::Host;

/// The smallest unit of a tmpfs.
const PAGE: usize = 4096;

/// All is unmounted with it.
pub(crate) struct SmallDisk {
    root: PathBuf,
    mounts: Vec<PathBuf>,
}

fn mount(arguments: &[&OsStr]) -> bool {
    let output = Command::new("mount").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(path).status();
}

impl SmallDisk {
    /// The state and live directories of a host that nothing runs on yet move there. Nothing, and said so, where it
    /// can't be mounted.
    pub(crate) fn below(host: &Host) -> Option<Self> {
        let root = host.path("disk");
        fs::create_dir(&root).unwrap();
        let options = "size=1m,nr_inodes=200,mode=0755";
        let tmpfs = ["-t", "tmpfs", "-o", options, "certwell-test"].map(OsStr::new);
        if !mount(&[&tmpfs[..], &[root.as_os_str()]].concat()) {
            crate::world::skipped("no file system can be mounted here, which takes root");
            return None;
        }
        let mut disk = Self {
            mounts: vec![root.clone()],
            root,
        };
        for directory in ["state", "live"] {
            let (place, on_disk) = (host.path(directory), disk.root.join(directory));
            let copied = Command::new("cp")
                .arg("-a")
                .args([&place, &on_disk])
                .status();
            assert!(copied.unwrap().success());
            let bind = OsStr::new("--bind");
            assert!(mount(&[bind, on_disk.as_os_str(), place.as_os_str()]));
            disk.mounts.push(place);
        }
        Some(disk)
    }

    /// Takes all room but for so many pages.
    pub(crate) fn fill(&self, left: usize) {
        let mut file = File::create(self.root.join("filler")).unwrap();
        while file.write_all(&[0; PAGE]).is_ok() {}
        let full = file.metadata().unwrap().len() as usize / PAGE;
        file.set_len((full.saturating_sub(left) * PAGE) as u64)
            .unwrap();
    }

    /// Takes all inodes but for so many.
    pub(crate) fn use_up_inodes(&self, left: usize) {
        let directory = self.root.join("many");
        fs::create_dir(&directory).unwrap();
        let mut made = Vec::new();
        for number in 0.. {
            let path = directory.join(number.to_string());
            if File::create(&path).is_err() {
                break;
            }
            made.push(path);
        }
        for path in made.iter().rev().take(left) {
            fs::remove_file(path).unwrap();
        }
    }

    /// Gives back what was taken.
    pub(crate) fn make_room(&self) {
        let _ = fs::remove_file(self.root.join("filler"));
        let _ = fs::remove_dir_all(self.root.join("many"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        for mounted in self.mounts.iter().rev() {
            unmount(mounted);
        }
    }
}

/// A directory that is read-only as long as this lives, for those who come to it from now on.
pub(crate) struct ReadOnly(PathBuf);

impl ReadOnly {
    pub(crate) fn make(directory: PathBuf) -> Self {
        let path = directory.as_os_str();
        assert!(mount(&[OsStr::new("--bind"), path, path]));
        let options = ["-o", "remount,ro,bind"].map(OsStr::new);
        assert!(mount(&[&options[..], &[path]].concat()));
        Self(directory)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}
