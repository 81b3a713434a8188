//! Files that a verb makes: removed again when a later step fails, and handed to whom their directory belongs.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2},
};

use crate::store::sqlite::DATABASE;

/// A file or directory isn't made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Something is there.
    #[error(
        "{path} exists already, and nothing is overwritten; this fleet may be set up, else move it away"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses.
    #[error(
        "can't make {path}; check that the directory above it is there and may be written by this user, and that \
         its disk isn't full"
    )]
    Make {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// Gives the files in a directory to whom the directory belongs: root sets up what another user is going to run.
///
/// # Errors
/// When the system refuses.
pub(crate) fn hand_over(directory: &Path) -> Result<(), MakeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| MakeError::Make { path, source }
    };
    let owner = fs::metadata(directory).map_err(failed(directory))?;
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let metadata = path.symlink_metadata().map_err(failed(&path))?;
        let foreign = (metadata.uid(), metadata.gid()) != (owner.uid(), owner.gid());
        if metadata.is_file() && foreign {
            give(&path, &owner).map_err(failed(&path))?;
        }
    }
    Ok(())
}

/// Gives one file or directory to an owner: itself, whatever the path leads to meanwhile, and no file that has another
/// name elsewhere.
pub(crate) fn give(path: &Path, owner: &fs::Metadata) -> io::Result<()> {
    give_below(path, owner, 0)
}

/// Likewise with what lies in it, so many directories down. A link is nobody's to give.
pub(crate) fn give_below(path: &Path, owner: &fs::Metadata, depth: u32) -> io::Result<()> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    let opened = match opened {
        Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => return Ok(()),
        opened => opened?,
    };
    let present = opened.metadata()?;
    let only_here = present.is_file() && present.nlink() == 1;
    let foreign = (present.uid(), present.gid()) != (owner.uid(), owner.gid());
    if foreign && (only_here || present.is_dir()) {
        fchown(&opened, Some(owner.uid()), Some(owner.gid()))?;
    }
    if present.is_dir() && depth > 0 {
        // By what was opened: the path may be another's by now.
        let inside = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        for entry in fs::read_dir(inside)? {
            give_below(&entry?.path(), owner, depth - 1)?;
        }
    }
    Ok(())
}

/// What this run made, removed again in reverse order unless it is kept.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    made: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    File(PathBuf),
    Directory(PathBuf),
    Tree(PathBuf),
}

impl Undo {
    /// Makes a directory, and those above it, where they are missing.
    pub(crate) fn directory(&mut self, path: &Path, mode: u32) -> Result<(), MakeError> {
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        for (left, path) in missing.iter().enumerate().rev() {
            // Those above are for everybody's files.
            let mode = if left == 0 { mode } else { 0o755 };
            DirBuilder::new()
                .mode(mode)
                .create(path)
                .map_err(|source| MakeError::Make {
                    path: path.to_path_buf(),
                    source,
                })?;
            self.made.push(Step::Directory(path.to_path_buf()));
        }
        Ok(())
    }

    /// Makes a file, whole or not at all, and on disk when this returns.
    pub(crate) fn file(&mut self, path: &Path, content: &[u8], mode: u32) -> Result<(), MakeError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => MakeError::Exists {
                path: path.to_owned(),
            },
            _ => MakeError::Make {
                path: path.to_owned(),
                source,
            },
        };
        let new = path.with_file_name(format!(
            ".{}.new",
            path.file_name().unwrap_or_default().to_string_lossy()
        ));
        // Of a run that was killed.
        let _ = fs::remove_file(&new);
        self.made.push(Step::File(new.clone()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)
            .map_err(failed)?;
        file.write_all(content)
            .and_then(|()| file.sync_all())
            .and_then(|()| name(&new, path))
            .map_err(failed)?;
        self.made.push(Step::File(path.to_owned()));
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(failed)
    }

    /// A directory that is going to be made, with all that will be in it.
    pub(crate) fn tree(&mut self, path: &Path) {
        self.made.push(Step::Tree(path.to_owned()));
    }

    /// A file that somebody else is going to make.
    pub(crate) fn made(&mut self, path: &Path) {
        self.made.push(Step::File(path.to_owned()));
    }

    /// The files of a store that this run made, whole or not.
    pub(crate) fn store(&mut self, directory: &Path) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            self.made
                .push(Step::File(directory.join(format!("{DATABASE}{suffix}"))));
        }
        self.made.push(Step::File(directory.join("lock")));
    }

    pub(crate) fn keep(mut self) {
        self.made.clear();
    }
}

/// Gives a file its name, unless something has it.
fn name(new: &Path, path: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, new, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE) {
        // The file system doesn't know it, as NFS: a second name is refused as well where there is a file.
        Err(Errno::EINVAL) => {
            fs::hard_link(new, path)?;
            fs::remove_file(new)
        }
        other => Ok(other?),
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for step in self.made.drain(..).rev() {
            // Best effort: the failure that led here is the one to be told.
            let _ = match step {
                Step::File(path) => fs::remove_file(path),
                Step::Directory(path) => fs::remove_dir(path),
                Step::Tree(path) => fs::remove_dir_all(path),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_another_name_elsewhere_is_given_to_nobody() {
        if !nix::unistd::geteuid().is_root() {
            let _ = io::stderr()
                .write_all(b"\nSKIPPED: whom files are given to; only root gives any\n");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let theirs = place.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(4_998), Some(4_998)).unwrap();
        let secret = place.path().join("secret");
        fs::write(&secret, "").unwrap();
        fs::hard_link(&secret, theirs.join("hard")).unwrap();
        std::os::unix::fs::symlink(&secret, theirs.join("soft")).unwrap();
        fs::write(theirs.join("plain"), "").unwrap();
        fs::create_dir(theirs.join("deep")).unwrap();
        fs::hard_link(&secret, theirs.join("deep/hard")).unwrap();
        fs::write(theirs.join("deep/plain"), "").unwrap();
        hand_over(&theirs).unwrap();
        let owner = |path: &Path| fs::metadata(path).unwrap().uid();
        assert_eq!((owner(&secret), owner(&theirs.join("plain"))), (0, 4_998));
        give_below(&theirs, &fs::metadata(&theirs).unwrap(), 2).unwrap();
        assert_eq!(
            (owner(&secret), owner(&theirs.join("deep/plain"))),
            (0, 4_998)
        );
    }
}
