//! Files that are whole and on disk, or aren't there.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::errno::Errno;

/// A step on disk that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path} failed: {source}{}", hint(.source), path = .path.display())]
pub struct DiskError {
    /// Such as "writing".
    pub what: &'static str,
    /// What it was about.
    pub path: PathBuf,
    /// The system's words.
    pub source: io::Error,
}

/// What to do about it, to follow the system's words.
pub(crate) fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run it as root, and see whether the unit (ReadWritePaths=) or AppArmor keeps it from there"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there: df -h and df -i tell what is used up"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount it writable again (dmesg tells why it isn't), or let the unit write there (ReadWritePaths=)"
        }
        _ if source.raw_os_error() == Some(Errno::EIO as i32) => {
            "; see dmesg, the disk may be failing"
        }
        _ => "",
    }
}

impl DiskError {
    /// For `map_err`.
    pub fn about<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self {
            what,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the disk is full, or its quota used up.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Creates a file that isn't there yet, with exactly this mode whatever the umask, without forcing it to disk.
///
/// # Errors
/// When it exists, or can't be written.
pub fn create(path: &Path, content: &[u8], mode: u32) -> Result<File, DiskError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(DiskError::about("creating", path))?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(DiskError::about("setting the mode of", path))?;
    file.write_all(content)
        .map_err(DiskError::about("writing", path))?;
    Ok(file)
}

/// Replaces `path` by a file with this content: written beside it, forced to disk, renamed over it.
///
/// # Errors
/// When any step fails; `path` is then as it was.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), DiskError> {
    let parent = parent(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.new"));
    remove_if_there(&temporary)?;
    let written = create(&temporary, content, mode)
        .and_then(|file| {
            file.sync_all()
                .map_err(DiskError::about("writing", &temporary))
        })
        .and_then(|()| {
            std::fs::rename(&temporary, path).map_err(DiskError::about("replacing", path))
        });
    if written.is_err() {
        // The first error is the one to tell; the leftover is removed at the next attempt at the latest.
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    sync_directory(parent)
}

/// Replaces `path` whole, without forcing it to disk: for what can be made anew.
///
/// # Errors
/// When it can't be written; `path` is then as it was.
pub fn replace_lightly(path: &Path, content: &[u8], mode: u32) -> Result<(), DiskError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent(path).join(format!(".{name}.new"));
    remove_if_there(&temporary)?;
    let written = create(&temporary, content, mode).and_then(|_| {
        std::fs::rename(&temporary, path).map_err(DiskError::about("replacing", path))
    });
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Forces a directory's entries to disk.
///
/// # Errors
/// When it can't be opened or forced.
pub fn sync_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(DiskError::about("forcing to disk", path))
}

/// Removes a file or link, if there is one.
///
/// # Errors
/// When it is there and stays.
pub fn remove_if_there(path: &Path) -> Result<(), DiskError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError {
            what: "removing",
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Removes a directory with all it holds, or what else has its name, if there is one.
///
/// # Errors
/// When it is there and stays.
pub fn remove_directory_if_there(path: &Path) -> Result<(), DiskError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => remove_if_there(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError {
            what: "removing",
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// The directory that holds `path`.
pub fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
