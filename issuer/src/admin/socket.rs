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

/// Listens on `path`, replacing a socket that nobody listens on any more.
///
/// # Errors
/// When it is in use, in the way of something else, or can't be made.
pub fn listen(path: &Path, group: Option<&str>) -> Result<(UnixListener, Allowed), SocketError> {
    let io = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    let group = group
        .map(|name| match Group::from_name(name) {
            Ok(Some(group)) => Ok(group),
            _ => Err(SocketError::Group(name.to_owned())),
        })
        .transpose()?;
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
    Ok((
        listener,
        Allowed {
            group: group.map(|g| (g.gid, g.mem)),
        },
    ))
}

/// Who may call.
#[derive(Debug, Clone)]
pub struct Allowed {
    group: Option<(Gid, Vec<String>)>,
}

impl Allowed {
    fn check(&self, uid: Uid, gid: Gid) -> bool {
        if uid.is_root() || uid == Uid::effective() {
            return true;
        }
        self.group.as_ref().is_some_and(|(allowed, members)| {
            gid == *allowed
                || matches!(User::from_uid(uid), Ok(Some(user)) if members.contains(&user.name))
        })
    }
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
                "only root and members of the admin group may use this socket",
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
            group: Some((Gid::from_raw(4_242), vec!["daemon".into()])),
        };
        assert!(allowed.check(Uid::from_raw(0), Gid::from_raw(0)));
        assert!(allowed.check(Uid::from_raw(60_000), Gid::from_raw(4_242)));
        assert!(!allowed.check(Uid::from_raw(60_000), Gid::from_raw(60_000)));
        // `daemon` is user 1 on every Debian system.
        assert!(allowed.check(Uid::from_raw(1), Gid::from_raw(1)));
        assert!(!Allowed { group: None }.check(Uid::from_raw(60_000), Gid::from_raw(4_242)));
    }

    #[test]
    fn a_call_whose_caller_is_not_known_is_refused() {
        let group = Some((Gid::effective(), Vec::new()));
        let refused = Allowed { group }.call(Request::new(())).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    }

    #[tokio::test]
    async fn a_socket_with_a_group_is_that_groups_and_nobody_elses() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let own = Group::from_gid(Gid::effective()).unwrap().unwrap();
        let (_listener, allowed) = listen(&path, Some(&own.name)).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!((made.mode() & 0o777, made.gid()), (0o660, own.gid.as_raw()));
        assert!(allowed.check(Uid::from_raw(60_000), own.gid));
        let unknown = listen(&path, Some("no-such-group-here"));
        assert!(matches!(unknown, Err(SocketError::Group(_))));
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
