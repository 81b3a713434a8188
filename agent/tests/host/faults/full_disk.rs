//! A disk that is full, has no inodes left, is read-only, or fails: before an install, in the midst of it, and after.
//! What is served stays, nothing half made is to be seen, the sentence names path and remedy, and once the cause is
//! gone the agent goes on by itself.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
};

use certwell_proto::v1;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    faults::{
        is_pair, problems, serves,
        small_disk::{ReadOnly, SmallDisk},
        status_has,
    },
    host::{Host, NAME},
    issuer::eventually,
    world::{World, leaf, serving, serving_as, world},
};

/// How an attempt ended, whichever way.
async fn ended(world: &World, generation: u64, what: &str) -> v1::CertificateReport {
    let over = |report: &v1::CertificateReport| {
        let held = report.outcome() == v1::Outcome::Held && !report.problem.is_empty();
        let converged = report.outcome() == v1::Outcome::Converged;
        report.outcome_generation == generation && (held || converged)
    };
    world.issuer.told(what, NAME, over).await
}

/// No temporary file or link is left, and whatever is in the store under a number is whole.
fn nothing_half_made(world: &World, what: &str) {
    let names = |directory: PathBuf| -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().flatten();
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    };
    let store = world.host.path("state/store").join(NAME);
    for generation in names(store.clone()) {
        let number = generation
            .parse()
            .unwrap_or_else(|_| panic!("{what}: {generation}"));
        let key = (NAME.to_owned(), number);
        let bundle = world.issuer.memory.lock().unwrap().bundles[&key].clone();
        assert!(
            is_pair(&store.join(&generation), &bundle),
            "{what}: {generation}"
        );
    }
    let live = names(world.host.path("live"));
    assert!(
        !live.iter().any(|name| name.ends_with(".new")),
        "{what}: {live:?}"
    );
}

/// While it is held the old one is served from the disk as well, and `words` are said.
async fn held_well(
    world: &World,
    (old, new): (&v1::Bundle, &v1::Bundle),
    what: &str,
    words: &[&str],
) {
    let report = ended(world, new.generation, what).await;
    assert_eq!(report.outcome(), v1::Outcome::Held, "{what}");
    for word in words {
        assert!(report.problem.contains(word), "{what}: {}", report.problem);
    }
    serves(world, old).await;
    assert_eq!(world.host.active(), old.generation.to_string(), "{what}");
    nothing_half_made(world, what);
    let remedy = words.last().unwrap_or(&"");
    status_has(&world.host, what, &[remedy]).await;
}

/// Each amount of room that is left, from none on, until an install goes well with it.
async fn with_ever_more_room(kind: &str, take: fn(&SmallDisk, usize)) {
    let world = world().await;
    let Some(disk) = SmallDisk::below(&world.host) else {
        return;
    };
    let (world, mut old) = serving_as(world).await;
    let mut held = 0;
    for left in 0.. {
        assert!(left < 40, "it never went well");
        let what = format!("{left} {kind} left");
        world.host.settled_workers().await;
        take(&disk, left);
        let new = world.bundle(old.generation + 1);
        world.offer(&new);
        let report = ended(&world, new.generation, &what).await;
        let went_well = report.outcome() == v1::Outcome::Converged;
        if !went_well {
            held += 1;
            let place = world.host.path("").display().to_string();
            let words = [
                place.trim_end_matches('/'),
                "make room there: df -h and df -i",
            ];
            held_well(&world, (&old, &new), &what, &words[..1]).await;
            assert!(
                report.problem.contains(words[1]),
                "{what}: {}",
                report.problem
            );
            status_has(&world.host, &what, &["df -h and df -i"]).await;
        }
        disk.make_room();
        world.outcome(new.generation, v1::Outcome::Converged).await;
        serves(&world, &new).await;
        nothing_half_made(&world, &what);
        old = new;
        // Not for what wasn't on disk at once, such as the ledger after all.
        if went_well && left > 8 {
            break;
        }
    }
    eprintln!("disk, {kind}: held {held} times");
    assert!(held >= 4, "{held}");
}

#[tokio::test]
async fn a_disk_that_fills_up_at_any_point_holds_the_install_until_there_is_room() {
    with_ever_more_room("pages", SmallDisk::fill).await;
}

#[tokio::test]
async fn a_disk_without_inodes_at_any_point_holds_the_install_until_there_are_some() {
    with_ever_more_room("inodes", SmallDisk::use_up_inodes).await;
}

#[tokio::test]
async fn a_read_only_disk_holds_the_install_until_it_is_writable() {
    let world = world().await;
    let Some(_disk) = SmallDisk::below(&world.host) else {
        return;
    };
    let (world, mut old) = serving_as(world).await;
    for directory in ["state", "state/store", "live"] {
        let what = format!("{directory} is read-only");
        world.host.settled_workers().await;
        let read_only = ReadOnly::make(world.host.path(directory));
        let new = world.bundle(old.generation + 1);
        world.offer(&new);
        let path = world.host.path(directory).display().to_string();
        held_well(
            &world,
            (&old, &new),
            &what,
            &[&path, "mount it writable again"],
        )
        .await;
        drop(read_only);
        world.outcome(new.generation, v1::Outcome::Converged).await;
        serves(&world, &new).await;
        old = new;
    }
}

/// An error of certain calls about one path, as long as this lives.
struct Failing(Child);

impl Failing {
    fn make(host: &Host, calls: &str, path: PathBuf, error: &str) -> Option<Self> {
        let child = Command::new("strace")
            .args(["-q", "-o", "/dev/null", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error={error}")])
            .arg("-P")
            .arg(path)
            .arg("-p")
            .arg(host.agent_pid().to_string())
            .stderr(std::process::Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self(child)),
            Err(error) => {
                crate::world::skipped(&format!("strace can't be started: {error}"));
                None
            }
        }
    }

    async fn began(&self, host: &Host) {
        eventually("the agent is traced", || async {
            let status = fs::read_to_string(format!("/proc/{}/status", host.agent_pid()));
            (!status.ok()?.contains("TracerPid:\t0\n")).then_some(())
        })
        .await;
    }
}

impl Drop for Failing {
    /// It lets go of the agent.
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Calls, and the path that they are about; `N` is the number of the new generation.
const STEPS: [(&str, &str); 10] = [
    ("mkdir,mkdirat", "state/store/NAME/N.tmp"),
    ("openat", "state/store/NAME/N.tmp/cert.pem"),
    ("write", "state/store/NAME/N.tmp/fullchain.pem"),
    ("fsync", "state/store/NAME/N.tmp/privkey.pem"),
    ("fsync", "state/store/NAME/N.tmp"),
    ("rename,renameat,renameat2", "state/store/NAME/N.tmp"),
    ("fsync", "state/.ledger.json.new"),
    ("symlink,symlinkat", "live/.NAME.new"),
    ("rename,renameat,renameat2", "live/.NAME.new"),
    ("fsync", "live"),
];

fn place(host: &Host, path: &str, generation: u64) -> PathBuf {
    let path = path.replace("NAME", NAME);
    host.path(&path.replace("/N.tmp", &format!("/{generation}.tmp")))
}

#[tokio::test]
async fn a_disk_that_fails_at_any_step_holds_the_install_until_it_works() {
    let (world, mut old) = serving().await;
    let host = &world.host;
    let errors = [("EIO", "see dmesg"), ("EACCES", "run it as root")];
    let mut tried = 0;
    for (calls, path) in STEPS {
        for (error, remedy) in errors {
            let what = format!("{error} of {calls} at {path}");
            host.settled_workers().await;
            let new = world.bundle(old.generation + 1);
            let path = place(host, path, new.generation);
            let Some(failing) = Failing::make(host, calls, path.clone(), error) else {
                return;
            };
            failing.began(host).await;
            world.offer(&new);
            // The place itself, or what it was to become.
            let above = path.parent().unwrap().display().to_string();
            held_well(&world, (&old, &new), &what, &[&above, remedy]).await;
            drop(failing);
            world.outcome(new.generation, v1::Outcome::Converged).await;
            serves(&world, &new).await;
            nothing_half_made(&world, &what);
            old = new;
            tried += 1;
        }
    }
    eprintln!("disk: failed at {tried} points");
}

#[tokio::test]
async fn a_disk_that_fails_after_the_install_takes_nothing_back() {
    let (world, _) = serving().await;
    let host = &world.host;
    for generation in 2..=3 {
        world.offer(&world.bundle(generation));
        world.outcome(generation, v1::Outcome::Converged).await;
    }
    // The oldest is to be removed when the fourth is served.
    let oldest = host.path("state/store").join(NAME).join("1");
    let calls = "unlinkat,rmdir,unlink";
    let Some(failing) = Failing::make(host, calls, oldest.clone(), "EIO") else {
        return;
    };
    failing.began(host).await;
    let fourth = world.bundle(4);
    world.offer(&fourth);
    world.outcome(4, v1::Outcome::Converged).await;
    serves(&world, &fourth).await;
    assert!(oldest.exists());
    drop(failing);
    let fifth = world.bundle(5);
    world.offer(&fifth);
    world.outcome(5, v1::Outcome::Converged).await;
    assert_eq!(host.staged(), ["3", "4", "5"], "removed after all");
    // The ledger is saved before the activation, and not after.
    host.settled_workers().await;
    let ledger = host.path("state/ledger.json");
    let written = host.path("state/.ledger.json.new");
    let Some(failing) = Failing::make(host, "fsync", written.clone(), "EIO:when=2+") else {
        return;
    };
    failing.began(host).await;
    let sixth = world.bundle(6);
    world.offer(&sixth);
    world.outcome(6, v1::Outcome::Converged).await;
    serves(&world, &sixth).await;
    let path = written.display().to_string();
    status_has(
        host,
        "the ledger",
        &["isn't written down", &path, "see dmesg"],
    )
    .await;
    eventually("the issuer is told", || async {
        let told = &world.issuer.memory.lock().unwrap().host_problem;
        told.contains(&path).then_some(())
    })
    .await;
    drop(failing);
    eventually("nothing is in the way", || async {
        problems(host).is_empty().then_some(())
    })
    .await;
    serves(&world, &sixth).await;
    let text = fs::read_to_string(ledger).unwrap();
    let noted: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(noted["certificates"][NAME]["active"], 6);
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_stops_the_agent_and_is_left_as_it_is() {
    let (mut world, first) = serving().await;
    world.host.end_agent().await;
    let ledger = world.host.path("state/ledger.json");
    let before = fs::read(&ledger).unwrap();
    for error in ["EIO", "EACCES"] {
        let run = world.host.agent_command(&["run"]);
        let output = Command::new("timeout")
            .args([
                "20",
                "strace",
                "-q",
                "-o",
                "/dev/null",
                "-e",
                "trace=openat,read",
            ])
            .args(["-e", &format!("inject=openat,read:error={error}"), "-P"])
            .arg(&ledger)
            .arg(run.get_program())
            .args(run.get_args())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let path = ledger.display().to_string();
        assert!(
            said.contains(&path) && said.contains("whether the disk is well"),
            "{said}"
        );
        assert_eq!(fs::read(&ledger).unwrap(), before);
        serves(&world, &first).await;
    }
    let second = world.bundle(2);
    world.offer(&second);
    world.host.start_agent();
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}
