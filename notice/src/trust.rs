//! Files that nobody but root and ourselves could have put there: programs that we run, secrets that we read.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid};

/// Why something on the way to a file, or the file itself, isn't trusted.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// Somebody else could change or exchange it.
    #[error("{path} {problem}; {remedy}", path = .path.display())]
    Untrusted {
        /// It, or a directory on the way to it.
        path: PathBuf,
        /// Such as "can be written by everybody".
        problem: String,
        /// A command.
        remedy: String,
    },
    /// The system doesn't let us look.
    #[error("looking at {path} failed: {source}", path = .path.display())]
    Unseen {
        /// What was looked at.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Distrust {
    fn unseen(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Unseen {
            path: path.to_owned(),
            source,
        }
    }

    fn untrusted(path: &Path, problem: String, remedy: String) -> Self {
        Self::Untrusted {
            path: path.to_owned(),
            problem,
            remedy,
        }
    }
}

/// Refuses a directory or file that somebody other than root and ourselves could write to.
///
/// # Errors
/// When it belongs to another user, or others may write in it.
pub fn check_directory(path: &Path) -> Result<(), Distrust> {
    let meta = std::fs::metadata(path).map_err(Distrust::unseen(path))?;
    let us = Uid::effective().as_raw();
    let shown = path.display();
    let untrusted = |problem, remedy| Distrust::untrusted(path, problem, remedy);
    if meta.uid() != us && meta.uid() != 0 {
        return Err(untrusted(
            format!("belongs to user {}", meta.uid()),
            format!("chown root {shown}"),
        ));
    }
    if meta.mode() & 0o002 != 0 {
        return Err(untrusted(
            "can be written by everybody".into(),
            format!("chmod o-w {shown}"),
        ));
    }
    // A user's own group is as good as the user, which is how many systems set their umask.
    let own_group = meta.gid() == 0 || meta.gid() == Gid::effective().as_raw();
    if meta.mode() & 0o020 != 0 && !own_group {
        return Err(untrusted(
            format!("can be written by group {}", meta.gid()),
            format!("chmod g-w {shown}"),
        ));
    }
    Ok(())
}

/// Refuses what somebody other than root and ourselves could change or exchange, on any way to it: the directories
/// above, the links among them, and where those lead.
///
/// # Errors
/// When one of them belongs to another user, or others may write in it.
pub fn check_way(path: &Path) -> Result<(), Distrust> {
    check_directory(path)?;
    let absolute = std::path::absolute(path).map_err(Distrust::unseen(path))?;
    let real = std::fs::canonicalize(path).map_err(Distrust::unseen(path))?;
    for way in [absolute, real] {
        for at in way.ancestors() {
            check_link(at)?;
            if let Some(above) = at.parent().filter(|above| !is_sticky(above)) {
                check_directory(above)?;
            }
        }
    }
    Ok(())
}

/// Whether only owners can rename and remove what lies there, as in `/tmp`.
fn is_sticky(directory: &Path) -> bool {
    let us = Uid::effective().as_raw();
    std::fs::metadata(directory)
        .is_ok_and(|meta| meta.mode() & 0o1000 != 0 && [0, us].contains(&meta.uid()))
}

/// In a sticky directory somebody else's link could lie on the way.
fn check_link(path: &Path) -> Result<(), Distrust> {
    let meta = std::fs::symlink_metadata(path).map_err(Distrust::unseen(path))?;
    if meta.is_symlink() && ![0, Uid::effective().as_raw()].contains(&meta.uid()) {
        return Err(Distrust::untrusted(
            path,
            format!("is a link of user {}", meta.uid()),
            format!("chown --no-dereference root {}", path.display()),
        ));
    }
    Ok(())
}

/// Refuses what isn't a program that root or ourselves alone could have put there. `key` is what named it.
///
/// # Errors
/// In one sentence that says what to do.
pub fn check_program(key: &str, path: &Path) -> Result<(), String> {
    let shown = path.display();
    let meta = std::fs::metadata(path).map_err(|error| {
        format!("{key} {shown} can't be run: {error}; put it there, or leave the setting out")
    })?;
    if !meta.is_file() {
        return Err(format!(
            "{key} {shown} isn't run: it is no regular file; name a program"
        ));
    }
    check_way(path).map_err(|error| match error {
        Distrust::Untrusted {
            path,
            problem,
            remedy,
        } => format!(
            "{key} {shown} isn't run: {} {problem}, so that another user could change what {} runs; {remedy}",
            path.display(),
            us()
        ),
        error => format!("{key} {shown} isn't run: {error}"),
    })?;
    if meta.mode() & 0o020 != 0 {
        return Err(format!(
            "{key} {shown} isn't run: it can be written by group {}; chmod g-w {shown}",
            meta.gid()
        ));
    }
    if meta.mode() & 0o111 == 0 {
        return Err(format!(
            "{key} {shown} can't be run: it isn't executable; chmod +x {shown}"
        ));
    }
    Ok(())
}

fn us() -> String {
    match Uid::effective() {
        user if user.is_root() => "root".to_owned(),
        user => format!("user {user}"),
    }
}

/// Refuses a file with a secret that everybody could read, or another could change. Its group may read it: daemons run
/// as users of their own, and their files are root's.
///
/// # Errors
/// Which file or directory, what is wrong with it, and the command that mends it.
pub fn check_secret(path: &Path) -> Result<(), Distrust> {
    check_way(path)?;
    let meta = std::fs::metadata(path).map_err(Distrust::unseen(path))?;
    if meta.mode() & 0o007 != 0 {
        return Err(Distrust::untrusted(
            path,
            format!(
                "is open to everybody (mode {:04o}), and holds a secret",
                meta.mode() & 0o7777
            ),
            format!("chmod o= {}", path.display()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn only_a_program_of_ours_is_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hook");
        let said = || check_program("command", &path).err().unwrap_or_default();
        let mode = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(said().contains("put it there"), "{}", said());
        fs::write(&path, "#!/bin/sh\n").unwrap();
        for (bits, words) in [
            (0o644, "chmod +x"),
            (0o757, "can be written by everybody"),
            (0o775, "can be written by group"),
            (0o755, ""),
            (0o700, ""),
        ] {
            mode(&path, bits);
            assert!(said().contains(words), "{bits:o}: {}", said());
            assert_eq!(said().is_empty(), words.is_empty(), "{bits:o}");
        }
        mode(directory.path(), 0o777);
        assert!(said().contains("could change what"), "{}", said());
        mode(directory.path(), 0o700);
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            assert!(said().contains("belongs to user 65534"), "{}", said());
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(said().contains("no regular file"), "{}", said());
    }

    #[test]
    fn a_secret_is_neither_read_nor_changed_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        fs::write(&path, "https://example.org/token").unwrap();
        for (bits, words) in [
            (0o600, ""),
            (0o640, ""),
            (0o644, "open to everybody"),
            (0o641, "open to everybody"),
            (0o602, "can be written by everybody"),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            let said = check_secret(&path).err().map(|error| error.to_string());
            let said = said.unwrap_or_default();
            assert!(said.contains(words), "{bits:o}: {said}");
            assert_eq!(said.is_empty(), words.is_empty(), "{bits:o}: {said}");
            assert!(!said.contains("token"), "{said}");
        }
    }

    #[test]
    fn whoever_could_exchange_it_on_the_way_is_told() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not root: what belongs to others isn't tried");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let path = inner.join("url");
        fs::write(&path, "https://example.org/token").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let said = |path: &Path| {
            let said = check_secret(path).err().map(|error| error.to_string());
            said.unwrap_or_default()
        };
        let own = |path: &Path, user, group| {
            std::os::unix::fs::lchown(path, user, group).unwrap();
        };
        assert_eq!(said(&path), "");
        // A group that may write in the directory.
        own(&inner, None, Some(65_534));
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o775)).unwrap();
        assert!(
            said(&path).contains("can be written by group 65534"),
            "{}",
            said(&path)
        );
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(said(&path), "");
        // Where everybody may put links, the link of another.
        let sticky = directory.path().join("sticky");
        fs::create_dir(&sticky).unwrap();
        fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777)).unwrap();
        let link = sticky.join("url");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(said(&link), "");
        own(&link, Some(65_534), None);
        assert!(
            said(&link).contains("is a link of user 65534"),
            "{}",
            said(&link)
        );
    }
}
