//! What the steps leave on disk, byte by byte.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use certwell_agent::disk::{
    Before, Condition, Live, LiveDirectory, Permissions, Store, permissions::check_directory,
    placeholder,
};
use certwell_proto::{Bundle, CertificateName, Generation};

use super::fleet::Authority;

pub(crate) struct Disk {
    directory: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) live: LiveDirectory,
    pub(crate) name: CertificateName,
    authority: Authority,
}

pub(crate) fn disk() -> Disk {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store"), Permissions::default()).unwrap();
    let live = LiveDirectory::open(directory.path().join("live")).unwrap();
    Disk {
        directory,
        store,
        live,
        name: "media.example.org".parse().unwrap(),
        authority: Authority::new("CA"),
    }
}

impl Disk {
    pub(crate) fn bundle(&self, generation: u64) -> Bundle {
        self.authority
            .bundle(self.name.as_str(), generation, &["media.example.org"])
            .try_into()
            .unwrap()
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    pub(crate) fn served(&self) -> Vec<Vec<u8>> {
        certwell_agent::disk::staging::read_fullchain(&self.live.path(&self.name))
    }
}

pub(crate) fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_generation_has_all_its_files_and_no_leftovers() {
    let disk = disk();
    let bundle = disk.bundle(1);
    let record = disk.store.stage(&bundle).unwrap();
    let directory = disk.store.path(&disk.name, Generation(1));
    assert_eq!(
        entries(&directory),
        [
            "cert.pem",
            "chain.pem",
            "combined.pem",
            "fullchain.pem",
            "privkey.pem"
        ]
    );
    assert_eq!(record.files.len(), 5);
    for name in record.files.keys() {
        assert_eq!(
            fs::metadata(directory.join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777,
            0o600
        );
    }
    assert_eq!(
        disk.store.fullchain(&disk.name, Generation(1)),
        bundle.key_pairs[0].fullchain
    );
    let combined = fs::read_to_string(directory.join("combined.pem")).unwrap();
    assert!(combined.contains("BEGIN CERTIFICATE") && combined.contains("BEGIN PRIVATE KEY"));
    assert_eq!(entries(&disk.path("store/media.example.org")), ["1"]);
    assert_eq!(
        disk.store.inspect(&disk.name, Generation(1), &record),
        Condition::Whole
    );
}

#[test]
fn a_group_of_the_setting_can_read_and_nobody_else() {
    let group = nix::unistd::Group::from_gid(nix::unistd::Gid::effective())
        .unwrap()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let permissions = Permissions::new(Some(&group.name)).unwrap();
    let store = Store::open(directory.path().join("store"), permissions).unwrap();
    let bundle: Bundle = Authority::new("CA")
        .bundle("a.example", 1, &["a.example"])
        .try_into()
        .unwrap();
    store.stage(&bundle).unwrap();
    let path = store.path(&bundle.certificate, Generation(1));
    let file = fs::metadata(path.join("privkey.pem")).unwrap();
    assert_eq!(
        (file.mode() & 0o7777, file.gid()),
        (0o640, group.gid.as_raw())
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o750);
    let unknown = Permissions::new(Some("no-such-group-here"))
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("groupadd"), "{unknown}");
}

#[test]
fn a_damaged_generation_is_noticed_and_exchanged_in_one_step() {
    let disk = disk();
    let bundle = disk.bundle(1);
    let record = disk.store.stage(&bundle).unwrap();
    disk.live
        .activate(&disk.name, Generation(1), &disk.store)
        .unwrap();
    let directory = disk.store.path(&disk.name, Generation(1));
    fs::write(directory.join("privkey.pem"), "scribble").unwrap();
    assert!(matches!(
        disk.store.inspect(&disk.name, Generation(1), &record),
        Condition::Damaged(_)
    ));
    fs::remove_file(directory.join("cert.pem")).unwrap();
    let inode = fs::metadata(&directory).unwrap().ino();
    disk.store.stage(&bundle).unwrap();
    assert_ne!(fs::metadata(&directory).unwrap().ino(), inode);
    assert_eq!(
        disk.store.inspect(&disk.name, Generation(1), &record),
        Condition::Whole
    );
    assert_eq!(disk.served(), bundle.key_pairs[0].fullchain);
    assert_eq!(entries(&disk.path("store/media.example.org")), ["1"]);
}

#[test]
fn a_key_that_was_opened_to_others_is_damage() {
    use std::os::unix::fs::PermissionsExt as _;
    let disk = disk();
    let bundle = disk.bundle(1);
    let record = disk.store.stage(&bundle).unwrap();
    let inspected = || disk.store.inspect(&disk.name, Generation(1), &record);
    assert_eq!(inspected(), Condition::Whole);
    let key = disk
        .store
        .path(&disk.name, Generation(1))
        .join("privkey.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let Condition::Damaged(said) = inspected() else {
        panic!("taken for whole");
    };
    assert!(said.contains("0644 instead of 0600"), "{said}");
    disk.store.stage(&bundle).unwrap();
    assert_eq!(inspected(), Condition::Whole);
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn twins_have_names_of_their_own() {
    let disk = disk();
    let mut bundle = disk.bundle(1);
    bundle.key_pairs.push(disk.bundle(1).key_pairs.remove(0));
    disk.store.stage(&bundle).unwrap();
    let names = entries(&disk.store.path(&disk.name, Generation(1)));
    assert!(
        names.contains(&"privkey-ecdsa.pem".to_owned()) && names.len() == 10,
        "{names:?}"
    );
}

#[test]
fn a_link_is_replaced_and_rolled_back() {
    let disk = disk();
    let (first, second) = (disk.bundle(1), disk.bundle(2));
    disk.store.stage(&first).unwrap();
    disk.store.stage(&second).unwrap();
    assert_eq!(
        disk.live
            .activate(&disk.name, Generation(1), &disk.store)
            .unwrap(),
        Before::Nothing
    );
    assert_eq!(disk.served(), first.key_pairs[0].fullchain);
    let before = disk
        .live
        .activate(&disk.name, Generation(2), &disk.store)
        .unwrap();
    assert_eq!(disk.served(), second.key_pairs[0].fullchain);
    assert_eq!(
        disk.live.look(&disk.name, &disk.store).unwrap(),
        Live::Ours(Generation(2))
    );
    disk.live.roll_back(&disk.name, &before).unwrap();
    assert_eq!(disk.served(), first.key_pairs[0].fullchain);
    assert_eq!(entries(&disk.path("live")), ["media.example.org"]);
}

#[test]
fn a_directory_is_exchanged_kept_aside_and_exchanged_back() {
    let disk = disk();
    let own = disk.live.path(&disk.name);
    fs::create_dir(&own).unwrap();
    fs::write(own.join("fullchain.pem"), "theirs").unwrap();
    let inode = fs::metadata(&own).unwrap().ino();
    assert_eq!(
        disk.live.look(&disk.name, &disk.store).unwrap(),
        Live::Directory
    );
    disk.store.stage(&disk.bundle(1)).unwrap();
    let before = disk
        .live
        .activate(&disk.name, Generation(1), &disk.store)
        .unwrap();
    let kept = disk.path("live/.media.example.org.before-certwell");
    assert_eq!(before, Before::Aside(kept.clone()));
    assert_eq!(fs::metadata(&kept).unwrap().ino(), inode);
    assert_eq!(
        disk.live.look(&disk.name, &disk.store).unwrap(),
        Live::Ours(Generation(1))
    );
    disk.live.roll_back(&disk.name, &before).unwrap();
    assert_eq!(fs::metadata(&own).unwrap().ino(), inode);
    assert_eq!(
        fs::read_to_string(own.join("fullchain.pem")).unwrap(),
        "theirs"
    );
    assert_eq!(entries(&disk.path("live")), ["media.example.org"]);
}

#[test]
fn somebody_s_link_to_elsewhere_is_kept_aside_and_put_back() {
    let disk = disk();
    let own = disk.live.path(&disk.name);
    symlink("/srv/mine", &own).unwrap();
    disk.store.stage(&disk.bundle(1)).unwrap();
    let before = disk
        .live
        .activate(&disk.name, Generation(1), &disk.store)
        .unwrap();
    let kept = disk.path("live/.media.example.org.before-certwell");
    assert_eq!(before, Before::Aside(kept.clone()));
    assert_eq!(fs::read_link(&kept).unwrap(), Path::new("/srv/mine"));
    assert_eq!(
        disk.live.look(&disk.name, &disk.store).unwrap(),
        Live::Ours(Generation(1))
    );
    disk.live.roll_back(&disk.name, &before).unwrap();
    assert_eq!(fs::read_link(&own).unwrap(), Path::new("/srv/mine"));
    assert_eq!(entries(&disk.path("live")), ["media.example.org"]);
}

#[test]
fn nothing_of_an_operator_s_is_overwritten_aside() {
    let disk = disk();
    let aside = disk.path("live/.media.example.org.before-certwell");
    fs::create_dir(&aside).unwrap();
    fs::write(aside.join("precious"), "").unwrap();
    fs::create_dir(disk.live.path(&disk.name)).unwrap();
    disk.store.stage(&disk.bundle(1)).unwrap();
    let before = disk
        .live
        .activate(&disk.name, Generation(1), &disk.store)
        .unwrap();
    assert_eq!(
        before,
        Before::Aside(disk.path("live/.media.example.org.before-certwell-2"))
    );
    assert!(aside.join("precious").exists());
}

#[test]
fn a_file_in_the_way_is_left_alone() {
    let disk = disk();
    fs::write(disk.live.path(&disk.name), "a file").unwrap();
    disk.store.stage(&disk.bundle(1)).unwrap();
    let error = disk
        .live
        .activate(&disk.name, Generation(1), &disk.store)
        .unwrap_err()
        .to_string();
    assert!(error.contains("move it away"), "{error}");
    assert_eq!(
        fs::read_to_string(disk.live.path(&disk.name)).unwrap(),
        "a file"
    );
}

#[test]
fn a_directory_that_others_can_write_is_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = check_directory(directory.path()).unwrap_err().to_string();
    assert!(error.contains("chmod o-w"), "{error}");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    check_directory(directory.path()).unwrap();
}

#[test]
fn the_placeholder_covers_its_names_and_is_generation_0() {
    let name: CertificateName = "media.example.org".parse().unwrap();
    let identifiers = [
        "media.example.org".parse().unwrap(),
        "192.0.2.1".parse().unwrap(),
    ];
    let now = jiff::Timestamp::from_second(super::fleet::now_second()).unwrap();
    let bundle = placeholder::make(&name, &identifiers, now).unwrap();
    assert_eq!(bundle.generation, Generation::NONE);
    let leaf = certwell_proto::Leaf::read(bundle.key_pairs[0].leaf_der()).unwrap();
    assert!(leaf.self_issued && leaf.is_valid_at(now));
    assert_eq!(leaf.identifiers, identifiers);
}
