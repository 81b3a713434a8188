//! What a crash or a foreign hand left on disk, and that nothing is held up by it.

use std::{fs, path::PathBuf, process::Command};

use certwell_agent::disk::{Condition, Live};
use certwell_proto::{Bundle, Generation};

use super::disk::{disk, entries};

#[test]
fn a_crash_in_the_middle_of_an_exchange_is_ended() {
    let disk = disk();
    disk.store.stage(&disk.bundle(1)).unwrap();
    // As it is right after the exchange: the directory under the link's first name.
    fs::create_dir(disk.path("live/.media.example.org.new")).unwrap();
    fs::write(
        disk.path("live/.media.example.org.new/privkey.pem"),
        "theirs",
    )
    .unwrap();
    std::os::unix::fs::symlink(
        disk.store.path(&disk.name, Generation(1)),
        disk.live.path(&disk.name),
    )
    .unwrap();
    disk.live.finish(&disk.name, &disk.store).unwrap();
    assert_eq!(
        fs::read_to_string(disk.path("live/.media.example.org.before-certwell/privkey.pem"))
            .unwrap(),
        "theirs"
    );
    assert_eq!(
        disk.live.look(&disk.name, &disk.store).unwrap(),
        Live::Ours(Generation(1))
    );
}

#[test]
fn a_crash_right_after_somebody_s_link_was_exchanged_loses_nothing() {
    let disk = disk();
    disk.store.stage(&disk.bundle(1)).unwrap();
    let leftover = disk.path("live/.media.example.org.new");
    std::os::unix::fs::symlink("/srv/mine", leftover).unwrap();
    for _ in 0..2 {
        disk.live.finish(&disk.name, &disk.store).unwrap();
        let kept = disk.path("live/.media.example.org.before-certwell");
        assert_eq!(fs::read_link(kept).unwrap(), PathBuf::from("/srv/mine"));
        assert_eq!(
            entries(&disk.path("live")),
            [".media.example.org.before-certwell"]
        );
    }
}

#[test]
fn half_written_generations_and_old_ones_are_removed() {
    let disk = disk();
    for generation in 0..=5 {
        disk.store
            .stage(&Bundle {
                generation: Generation(generation),
                ..disk.bundle(9)
            })
            .unwrap();
    }
    fs::create_dir(disk.path("store/media.example.org/6.tmp")).unwrap();
    let removed = disk
        .store
        .prune(&disk.name, Some(Generation(5)), Generation(5))
        .unwrap();
    assert_eq!(removed.len(), 3);
    assert_eq!(
        entries(&disk.path("store/media.example.org")),
        ["3", "4", "5"]
    );
}

#[test]
fn what_is_no_generation_is_not_pruned() {
    let disk = disk();
    disk.store.stage(&disk.bundle(1)).unwrap();
    let notes = disk.path("store/media.example.org/notes");
    fs::create_dir(&notes).unwrap();
    disk.store
        .prune(&disk.name, Some(Generation(1)), Generation(1))
        .unwrap();
    assert!(notes.exists());
}

#[test]
fn a_generation_is_staged_over_what_a_crash_left_half_written() {
    let disk = disk();
    let leftover = disk.path("store/media.example.org/1.tmp");
    fs::create_dir_all(&leftover).unwrap();
    fs::write(leftover.join("privkey.pem"), "half").unwrap();
    let record = disk.store.stage(&disk.bundle(1)).unwrap();
    assert_eq!(
        disk.store.inspect(&disk.name, Generation(1), &record),
        Condition::Whole
    );
    assert_eq!(entries(&disk.path("store/media.example.org")), ["1"]);
}

#[test]
fn a_link_that_a_crash_left_under_its_first_name_does_not_stop_the_next() {
    let disk = disk();
    let bundle = disk.bundle(1);
    disk.store.stage(&bundle).unwrap();
    let leftover = disk.path("live/.media.example.org.new");
    let ours = disk.store.path(&disk.name, Generation(7));
    std::os::unix::fs::symlink(ours, &leftover).unwrap();
    disk.live
        .activate(&disk.name, Generation(1), &disk.store)
        .unwrap();
    assert_eq!(disk.served(), bundle.key_pairs[0].fullchain);
    assert_eq!(entries(&disk.path("live")), ["media.example.org"]);
}

#[test]
fn a_file_in_the_place_of_a_generation_is_exchanged_and_removed() {
    let disk = disk();
    let directory = disk.path("store/media.example.org");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("1"), "no directory").unwrap();
    for _ in 0..2 {
        let record = disk.store.stage(&disk.bundle(1)).unwrap();
        assert_eq!(
            disk.store.inspect(&disk.name, Generation(1), &record),
            Condition::Whole
        );
        assert_eq!(entries(&directory), ["1"]);
    }
}

/// A file system of its own, which makes a directory that can't be removed, by root either.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "certwell-test"]).arg(&path);
        mount
            .status()
            .is_ok_and(|status| status.success())
            .then_some(Self(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_damaged_generation_that_cannot_be_removed_does_not_fail_the_one_in_its_place() {
    let disk = disk();
    let bundle = disk.bundle(1);
    disk.store.stage(&bundle).unwrap();
    let directory = disk.store.path(&disk.name, Generation(1));
    fs::write(directory.join("privkey.pem"), "scribble").unwrap();
    let busy = directory.join("busy");
    fs::create_dir(&busy).unwrap();
    let aside = disk.path("store/media.example.org/1.tmp/busy");
    let Some(mut mounted) = Mounted::at(busy) else {
        crate::world::skipped("nothing can be mounted here, which takes root");
        return;
    };
    let staged = disk.store.stage(&bundle);
    // It has moved with the directory.
    mounted.0 = aside;
    let record = staged.unwrap();
    assert_eq!(
        disk.store.inspect(&disk.name, Generation(1), &record),
        Condition::Whole
    );
    assert!(mounted.0.exists(), "the damaged one stayed behind");
}
