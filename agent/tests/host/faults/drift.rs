//! What somebody did to what lies at `live/NAME`: put right where it is worse than ours, left where it is better, and
//! in either case left while a person holds it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use certwell_proto::{pem, v1};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::{
    faults::{hold, is_pair, serves, status_says},
    fleet::{Authority, self_signed},
    host::NAME,
    issuer::eventually,
    lineage::tree,
    quiet::settled,
    world::{NAMES, World, leaf, serving},
};

/// What was done, and what is to come of it.
struct Case {
    what: &'static str,
    alter: fn(&World),
    then: Then,
}

enum Then {
    /// Ours is there again.
    Back,
    /// The same, drawn anew.
    Drawn,
    /// Ours is there again, and what took its place is kept aside.
    Aside,
    /// It stays.
    Stays,
}

const CASES: [Case; 15] = [
    Case {
        what: "the link removed",
        alter: |world| fs::remove_file(world.host.live()).unwrap(),
        then: Then::Back,
    },
    Case {
        what: "all of the live directory removed",
        alter: |world| remove_at_once(world, &world.host.path("live")),
        then: Then::Back,
    },
    Case {
        what: "the generation removed",
        alter: |world| remove_at_once(world, &generation(world, 2)),
        then: Then::Drawn,
    },
    Case {
        what: "the key edited",
        alter: |world| fs::write(world.host.live().join("privkey.pem"), "scribble").unwrap(),
        then: Then::Drawn,
    },
    Case {
        what: "the chain cut off",
        alter: |world| {
            let path = world.host.live().join("fullchain.pem");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, &text[..text.len() / 2]).unwrap();
        },
        then: Then::Drawn,
    },
    Case {
        what: "the key opened to everybody",
        alter: |world| {
            let mode = fs::Permissions::from_mode(0o644);
            fs::set_permissions(world.host.live().join("privkey.pem"), mode).unwrap();
        },
        then: Then::Drawn,
    },
    Case {
        what: "a later pair written into our own files",
        alter: |world| write_pair(&generation(world, 2), &theirs(world, (-60, 7_200))),
        then: Then::Drawn,
    },
    Case {
        what: "the link led to an older generation of ours",
        alter: |world| {
            let aside = world.host.path("live/mine");
            symlink(generation(world, 1), &aside).unwrap();
            fs::rename(aside, world.host.live()).unwrap();
        },
        then: Then::Back,
    },
    Case {
        what: "a valid certificate that ends sooner",
        alter: |world| in_its_place(world, &theirs(world, (-60, 1_800))),
        then: Then::Aside,
    },
    Case {
        what: "an expired certificate",
        alter: |world| in_its_place(world, &theirs(world, (-7_200, -3_600))),
        then: Then::Aside,
    },
    Case {
        what: "a later certificate of other names",
        alter: |world| in_its_place(world, &of(&world.authority, &[NAME], (-60, 7_200))),
        then: Then::Aside,
    },
    Case {
        what: "a later certificate of an authority that nobody knows",
        alter: |world| in_its_place(world, &of(&Authority::new("other"), NAMES, (-60, 7_200))),
        then: Then::Aside,
    },
    Case {
        what: "a later certificate beside a key that doesn't fit",
        alter: |world| {
            let (_, key) = self_signed(NAME, (-60, 7_200));
            in_its_place(world, &(theirs(world, (-60, 7_200)).0, key));
        },
        then: Then::Aside,
    },
    Case {
        what: "a directory that holds nothing",
        alter: |world| {
            fs::create_dir(world.host.path("mine")).unwrap();
            put_there(world);
        },
        then: Then::Aside,
    },
    Case {
        what: "a later valid certificate of the same authority",
        alter: |world| in_its_place(world, &theirs(world, (-60, 7_200))),
        then: Then::Stays,
    },
];

fn generation(world: &World, number: u64) -> PathBuf {
    let store = world.host.path("state/store").join(NAME);
    store.join(number.to_string())
}

/// A pair in PEM.
type Pair = (String, String);

fn of(authority: &Authority, names: &[&str], life: (i64, i64)) -> Pair {
    let (chain, key) = authority.server(names, life);
    let chain = pem::certificates(chain.iter().map(Vec::as_slice));
    (chain, pem::private_key(&key).to_string())
}

fn theirs(world: &World, life: (i64, i64)) -> Pair {
    of(&world.authority, NAMES, life)
}

fn write_pair(directory: &Path, (chain, key): &Pair) {
    fs::write(directory.join("fullchain.pem"), chain).unwrap();
    fs::write(directory.join("privkey.pem"), key).unwrap();
}

fn in_its_place(world: &World, pair: &Pair) {
    let mine = world.host.path("mine");
    fs::create_dir(&mine).unwrap();
    write_pair(&mine, pair);
    put_there(world);
}

/// What lies at `mine` takes the place of what lies at `live/NAME`, in one step: the agent never sees less.
fn put_there(world: &World) {
    let (mine, live) = (world.host.path("mine"), world.host.live());
    let chain = fs::read_to_string(mine.join("fullchain.pem"));
    fs::write(world.host.path("mine.pem"), chain.unwrap_or_default()).unwrap();
    let flags = RenameFlags::RENAME_EXCHANGE;
    renameat2(AT_FDCWD, &mine, AT_FDCWD, &live, flags).unwrap();
    fs::remove_file(mine).unwrap();
}

fn remove_at_once(world: &World, directory: &Path) {
    let gone = world.host.path("gone");
    fs::rename(directory, &gone).unwrap();
    fs::remove_dir_all(gone).unwrap();
}

/// A path, and what is there.
type Entry = (PathBuf, String);

/// Everything of ours on disk that a case alters: names, bytes, links, and the mode of the key.
fn looks(world: &World) -> (Vec<Entry>, Option<u32>) {
    let entries = ["live", "state/store"]
        .map(|below| world.host.path(below))
        .into_iter()
        .filter(|path| path.exists())
        .flat_map(|path| tree(&path))
        .collect();
    let key = fs::metadata(world.host.live().join("privkey.pem"));
    (entries, key.ok().map(|meta| meta.permissions().mode()))
}

/// Generation 2 is served, and the first is on disk.
async fn two_generations() -> (World, v1::Bundle) {
    let (world, _) = serving().await;
    let second = world.bundle(2);
    world.offer(&second);
    world.outcome(2, v1::Outcome::Converged).await;
    (world, second)
}

fn fetches(world: &World) -> usize {
    world.issuer.memory.lock().unwrap().fetches.len()
}

fn rounds(world: &World) -> usize {
    let log = world.host.agent_log();
    log.matches("served on every listener").count()
}

impl Case {
    /// What comes of it once nobody holds it; nginx had `rounds` good rounds before.
    async fn ends(&self, world: &World, ours: &v1::Bundle, fetched: usize, before: usize) {
        let Self { what, then, .. } = self;
        let host = &world.host;
        if let Then::Stays = then {
            let words = [
                "another hand's certificate",
                "later than ours",
                "move it away",
            ];
            status_says(host, &words).await;
            settled(host).await;
            assert!(host.live().is_dir() && !host.live().is_symlink(), "{what}");
            let chain = fs::read_to_string(host.live().join("fullchain.pem")).unwrap();
            assert!(!is_pair(&host.live(), ours) && !chain.is_empty(), "{what}");
            fs::rename(host.live(), host.path("moved-away")).unwrap();
        }
        eventually(what, || async { (rounds(world) > before).then_some(()) }).await;
        assert!(host.live().is_symlink(), "{what}");
        assert_eq!(host.active(), "2", "{what}");
        serves(world, ours).await;
        let drawn = fetches(world) - fetched;
        assert_eq!(drawn > 0, matches!(then, Then::Drawn), "{what}: {drawn}");
        assert!(
            !host.path("live").join(format!(".{NAME}.new")).exists(),
            "{what}"
        );
        world.outcome(2, v1::Outcome::Converged).await;
    }

    /// What a person put there lies in a place aside, byte for byte.
    fn assert_kept(&self, world: &World) {
        let Then::Aside = self.then else { return };
        let chain = fs::read_to_string(world.host.path("mine.pem")).unwrap();
        let mut beside = fs::read_dir(world.host.path("live")).unwrap().flatten();
        let kept = beside.any(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let text = fs::read_to_string(entry.path().join("fullchain.pem"));
            name.contains("before-certwell") && text.unwrap_or_default() == chain
        });
        assert!(kept, "{}: not kept aside", self.what);
    }
}

#[tokio::test]
async fn what_drifts_is_put_back_and_what_is_better_stays() {
    let (world, ours) = two_generations().await;
    for case in &CASES {
        let (fetched, before) = (fetches(&world), rounds(&world));
        world.host.settled_workers().await;
        (case.alter)(&world);
        case.ends(&world, &ours, fetched, before).await;
        case.assert_kept(&world);
        let _ = fs::remove_dir_all(world.host.path("moved-away"));
    }
    eprintln!("drift: {} cases", CASES.len());
}

#[tokio::test]
async fn what_drifts_while_a_person_holds_it_is_left_until_the_hold_ends() {
    let (world, ours) = two_generations().await;
    let host = &world.host;
    for case in &CASES {
        hold::hold(host, &[NAME, "--for", "4h", "--note", "by hand"]);
        hold::held(&world, 2, "held by hand until ").await;
        let (fetched, before) = (fetches(&world), rounds(&world));
        let workers = host.settled_workers().await;
        (case.alter)(&world);
        let altered = looks(&world);
        settled(host).await;
        assert_eq!(looks(&world), altered, "{}: touched", case.what);
        assert_eq!(host.workers(), workers, "{}: reloaded", case.what);
        assert_eq!(host.served(), Some(leaf(&ours)), "{}", case.what);
        assert_eq!(
            (fetches(&world), rounds(&world)),
            (fetched, before),
            "{}",
            case.what
        );
        hold::hold(host, &[NAME, "--release"]);
        case.ends(&world, &ours, fetched, before).await;
        case.assert_kept(&world);
        let _ = fs::remove_dir_all(host.path("moved-away"));
    }
    eprintln!("drift under a hold: {} cases", CASES.len());
}

#[tokio::test]
async fn while_the_issuer_is_away_the_best_that_is_whole_on_disk_is_put_there() {
    let (mut world, _) = serving().await;
    let first = world.issuer.memory.lock().unwrap().bundles[&(NAME.to_owned(), 1)].clone();
    // The second is announced, and can't be had.
    let second = world.bundle(2);
    world.issuer.hold_offers();
    world.offer(&second);
    world
        .issuer
        .memory
        .lock()
        .unwrap()
        .bundles
        .remove(&(NAME.to_owned(), 2));
    world.issuer.release_offers();
    world.outcome(2, v1::Outcome::Held).await;
    fs::remove_file(world.host.live()).unwrap();
    eventually("the first is put back", || async {
        (world.host.live().is_symlink() && world.host.active() == "1").then_some(())
    })
    .await;
    serves(&world, &first).await;
    assert_eq!(world.host.activations(NAME, 0), 0);
    assert!(!generation(&world, 0).exists(), "a placeholder");
    let bundles = || world.issuer.memory.lock().unwrap();
    bundles()
        .bundles
        .insert((NAME.to_owned(), 2), second.clone());
    world.outcome(2, v1::Outcome::Converged).await;
    // Now the second is damaged, and nobody is there to draw it from.
    world.issuer.stop();
    eventually("the issuer is missed", || async {
        let output = world.host.verb(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        (status["connected"] == false).then_some(())
    })
    .await;
    fs::write(world.host.live().join("privkey.pem"), "scribble").unwrap();
    eventually("the first takes its place", || async {
        (world.host.active() == "1").then_some(())
    })
    .await;
    serves(&world, &first).await;
    // What is told first is what was so before.
    world.issuer.restart().await;
    eventually("the second is drawn anew", || async {
        (world.host.active() == "2").then_some(())
    })
    .await;
    serves(&world, &second).await;
    world.outcome(2, v1::Outcome::Converged).await;
}
