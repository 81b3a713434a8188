//! What nginx's workers may read: certificates by variable are opened by them, not by the master.

use std::{
    ffi::CString,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::{
    links,
    servers::{Place, WorkerUser},
};
use crate::disk;

/// Set by `setfacl`; what it grants isn't in the mode.
const ACL: &str = "system.posix_acl_access";

/// Whom the kernel takes a process for when it opens files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    user: u32,
    /// The first is its own.
    groups: Vec<u32>,
}

impl Rights {
    /// Of a process; `None` when it has ended.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::read(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// Of an account that a process is started for; `None` when this system doesn't know it.
    pub(crate) fn of_user(user: &WorkerUser) -> Option<Self> {
        let account = User::from_name(&user.name).ok().flatten()?;
        let group = |name: &str| Group::from_name(name).ok().flatten();
        let own = match &user.group {
            Some(name) => group(name),
            // Debian's `nobody` has no group of its name.
            None => group(&user.name).or_else(|| group("nogroup")),
        }?;
        let name = CString::new(user.name.as_str()).ok()?;
        let others = getgrouplist(&name, own.gid).unwrap_or_default();
        let groups = [own.gid].into_iter().chain(others);
        Some(Self {
            user: account.uid.as_raw(),
            groups: groups.map(Gid::as_raw).collect(),
        })
    }

    fn read(status: &str) -> Option<Self> {
        let numbers = |key: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace()
                .map(|word| word.parse().ok())
                .collect()
        };
        // Real, effective, saved, and that for files.
        let user = *numbers("Uid:")?.get(3)?;
        let own = *numbers("Gid:")?.get(3)?;
        let groups = [own].into_iter().chain(numbers("Groups:")?).collect();
        Some(Self { user, groups })
    }

    /// The user's name, or its number.
    pub(crate) fn user(&self) -> String {
        let known = User::from_uid(Uid::from_raw(self.user)).ok().flatten();
        known.map_or_else(|| self.user.to_string(), |user| user.name)
    }

    /// The name of its own group, if there is one.
    pub(crate) fn group(&self) -> Option<String> {
        let own = Gid::from_raw(*self.groups.first()?);
        Some(Group::from_gid(own).ok().flatten()?.name)
    }

    /// Whether it reads what the agent stages with these permissions.
    pub(crate) fn reads_files_of(&self, staged: disk::Permissions) -> bool {
        self.user == 0
            || staged
                .group()
                .is_some_and(|group| self.groups.contains(&group))
    }

    /// The file or directory that keeps it from reading `path`, links followed; `None` when nothing does, as far as
    /// modes tell.
    pub(crate) fn kept_from(&self, path: &Path) -> Option<PathBuf> {
        let way = links::way(path);
        let last = way.last().map_or(path, PathBuf::as_path);
        // Of each step up to its first link: what that leads to is the next step.
        let directories = [path].into_iter().chain(way.iter().map(PathBuf::as_path));
        let directories = directories.flat_map(|step| {
            let mut above: Vec<&Path> = step.ancestors().skip(1).collect();
            above.reverse();
            above
                .into_iter()
                .take_while(|directory| !directory.is_symlink())
        });
        directories
            .map(|directory| (directory, 0o1))
            .chain([(last, 0o4)])
            .find(|(step, wanted)| {
                fs::metadata(step).is_ok_and(|meta| !self.may(step, &meta, *wanted))
            })
            .map(|(step, _)| step.to_owned())
    }

    /// The sentence for a person: the server block at `at` has them read `path`, and they may not. `None` when they
    /// may. `state_directory` is the agent's, whose modes follow its settings.
    pub(crate) fn closed(&self, path: &Path, at: &Place, state_directory: &Path) -> Option<String> {
        let closed = self.kept_from(path)?;
        let remedy = match self.group() {
            Some(group) if closed.starts_with(state_directory) => format!(
                "set file-group = {group:?} in agent.toml, or another group of that user, and restart the agent"
            ),
            _ => "open it to that user".to_owned(),
        };
        Some(format!(
            "nginx's workers (user {}) can't read {}, which the server block at {at} has them do at each handshake: {} \
             is closed to them; {remedy}",
            self.user(),
            path.display(),
            closed.display(),
        ))
    }

    fn may(&self, path: &Path, meta: &Metadata, wanted: u32) -> bool {
        let shift = if self.user == meta.uid() {
            6
        } else if self.groups.contains(&meta.gid()) {
            3
        } else {
            0
        };
        let by_mode = self.user == 0 || (meta.mode() >> shift) & wanted == wanted;
        by_mode || rustix::fs::getxattr(path, ACL, &mut [0_u8; 0]).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_process_is_taken_for_its_file_system_user_and_all_its_groups() {
        let status =
            "Name:\tnginx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nVmPeak:\t1 kB\n";
        let rights = Rights::read(status).unwrap();
        assert_eq!((rights.user, rights.groups), (4, vec![8, 9, 10]));
        assert_eq!(Rights::read("Uid:\t1\n"), None);
        assert!(Rights::of(std::process::id() as i32).is_some());
    }

    #[test]
    fn an_account_has_its_own_group_or_the_one_that_is_named_and_those_that_it_is_in() {
        let of = |name: &str, group: Option<&str>| {
            Rights::of_user(&WorkerUser {
                name: name.into(),
                group: group.map(str::to_owned),
            })
        };
        let root = of("root", None).unwrap();
        assert_eq!((root.user, root.groups[0]), (0, 0));
        let daemons = of("root", Some("daemon")).unwrap().groups;
        assert_ne!(daemons[0], 0);
        assert_eq!(of("nobody-of-this-host", None), None);
    }

    #[test]
    fn the_first_thing_in_the_way_is_named_also_behind_links() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&root, 0o755);
        fs::create_dir_all(root.join("store/7")).unwrap();
        let file = root.join("store/7/f.pem");
        fs::write(&file, "").unwrap();
        symlink(root.join("store/7"), root.join("live")).unwrap();
        let meta = fs::metadata(&file).unwrap();
        let stranger = Rights {
            user: meta.uid() + 4_711,
            groups: vec![meta.gid() + 4_711],
        };
        let grouped = Rights {
            groups: vec![meta.gid() + 4_711, meta.gid()],
            ..stranger.clone()
        };
        let by_link = root.join("live/f.pem");
        for (store, at_file, of_stranger, of_grouped) in [
            (0o755, 0o644, None, None),
            (
                0o700,
                0o644,
                Some(root.join("store")),
                Some(root.join("store")),
            ),
            (0o750, 0o640, Some(root.join("store")), None),
            (0o755, 0o640, Some(file.clone()), None),
        ] {
            mode(&root.join("store"), store);
            mode(&file, at_file);
            assert_eq!(stranger.kept_from(&by_link), of_stranger, "{store:o}");
            assert_eq!(grouped.kept_from(&by_link), of_grouped, "{store:o}");
        }
        let owner = Rights {
            user: meta.uid(),
            groups: Vec::new(),
        };
        mode(&root.join("store"), 0o700);
        assert_eq!(owner.kept_from(&by_link), None);
    }
}
