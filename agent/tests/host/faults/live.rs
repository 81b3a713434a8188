//! What else can lie at `live/NAME`, or at `live` itself: a file, a link that leads nowhere, somebody's link to
//! elsewhere. Nothing of it is lost, and what stands in the way is said.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use certwell_proto::{pem, v1};

use crate::{
    faults::{hold::held, serves, status_says},
    host::{Host, NAME},
    lineage::tree,
    quiet::settled,
    world::{NAMES, World, leaf, serving, world},
};

/// What lies at `live/NAME` in the place of our link, and whether ours may come there.
struct Oddity {
    what: &'static str,
    put: fn(&World),
    said: Option<&'static [&'static str]>,
}

const ODDITIES: [Oddity; 7] = [
    Oddity {
        what: "a file",
        put: |world| fs::write(world.host.live(), "a file").unwrap(),
        said: Some(&["is neither a directory nor a link", "move it away"]),
    },
    Oddity {
        what: "a named pipe",
        put: |world| {
            let mode = nix::sys::stat::Mode::S_IRUSR;
            nix::unistd::mkfifo(&world.host.live(), mode).unwrap();
        },
        said: Some(&["is neither a directory nor a link", "move it away"]),
    },
    Oddity {
        what: "a link that leads nowhere",
        put: |world| symlink("/nowhere/at/all", world.host.live()).unwrap(),
        said: None,
    },
    Oddity {
        what: "a link that leads to itself",
        put: |world| symlink(NAME, world.host.live()).unwrap(),
        said: None,
    },
    Oddity {
        what: "a link to a file",
        put: |world| symlink(world.host.path("nginx.conf"), world.host.live()).unwrap(),
        said: None,
    },
    Oddity {
        what: "somebody's link to a certificate that ends sooner",
        put: |world| symlink(theirs(world, 1_800), world.host.live()).unwrap(),
        said: None,
    },
    Oddity {
        what: "somebody's link to a later certificate",
        put: |world| symlink(theirs(world, 7_200), world.host.live()).unwrap(),
        said: Some(&["another hand's certificate", "it stays: move it away"]),
    },
];

/// A pair of the same authority somewhere else on the host.
fn theirs(world: &World, until: i64) -> PathBuf {
    let directory = world.host.path(&format!("theirs-{until}"));
    fs::create_dir(&directory).unwrap();
    let (chain, key) = world.authority.server(NAMES, (-60, until));
    let chain = pem::certificates(chain.iter().map(Vec::as_slice));
    fs::write(directory.join("fullchain.pem"), chain).unwrap();
    let key = pem::private_key(&key);
    fs::write(directory.join("privkey.pem"), key.as_bytes()).unwrap();
    directory
}

/// What a path is, without following it.
fn is(path: &Path) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some(match fs::read_link(path) {
        Ok(target) => format!("-> {}", target.display()),
        Err(_) if meta.is_file() => fs::read_to_string(path).unwrap(),
        Err(_) => format!("{:?}", meta.file_type()),
    })
}

/// All that was kept aside.
fn aside(host: &Host) -> Vec<Option<String>> {
    let entries = fs::read_dir(host.path("live")).unwrap().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.contains("before-certwell")
        })
        .map(|entry| is(&entry.path()))
        .collect()
}

#[tokio::test]
async fn whatever_lies_at_the_name_is_kept_aside_or_refused_and_never_lost() {
    let (world, _) = serving().await;
    let host = &world.host;
    for (number, Oddity { what, put, said }) in (2..).zip(&ODDITIES) {
        let ours = world.bundle(number);
        host.settled_workers().await;
        let before = host.served();
        // It lies there when the agent comes back to it, as after a person's work.
        let held_by_hand = ["hold", NAME, "--for", "1h"];
        assert!(host.verb(&held_by_hand).status.success());
        held(&world, number - 1, "held by hand").await;
        fs::remove_file(host.live()).unwrap();
        put(&world);
        let put = is(&host.live());
        world.offer(&ours);
        held(&world, number, "held by hand").await;
        assert!(host.verb(&["hold", NAME, "--release"]).status.success());
        if let Some(words) = said {
            let report = held(&world, number, words[0]).await;
            assert!(
                report.problem.contains(words[1]),
                "{what}: {}",
                report.problem
            );
            status_says(host, words).await;
            settled(host).await;
            assert_eq!(is(&host.live()), put, "{what}: touched");
            assert_eq!(host.served(), before, "{what}");
            fs::rename(host.live(), host.path("moved-away")).unwrap();
        }
        world.outcome(number, v1::Outcome::Converged).await;
        serves(&world, &ours).await;
        if said.is_none() {
            assert!(aside(host).contains(&put), "{what}: not kept aside");
        }
        assert!(host.live().is_symlink(), "{what}");
    }
    // Where the links led nothing was touched.
    for until in [1_800, 7_200] {
        let files = tree(&host.path(&format!("theirs-{until}")));
        assert_eq!(files.len(), 2);
    }
    eprintln!("at live/NAME: {} oddities", ODDITIES.len());
}

/// What lies at `live`, how it comes there, and what is said of it.
type InPlace = (&'static str, fn(&Path), &'static str);

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `certwell-agent run`, of which nothing is expected but that it ends.
pub(crate) fn refuses_to_run(host: &Host) -> Output {
    let run = host.agent_command(&["run"]);
    let mut command = Command::new("timeout");
    command
        .arg("20")
        .arg(run.get_program())
        .args(run.get_args());
    command.output().unwrap()
}

#[tokio::test]
async fn a_live_directory_that_is_none_stops_the_agent_with_the_remedy_and_one_elsewhere_does_not()
{
    let mut world = world().await;
    world.host.start_nginx().await;
    let before = world.host.served();
    let live = world.host.path("live");
    let moved = world.host.path("moved");
    fs::rename(&live, &moved).unwrap();
    let cases: [InPlace; 3] = [
        (
            "a file",
            |live| fs::write(live, "a file").unwrap(),
            "move it away",
        ),
        (
            "a link that leads nowhere",
            |live| symlink("/nowhere/at/all", live).unwrap(),
            "/nowhere/at/all, where there is no directory; make that, or remove the link",
        ),
        (
            "a link to a file",
            |live| symlink("nginx.conf", live).unwrap(),
            "nginx.conf, where there is no directory",
        ),
    ];
    for (what, put, words) in cases {
        put(&live);
        let put = is(&live);
        let output = refuses_to_run(&world.host);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        let path = live.display().to_string();
        assert!(
            said.contains(&path) && said.contains(words),
            "{what}: {said}"
        );
        assert_eq!(is(&live), put, "{what}: touched");
        assert_eq!(world.host.served(), before, "{what}");
        fs::remove_file(&live).unwrap();
    }
    // A link to a directory elsewhere is as good as a directory.
    symlink(&moved, &live).unwrap();
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    serves(&world, &first).await;
    assert_eq!(fs::read_link(&live).unwrap(), moved);
    assert!(moved.join(NAME).is_symlink());
}

#[tokio::test]
async fn a_live_directory_that_gives_way_to_something_else_is_said_and_made_good() {
    let (world, _) = serving().await;
    let host = &world.host;
    let live = host.path("live");
    let cases: [InPlace; 2] = [
        (
            "a file",
            |live| fs::write(live, "a file").unwrap(),
            "a file lies there; move it away",
        ),
        (
            "a link that leads nowhere",
            |live| symlink("/nowhere/at/all", live).unwrap(),
            "make that, or remove the link",
        ),
    ];
    let mut number = 1;
    for (what, put, words) in cases {
        number += 1;
        host.settled_workers().await;
        let before = host.served();
        fs::rename(&live, host.path("moved")).unwrap();
        put(&live);
        let put = is(&live);
        let ours = world.bundle(number);
        world.offer(&ours);
        let held = |report: &v1::CertificateReport| {
            report.outcome() == v1::Outcome::Held && report.problem.contains(words)
        };
        world.issuer.told(what, NAME, held).await;
        status_says(host, &[&live.to_string_lossy(), words]).await;
        settled(host).await;
        assert_eq!(is(&live), put, "{what}: touched");
        assert_eq!(host.served(), before, "{what}");
        fs::remove_file(&live).unwrap();
        world.outcome(number, v1::Outcome::Converged).await;
        serves(&world, &ours).await;
        fs::remove_dir_all(host.path("moved")).unwrap();
    }
    assert_eq!(
        host.served(),
        Some(leaf(
            &world.issuer.memory.lock().unwrap().bundles[&(NAME.to_owned(), number)]
        ))
    );
}
