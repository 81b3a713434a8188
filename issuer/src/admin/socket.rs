//! The Unix socket: who may use it is decided by the kernel's word on the peer (root, the daemon's own user, and
//! members of one group).

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::UnixListener;
use tonic::{Request, Status, service::Interceptor, transport::server::UdsConnectInfo};

/// The group that may use the socket unless `admin-group` names another, where the machine has it.
pub const DEFAULT_GROUP: &str = "certwell";

/// The socket can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("another process listens on {0}; stop it, or set another `admin-socket`")]
    InUse(PathBuf),
    /// Something that isn't a socket is in its place.
    #[error("{0} exists and is not a socket; move it away, or set another `admin-socket`")]
    Foreign(PathBuf),
    /// No such group.
    #[error("there is no group {0:?} (admin-group); create it, or remove the setting")]
    Group(String),
    /// The file system refuses.
    #[error("the socket {path} can't be made: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The group that may use the socket: the one that `admin-group` names, or else [`DEFAULT_GROUP`] if there is one.
///
/// # Errors
/// When there is no group of the name that is set.
pub fn group(named: Option<&str>) -> Result<Option<Group>, SocketError> {
    named_or(named, DEFAULT_GROUP)
}

fn named_or(named: Option<&str>, default: &str) -> Result<Option<Group>, SocketError> {
    match (
        Group::from_name(named.unwrap_or(default)).ok().flatten(),
        named,
    ) {
        (None, Some(named)) => Err(SocketError::Group(named.to_owned())),
        (group, _) => Ok(group),
    }
}

/// Listens on `path`, for root and this group, replacing a socket that nobody listens on any more.
///
/// # Errors
/// When it is in use, in the way of something else, or can't be made.
pub fn listen(path: &Path, group: Option<Group>) -> Result<(UnixListener, Allowed), SocketError> {
    let io = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    if let Ok(there) = fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt as _;
        if !there.file_type().is_socket() {
            return Err(SocketError::Foreign(path.to_owned()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(SocketError::InUse(path.to_owned()));
        }
        fs::remove_file(path).map_err(io)?;
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io)?;
    if let Some(group) = &group {
        chown(path, None, Some(group.gid.as_raw())).map_err(io)?;
    }
    let group = group.map(|group| group.gid);
    Ok((listener, Allowed { group }))
}

/// Who may call.
#[derive(Debug, Clone)]
pub struct Allowed {
    group: Option<Gid>,
}

impl Allowed {
    fn check(&self, uid: Uid, gid: Gid) -> bool {
        if uid.is_root() || uid == Uid::effective() {
            return true;
        }
        self.group
            .is_some_and(|allowed| gid == allowed || is_member(uid, allowed).unwrap_or_default())
    }
}

/// The kernel tells the primary group alone, hence the list; it is read each time, for members come and go.
fn is_member(uid: Uid, group: Gid) -> nix::Result<bool> {
    let (Some(user), Some(group)) = (User::from_uid(uid)?, Group::from_gid(group)?) else {
        return Ok(false);
    };
    Ok(group.mem.contains(&user.name))
}

impl Interceptor for Allowed {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let credentials = request
            .extensions()
            .get::<UdsConnectInfo>()
            .and_then(|info| info.peer_cred);
        let allowed = credentials
            .is_some_and(|peer| self.check(Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid())));
        if allowed {
            Ok(request)
        } else {
            Err(Status::permission_denied(
                "only root, and members of the group that admin-group names (default certwell), may use this socket",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_kept_out_and_group_members_let_in() {
        let allowed = Allowed {
            group: Some(Gid::from_raw(4_242)),
        };
        assert!(allowed.check(Uid::from_raw(0), Gid::from_raw(0)));
        assert!(allowed.check(Uid::from_raw(60_000), Gid::from_raw(4_242)));
        assert!(!allowed.check(Uid::from_raw(60_000), Gid::from_raw(60_000)));
        assert!(!Allowed { group: None }.check(Uid::from_raw(60_000), Gid::from_raw(4_242)));
    }

    #[test]
    fn a_call_whose_caller_is_not_known_is_refused() {
        let group = Some(Gid::effective());
        let refused = Allowed { group }.call(Request::new(())).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    }

    #[tokio::test]
    async fn a_socket_with_a_group_is_that_groups_and_nobody_elses() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let own = Group::from_gid(Gid::effective()).unwrap().unwrap();
        let (_listener, allowed) = listen(&path, Some(own.clone())).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!((made.mode() & 0o777, made.gid()), (0o660, own.gid.as_raw()));
        assert!(allowed.check(Uid::from_raw(60_000), own.gid));
    }

    #[test]
    fn without_a_named_group_the_default_one_is_taken_where_it_exists() {
        let own = Group::from_gid(Gid::effective()).unwrap().unwrap();
        let gid = |named, default| named_or(named, default).unwrap().map(|group| group.gid);
        let nowhere = "no-such-group-here";
        assert_eq!(gid(Some(&own.name), nowhere), Some(own.gid));
        assert_eq!(gid(None, &own.name), Some(own.gid));
        assert_eq!(gid(None, nowhere), None);
        let unknown = named_or(Some(nowhere), &own.name);
        assert!(matches!(unknown, Err(SocketError::Group(name)) if name == nowhere));
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let (first, _) = listen(&path, None).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(matches!(listen(&path, None), Err(SocketError::InUse(_))));
        drop(first);
        assert!(listen(&path, None).is_ok());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path, None), Err(SocketError::Foreign(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
