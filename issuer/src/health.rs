//! Looks at the issuer's own machine: the disk of its state, its clock, its backups. What that means is for
//! `plan::health` to say.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_proto::pace::pace;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::{
    backup, clock,
    config::Issuer,
    fleet::Registry,
    plan::health::{Backups, Clock, Disk, IssuerFacts, Room},
};

/// From one look to the next, paced by what life remains.
const EVERY: Duration = Duration::from_secs(20);
/// What systemd's time service touches each time that it has set the clock; the directory is there while it runs.
const TIME_SERVICE: &str = "/run/systemd/timesync";
const SET: &str = "synchronized";

/// Looks until the issuer stops.
pub async fn watch(issuer: &Issuer, registry: Registry) {
    let (state, backups) = (
        issuer.state_directory.clone(),
        issuer.backup_directory.clone(),
    );
    let mut steps = Steps::begin();
    loop {
        let set_back = steps.look();
        let (state, backups) = (state.clone(), backups.clone());
        let looked = tokio::task::spawn_blocking(move || IssuerFacts {
            disk: disk(&state),
            clock: Clock {
                synchronised: synchronised(Path::new(TIME_SERVICE)),
                set_back,
            },
            backups: Some(look_for_backups(&backups)),
        });
        if let Ok(facts) = looked.await {
            registry.health(facts).await;
        }
        let Some(facts) = registry.facts().await else {
            return;
        };
        tokio::time::sleep(pace(EVERY, facts.shortest_life(clock::now()))).await;
    }
}

/// A file system that can't be asked isn't told: the store says by itself that it can't be written.
fn disk(state: &Path) -> Option<Disk> {
    let found = nix::sys::statvfs::statvfs(state).ok()?;
    let unit = found.fragment_size();
    Some(Disk {
        path: state.to_owned(),
        bytes: Room {
            total: found.blocks().saturating_mul(unit),
            free: found.blocks_available().saturating_mul(unit),
        },
        inodes: Room {
            total: found.files(),
            free: found.files_available(),
        },
    })
}

/// What systemd's time service says; another one says nothing that could be read without asking it.
fn synchronised(service: &Path) -> Option<bool> {
    service
        .is_dir()
        .then(|| service.join(SET).symlink_metadata().is_ok())
}

fn look_for_backups(directory: &Path) -> Backups {
    let (newest, problem) = match backup::newest_at(directory) {
        Ok(newest) => (newest, None),
        // Nobody has made one yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (None, None),
        Err(error) => (None, Some(error.to_string())),
    };
    Backups {
        directory: PathBuf::from(directory),
        newest,
        problem,
    }
}

/// Notices that the clock was set back, by one that nobody sets.
struct Steps {
    at: (Timestamp, Instant),
    last: Option<(Timestamp, SignedDuration)>,
}

impl Steps {
    fn begin() -> Self {
        Self {
            at: (clock::now(), Instant::now()),
            last: None,
        }
    }

    fn look(&mut self) -> Option<(Timestamp, SignedDuration)> {
        let (now, steady) = (clock::now(), Instant::now());
        let passed = SignedDuration::try_from(steady.duration_since(self.at.1)).unwrap_or_default();
        self.step(now, passed);
        self.at = (now, steady);
        self.last
    }

    /// Only backwards: a machine that slept finds itself later than it thinks.
    fn step(&mut self, now: Timestamp, passed: SignedDuration) {
        let back = passed - now.duration_since(self.at.0);
        if back > SignedDuration::from_secs(1) {
            self.last = Some((now, back));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_set_back_is_noticed() {
        let second = |second| Timestamp::from_second(second).unwrap();
        let seconds = SignedDuration::from_secs;
        for (passed, now, expected) in [
            (20, 1_020, None),
            (20, 1_019, None),
            (20, 5_000, None),
            (20, 900, Some((second(900), seconds(120)))),
        ] {
            let mut steps = Steps::begin();
            steps.at.0 = second(1_000);
            steps.step(second(now), seconds(passed));
            assert_eq!(steps.last, expected, "{passed} {now}");
        }
    }

    #[test]
    fn the_time_service_is_believed_and_its_absence_says_nothing() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(synchronised(&home.path().join("none")), None);
        assert_eq!(synchronised(home.path()), Some(false));
        std::fs::write(home.path().join(SET), "").unwrap();
        assert_eq!(synchronised(home.path()), Some(true));
    }

    #[test]
    fn the_newest_backup_is_known_by_its_name() {
        let home = tempfile::tempdir().unwrap();
        let newest = |path: &Path| look_for_backups(path).newest;
        let absent = look_for_backups(&home.path().join("none"));
        assert_eq!((absent.newest, absent.problem), (None, None));
        assert_eq!(newest(home.path()), None);
        for name in [
            "certwell-20261120T031500Z",
            "certwell-20261128T031500Z-2",
            ".certwell-20261129T031500Z.new",
        ] {
            std::fs::create_dir(home.path().join(name)).unwrap();
        }
        let expected: Timestamp = "2026-11-28T03:15:00Z".parse().unwrap();
        assert_eq!(newest(home.path()), Some(expected));
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(look_for_backups(&file).problem.is_some());
    }

    #[test]
    fn the_disk_of_a_directory_has_room_in_it() {
        let found = disk(Path::new("/")).unwrap();
        assert!(found.bytes.total >= found.bytes.free && found.bytes.total > 0);
        assert_eq!(disk(Path::new("/no/such/directory")), None);
    }
}
