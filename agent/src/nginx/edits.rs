//! Configuration files that are newer than the workers: an operator's edit in progress.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

/// A configuration file and when it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The file.
    pub file: PathBuf,
    /// Its modification time.
    pub at: Timestamp,
}

/// The newest change of nginx's configuration that isn't ours, as the challenge map and what lies in `live` are.
pub fn newest_foreign_change(
    files: &[PathBuf],
    live: &Path,
    challenge_map: &Path,
    now: Timestamp,
) -> Option<Edit> {
    let files = files.iter().filter(|file| !file.starts_with(live));
    newest_change(&files.cloned().collect::<Vec<_>>(), &[challenge_map], now)
}

/// The newest of these files; those that can't be read are left out, and those that are dated later than `now`, which
/// tell nothing: a clock was set. `ours` are files that the agent itself keeps.
pub fn newest_change(files: &[PathBuf], ours: &[&Path], now: Timestamp) -> Option<Edit> {
    // nginx may name a file of ours by another path, through a linked directory.
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let ours: Vec<PathBuf> = ours.iter().map(|path| real(path)).collect();
    files
        .iter()
        .filter(|file| ours.is_empty() || !ours.contains(&real(file)))
        .filter_map(|file| {
            let modified = fs::metadata(file)
                .and_then(|metadata| metadata.modified())
                .ok()?;
            Some(Edit {
                file: file.clone(),
                at: Timestamp::try_from(modified).ok()?,
            })
        })
        .filter(|edit| edit.at <= now)
        .max_by_key(|edit| edit.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_ours_is_known_through_a_linked_directory_too() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("conf.d")).unwrap();
        let map = root.join("real/map.conf");
        let theirs = root.join("real/site.conf");
        for file in [&theirs, &map] {
            fs::write(file, "").unwrap();
        }
        let files = [root.join("conf.d/map.conf"), root.join("conf.d/site.conf")];
        let now = crate::clock::now();
        assert_eq!(newest_change(&files[..1], &[&map], now), None);
        let edit = newest_change(&files, &[&map], now).unwrap();
        assert_eq!(edit.file, files[1]);
        // By a clock that was set back since nothing is known.
        let before = edit.at - jiff::SignedDuration::from_secs(1);
        assert_eq!(newest_change(&files, &[&map], before), None);
    }
}
