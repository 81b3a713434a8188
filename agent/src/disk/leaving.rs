//! What stays on disk of a host that leaves its fleet: nginx goes on serving what it serves, from a directory that is
//! no generation of any fleet. The numbers of the next fleet begin anew, and would mean other bytes.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use certwell_proto::{CertificateName, Generation};

use super::{
    Live, LiveDirectory, Permissions, Store,
    durable::{DiskError, remove_directory_if_there, remove_if_there, sync_directory},
};
use crate::config::Config;

/// In the names of what stays.
const LEFT: &str = ".left";
/// So many places beside one another are looked at.
const PLACES: u32 = 1_000;

/// Forgets the fleet but for what nginx serves. The identity is for the caller to remove, last: until then all this
/// can be done again.
///
/// # Errors
/// When something can't be changed.
pub fn forget(config: &Config, permissions: Permissions) -> Result<(), DiskError> {
    let live = LiveDirectory::at(config.live_directory.clone());
    let store = Store::at(config.store_directory());
    for name in names(&config.store_directory())? {
        let served = match live.look(&name, &store)? {
            Live::Ours(generation) if store.path(&name, generation).is_dir() => {
                let kept = keep_apart(&store, &name, generation, permissions)?;
                live.point(&name, &kept)?;
                Some(generation)
            }
            _ => None,
        };
        // Its files are those that are served. Others hold keys that nobody needs any more.
        for generation in store.generations(&name) {
            if Some(generation) != served {
                remove_directory_if_there(&store.path(&name, generation))?;
            }
        }
    }
    for file in [
        config.desired_file(),
        config.state_file(),
        config.holds_file(),
        config.post_install_file(),
        config.alarm_file(),
        config.ledger_file(),
    ] {
        remove_if_there(&file)?;
    }
    if config.state_directory.is_dir() {
        sync_directory(&config.state_directory)?;
    }
    Ok(())
}

/// Whether a link of this name leads to what an earlier fleet left.
pub fn is_left(store: &Store, name: &CertificateName, target: &Path) -> bool {
    let place = store.path(name, Generation::NONE);
    target.parent() == place.parent()
        && target
            .file_name()
            .is_some_and(|file| file.to_string_lossy().contains(LEFT))
}

fn names(store: &Path) -> Result<Vec<CertificateName>, DiskError> {
    let entries = match std::fs::read_dir(store) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::about("looking into", store)(error)),
    };
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// A second directory of the same files, beside the generation; the one that an earlier attempt made, if there is one.
fn keep_apart(
    store: &Store,
    name: &CertificateName,
    generation: Generation,
    permissions: Permissions,
) -> Result<PathBuf, DiskError> {
    let from = store.path(name, generation);
    let temporary = from.with_file_name(format!("{generation}{LEFT}.tmp"));
    let mut kept = from.with_file_name(format!("{generation}{LEFT}"));
    for n in 2..PLACES {
        if std::fs::symlink_metadata(&kept).is_err() {
            break;
        }
        if is_same(&from, &kept) {
            return Ok(kept);
        }
        kept = from.with_file_name(format!("{generation}{LEFT}-{n}"));
    }
    remove_directory_if_there(&temporary)?;
    permissions.make_directory(&temporary)?;
    let entries = std::fs::read_dir(&from).map_err(DiskError::about("looking into", &from))?;
    for entry in entries {
        let entry = entry.map_err(DiskError::about("looking into", &from))?;
        let to = temporary.join(entry.file_name());
        std::fs::hard_link(entry.path(), &to).map_err(DiskError::about("linking", &to))?;
    }
    sync_directory(&temporary)?;
    std::fs::rename(&temporary, &kept).map_err(DiskError::about("placing", &kept))?;
    sync_directory(super::durable::parent(&kept))?;
    Ok(kept)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let file = |directory: &Path| {
        let meta = std::fs::metadata(directory.join("privkey.pem")).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    file(one).is_some() && file(one) == file(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_served_is_kept_under_no_number_and_the_rest_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let at = |below: &str| directory.path().join(below);
        let config = Config {
            state_directory: at("state"),
            live_directory: at("live"),
            ..Config::default()
        };
        for generation in ["2", "3"] {
            let place = at("state/store/a.org").join(generation);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("privkey.pem"), generation).unwrap();
        }
        fs::create_dir(at("live")).unwrap();
        std::os::unix::fs::symlink(at("state/store/a.org/3"), at("live/a.org")).unwrap();
        let of_the_fleet = [
            config.ledger_file(),
            config.desired_file(),
            config.state_file(),
            config.holds_file(),
            config.post_install_file(),
            config.alarm_file(),
        ];
        for file in &of_the_fleet {
            fs::write(file, "{}").unwrap();
        }
        let left = at("state/store/a.org/3.left");
        // Cut off anywhere, it is done again.
        for _ in 0..2 {
            forget(&config, Permissions::default()).unwrap();
            assert_eq!(fs::read_link(at("live/a.org")).unwrap(), left);
            assert_eq!(fs::read_to_string(left.join("privkey.pem")).unwrap(), "3");
            assert!(!at("state/store/a.org/2").exists());
            // A configuration may name it by its number.
            assert!(at("state/store/a.org/3/privkey.pem").exists());
            for file in &of_the_fleet {
                assert!(!file.exists(), "{}", file.display());
            }
            // As if the link had not been made yet.
            fs::remove_file(at("live/a.org")).unwrap();
            fs::create_dir_all(at("state/store/a.org/3")).unwrap();
            let _ = fs::hard_link(
                left.join("privkey.pem"),
                at("state/store/a.org/3/privkey.pem"),
            );
            std::os::unix::fs::symlink(at("state/store/a.org/3"), at("live/a.org")).unwrap();
        }
        assert!(!at("state/store/a.org/3.left-2").exists());
    }
}
