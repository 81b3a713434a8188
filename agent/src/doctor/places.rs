//! The directories that the agent writes in, step by step as the kernel goes there.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use nix::unistd::Uid;
use rustix::{
    fs::{CWD, Mode, OFlags, openat, statvfs},
    io::Errno,
};

use super::absolute;
use crate::{
    config::Config,
    disk::durable::parent,
    plan::doctor::disk::{Entry, Place, Space, Step, Trial},
};

/// As many links as the kernel follows.
const LINKS: usize = 40;

pub(super) fn gather(config: &Config) -> Vec<Place> {
    let mut found = vec![
        look(&config.state_directory, "the state directory", true),
        look(&config.live_directory, "the live directory", true),
    ];
    if config.exec.is_none() {
        let map = parent(&config.nginx.challenge_map);
        found.push(look(map, "the challenge map's directory", false));
    }
    found
}

fn look(path: &Path, role: &'static str, is_made: bool) -> Place {
    let path = absolute(path);
    let (entry, way) = walk(&path);
    let tried = match &entry {
        Entry::Directory => Some(path.clone()),
        Entry::Missing { nearest } => Some(nearest.clone()),
        _ => None,
    };
    Place {
        trial: tried.as_deref().map_or(Trial::Untried, try_writing),
        space: tried.as_deref().and_then(space),
        path,
        role,
        is_made,
        entry,
        way,
    }
}

/// What lies there, and every directory and link on the way.
fn walk(path: &Path) -> (Entry, Vec<Step>) {
    let mut way = Vec::new();
    let mut here = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = components(path);
    // The link that is being followed, where it leads, and how much is left once it is followed.
    let mut following: Option<(PathBuf, PathBuf, usize)> = None;
    let mut links = 0;
    if let Ok(meta) = fs::symlink_metadata(&here) {
        way.push(step(&here, &meta));
    }
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let meta = match fs::symlink_metadata(&next) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let entry = match following {
                    Some((link, target, left)) if ahead.len() >= left => {
                        Entry::Dangling { link, target }
                    }
                    _ => Entry::Missing { nearest: here },
                };
                return (entry, way);
            }
            Err(error) => return (Entry::Unknown(error.to_string()), way),
        };
        if meta.is_symlink() {
            way.push(step(&next, &meta));
            links += 1;
            let target = match fs::read_link(&next) {
                Ok(target) if links <= LINKS => target,
                Ok(_) => return (Entry::Unknown("too many links".to_owned()), way),
                Err(error) => return (Entry::Unknown(error.to_string()), way),
            };
            let left = ahead.len();
            let mut first = components(&target);
            first.append(&mut ahead);
            ahead = first;
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            following = Some((next, target, left));
        } else if meta.is_dir() {
            way.push(step(&next, &meta));
            here = next;
        } else {
            return (Entry::NotDirectory(next), way);
        }
    }
    (Entry::Directory, way)
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn step(path: &Path, meta: &fs::Metadata) -> Step {
    Step {
        path: path.to_owned(),
        is_link: meta.is_symlink(),
        user: meta.uid(),
        group: meta.gid(),
        mode: meta.mode() & 0o7777,
    }
}

/// Writes a file that never has a name, so that nothing is left whatever happens.
pub fn try_writing(directory: &Path) -> Trial {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let opened = openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR);
    let written = opened
        .map_err(io::Error::from)
        .and_then(|file| fs::File::from(file).write_all(&[0; 4096]));
    let Err(error) = written else {
        return Trial::Passed;
    };
    match Errno::from_io_error(&error) {
        Some(Errno::ROFS) => Trial::ReadOnly,
        Some(Errno::NOSPC | Errno::DQUOT) => Trial::Full,
        Some(Errno::ACCESS | Errno::PERM) => Trial::Denied(error.to_string()),
        // The file system has no files without names.
        Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => Trial::Untried,
        _ => Trial::Failed(error.to_string()),
    }
}

fn space(directory: &Path) -> Option<Space> {
    let found = statvfs(directory).ok()?;
    let root = Uid::effective().is_root();
    let (blocks, inodes) = if root {
        (found.f_bfree, found.f_ffree)
    } else {
        (found.f_bavail, found.f_favail)
    };
    Some(Space {
        bytes: blocks.saturating_mul(found.f_frsize),
        inodes: (found.f_files > 0).then_some(inodes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_step_is_seen_and_what_is_in_the_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(root.join("real/deep")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink("nowhere/below", root.join("dangling")).unwrap();
        symlink("gone", root.join("short")).unwrap();
        symlink("loop", root.join("loop")).unwrap();

        let (entry, way) = walk(&root.join("link/deep"));
        assert_eq!(entry, Entry::Directory);
        let names: Vec<_> = way
            .iter()
            .rev()
            .take(3)
            .map(|step| step.path.clone())
            .collect();
        assert_eq!(
            names,
            [root.join("real/deep"), root.join("real"), root.join("link")]
        );
        assert!(way[way.len() - 3].is_link && way[0].path == Path::new("/"));

        for (path, expected) in [
            (
                "real/none/more",
                Entry::Missing {
                    nearest: root.join("real"),
                },
            ),
            (
                "link/none",
                Entry::Missing {
                    nearest: root.join("real"),
                },
            ),
            ("file/x", Entry::NotDirectory(root.join("file"))),
            (
                "short",
                Entry::Dangling {
                    link: root.join("short"),
                    target: "gone".into(),
                },
            ),
            (
                "dangling",
                Entry::Dangling {
                    link: root.join("dangling"),
                    target: "nowhere/below".into(),
                },
            ),
            (
                "dangling/x",
                Entry::Dangling {
                    link: root.join("dangling"),
                    target: "nowhere/below".into(),
                },
            ),
            ("loop", Entry::Unknown("too many links".to_owned())),
            ("real/../file", Entry::NotDirectory(root.join("file"))),
        ] {
            assert_eq!(walk(&root.join(path)).0, expected, "{path}");
        }
        assert_eq!(try_writing(&root), Trial::Passed);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 6, "nothing is left");
        assert!(space(&root).unwrap().bytes > 0);
    }
}
