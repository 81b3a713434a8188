//! A file is replaced whole: owner, mode and extended attributes stay, a half-written one is never seen.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
    time::SystemTime,
};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};

use crate::disk::{
    durable::{DiskError, parent, sync_directory},
    permissions::make_public_directory,
};

/// Of a new file, which operators read.
const NEW_MODE: u32 = 0o644;
/// Extended attributes are small: labels and access lists.
const ATTRIBUTES: usize = 64 * 1024;

/// Replaces a file by one with this content and all else that it had. A leading dot keeps what is half written out of
/// nginx's patterns.
pub(super) fn write(
    path: &Path,
    bytes: &[u8],
    modified: Option<SystemTime>,
) -> Result<(), DiskError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent(path).join(format!(".{name}.certwell-new"));
    let written = fill(path, &beside, bytes, modified)
        .map_err(DiskError::about("writing", &beside))
        .and_then(|()| fs::rename(&beside, path).map_err(DiskError::about("replacing", path)));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
        return written;
    }
    sync_directory(parent(path))
}

fn fill(path: &Path, beside: &Path, bytes: &[u8], modified: Option<SystemTime>) -> io::Result<()> {
    make_public_directory(parent(path)).map_err(|error| error.source)?;
    let _ = fs::remove_file(beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)?;
    file.write_all(bytes)?;
    match File::open(path) {
        Ok(old) => {
            let meta = old.metadata()?;
            let new = file.metadata()?;
            if (meta.uid(), meta.gid()) != (new.uid(), new.gid()) {
                fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(meta.mode() & 0o7777))?;
            copy_attributes(&old, &file)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            file.set_permissions(Permissions::from_mode(NEW_MODE))?;
        }
        Err(error) => return Err(error),
    }
    if let Some(modified) = modified {
        file.set_modified(modified)?;
    }
    file.sync_all()
}

/// Access lists and labels; a file system that has none is no reason to stop.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTES];
    let Ok(length) = flistxattr(from, &mut names[..]) else {
        return Ok(());
    };
    let mut value = vec![0; ATTRIBUTES];
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let size = fgetxattr(from, name, &mut value[..])?;
        match fsetxattr(to, name, &value[..size], XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
