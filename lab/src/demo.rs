//! The main job on real parts, told as it happens.

use std::{
    fs,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    Ending, MEDIA, MEDIA_DECLARED, Settings, World, clock, paths::Home, ports::Net, probe::Served,
    process::Process, status::Event, wait_for,
};
use certwell_proto::Fingerprint;

use crate::{interruptible, narrator::Narrator};

const PATIENCE: Duration = Duration::from_secs(90);

/// Plays the demo.
///
/// # Errors
/// When a part doesn't come up, or a host doesn't serve what was issued.
pub(crate) fn run(once: bool) -> Result<ExitCode> {
    let home = Home::take("demo")?;
    let directory = home.path().to_owned();
    let logs = shown(&directory);
    let narrator = Narrator::new();
    let teller = narrator.clone();
    interruptible::play(
        directory,
        &narrator,
        move || acts(home, &teller, once),
        |count| println!("stopped, {count} processes ended; logs are in {logs}"),
    )
}

fn acts(home: Home, narrator: &Narrator, once: bool) -> Result<ExitCode> {
    let directory = home.path().to_owned();
    narrator.print(
        "certwell: four hosts draw a certificate. Real nginx, a real ACME CA, all on this machine.",
    );
    narrator.print(&format!("Everything lives under {}.", shown(&directory)));

    narrator.act("The parts");
    narrator.doing("starting");
    let mut world = World::start_in(home, Net::demo(), &Settings::default(), &|part| {
        narrator.tell(part)
    })?;
    let addresses: Vec<String> = world
        .addresses(|_| true)
        .iter()
        .map(ToString::to_string)
        .collect();
    narrator.tell(&format!(
        "DNS answers {MEDIA} with {}, and nothing in it will change",
        addresses.join(", ")
    ));

    narrator.act("Before: every host serves a certificate that expired long ago");
    show_served(&world, narrator)?;

    narrator.act("The hosts join, each with a token that works once");
    narrator.doing("enrolling");
    for index in 0..world.hosts.len() {
        world.join(index)?;
    }
    for host in &world.hosts {
        world.issuer.connected(&host.name)?;
        narrator.tell(&format!("{}: enrolled, its agent is connected", host.name));
    }

    narrator.act(&format!(
        "First act: {MEDIA} is declared in conf.d; the rest happens by itself"
    ));
    let events = Events::follow(&world, narrator)?;
    world.issuer.declare("20-media", MEDIA_DECLARED)?;
    let first = arrival(&world, None, narrator)?;
    world.converged(MEDIA, 1, PATIENCE)?;
    events.told(&world, 1)?;
    show_status(&world, narrator)?;

    narrator
        .act("Second act: a renewal by hand, though nothing is due: certwell certificates renew");
    world
        .issuer
        .certwell(&["certificates", "renew", MEDIA])?
        .success("certwell certificates renew")?;
    arrival(&world, Some(first.fingerprint()), narrator)?;
    world.converged(MEDIA, 2, PATIENCE)?;
    events.told(&world, 2)?;
    show_status(&world, narrator)?;
    narrator.act("After: what the demo's own handshakes find");
    show_served(&world, narrator)?;
    narrator.tell(&format!(
        "{} orders at the CA, {} certificates issued",
        world.ca.orders(),
        world.ca.issued()
    ));
    narrator.done();
    world.ends(Ending::Keep);
    if once {
        println!("\nAll {} hosts serve what was issued.", world.hosts.len());
        return Ok(ExitCode::SUCCESS);
    }
    let to_try = to_try(&world)?;
    interruptible::runs_on(&directory, || println!("{to_try}"))
}

/// Waits until every host serves one new leaf, and tells of each host as it comes.
fn arrival(world: &World, before: Option<Fingerprint>, narrator: &Narrator) -> Result<Served> {
    let mut told = vec![false; world.hosts.len()];
    wait_for("every host to serve the new leaf", PATIENCE, || {
        for (host, told) in world
            .hosts
            .iter()
            .zip(&mut told)
            .filter(|(_, told)| !**told)
        {
            let served = host.served(MEDIA)?;
            if world.check_issued(MEDIA, &served).is_ok() && Some(served.fingerprint()) != before {
                *told = true;
                narrator.tell(&format!(">> {} serves {}", host.name, described(&served)));
            }
        }
        let done = told.iter().filter(|told| **told).count();
        narrator.doing(format!("{done} of {} hosts serve the new leaf", told.len()));
        ensure!(
            done == told.len(),
            "{done} of {} hosts serve it",
            told.len()
        );
        Ok(())
    })?;
    world.all_serve_new(MEDIA, before, PATIENCE, |_| true)
}

fn show_served(world: &World, narrator: &Narrator) -> Result<()> {
    for host in &world.hosts {
        let served = host.served(MEDIA)?;
        narrator.print(&format!(
            "  {:<16} {:<16} {}",
            host.name,
            host.https(),
            described(&served)
        ));
    }
    Ok(())
}

fn described(served: &Served) -> String {
    let leaf = &served.leaf;
    let day = leaf.not_after.strftime("%Y-%m-%d");
    let by = if leaf.self_issued {
        "self-signed".to_owned()
    } else {
        format!("by {}", leaf.issuer)
    };
    let end = if leaf.is_valid_at(clock::now()) {
        "until"
    } else {
        "EXPIRED on"
    };
    format!("{}… {by}, {end} {day}", leaf.fingerprint.short())
}

fn show_status(world: &World, narrator: &Narrator) -> Result<()> {
    let output = world
        .issuer
        .certwell(&["status"])?
        .success("certwell status")?;
    narrator.print(&format!(
        "\n$ certwell status\n{}",
        output.stdout.trim_end()
    ));
    Ok(())
}

fn to_try(world: &World) -> Result<String> {
    let sally = world.hosts.get(2).context("there are four hosts")?;
    let binaries = certwell_lab::paths::binaries()?;
    Ok(format!(
        "\nIt runs on; the page is http://{}/. In another terminal, from here:\n\n  \
         export PATH=\"{}:$PATH\" CERTWELL_SOCKET={}\n  \
         certwell status\n  \
         certwell explain {MEDIA}\n  \
         certwell watch\n  \
         certwell events --follow\n  \
         certwell page --token\n  \
         certwell certificates renew {MEDIA} --wait\n  \
         certwell-agent --config {} status\n  \
         curl -kv --resolve {MEDIA}:{}:{} https://{MEDIA}:{}/\n\n\
         Ctrl-C ends it, with every process that it started.",
        world.net.page(),
        shown(&binaries),
        shown(&world.issuer.socket()),
        shown(&sally.agent_config()),
        sally.https().port(),
        sally.https().ip(),
        sally.https().port(),
    ))
}

/// The path as seen from where the demo was started.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// `certwell events --follow`, told as it comes.
#[derive(Debug)]
struct Events {
    // In this order: the thread ends when its sender is gone.
    _process: Process,
    _until: mpsc::Sender<()>,
    last: Arc<AtomicU64>,
}

impl Events {
    fn follow(world: &World, narrator: &Narrator) -> Result<Self> {
        let log = world.directory().join("events.log");
        let process = world.issuer.follow_events(&log)?;
        let (until, ended) = mpsc::channel::<()>();
        let (narrator, last) = (narrator.clone(), Arc::new(AtomicU64::new(0)));
        let teller = Arc::clone(&last);
        thread::spawn(move || tell_lines(&log, &ended, &narrator, &teller));
        Ok(Self {
            _process: process,
            _until: until,
            last,
        })
    }

    /// Waits until it was told that each host serves this generation, and all that came before.
    fn told(&self, world: &World, generation: u64) -> Result<()> {
        wait_for("the events to be told", PATIENCE, || {
            let events = world.issuer.events()?;
            for host in &world.hosts {
                // What is known comes to be an event a moment later.
                let served = events.iter().any(|event| {
                    event.kind == "served"
                        && event.generation == Some(generation)
                        && event.host.as_ref() == Some(&host.name)
                });
                ensure!(served, "no event of {}", host.name);
            }
            let newest = events.last().map_or(0, |event| event.id);
            let last = self.last.load(Ordering::SeqCst);
            ensure!(last >= newest, "{last} of {newest}");
            Ok(())
        })
    }
}

fn tell_lines(log: &Path, ended: &mpsc::Receiver<()>, narrator: &Narrator, last: &AtomicU64) {
    let mut told = 0;
    while ended.recv_timeout(Duration::from_millis(50)) == Err(mpsc::RecvTimeoutError::Timeout) {
        let text = fs::read_to_string(log).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text.get(told..whole).unwrap_or_default().lines() {
            if let Ok(event) = serde_json::from_str::<Event>(line) {
                narrator.tell(&in_words(&event));
                last.store(event.id, Ordering::SeqCst);
            }
        }
        told = told.max(whole);
    }
}

fn in_words(event: &Event) -> String {
    match &event.host {
        Some(host) if !event.text.contains(host) => {
            format!("{}: {host}: {}", event.kind, event.text)
        }
        _ => format!("{}: {}", event.kind, event.text),
    }
}
