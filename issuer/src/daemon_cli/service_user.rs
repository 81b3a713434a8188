//! What root checks is judged as the service will judge it: its user may read less than root, and what belongs to that
//! user isn't a stranger's.

use std::{ffi::CString, io, os::unix::fs::MetadataExt as _, path::Path};

use nix::unistd::{Gid, Uid, User, getgroups, initgroups, setegid, seteuid, setgroups};

/// Looks with the rights of the user whom the state directory belongs to; where that is root, or this process isn't
/// root's, with its own. Only for a process of one thread: rights are the whole process's.
///
/// # Errors
/// When that user can't be taken on, or left again.
pub(super) fn as_service<T>(state_directory: &Path, look: impl FnOnce() -> T) -> io::Result<T> {
    let service = match std::fs::metadata(state_directory) {
        Ok(meta) if Uid::effective().is_root() && meta.uid() != 0 => meta,
        _ => return Ok(look()),
    };
    let (group, groups) = (Gid::effective(), getgroups()?);
    let uid = Uid::from_raw(service.uid());
    match User::from_uid(uid)? {
        Some(user) => {
            initgroups(&CString::new(user.name)?, user.gid)?;
            setegid(user.gid)?;
        }
        None => {
            let theirs = Gid::from_raw(service.gid());
            setgroups(&[theirs])?;
            setegid(theirs)?;
        }
    }
    seteuid(uid)?;
    let seen = look();
    seteuid(Uid::from_raw(0))?;
    setegid(group)?;
    setgroups(&groups)?;
    Ok(seen)
}
