//! Somebody who looks on: handshakes one after another, from before a fault to after it. What the host promises its
//! visitors is judged by what this one was shown, and not by what the agent says.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use certwell_proto::{Fingerprint, v1};

use crate::{host::served_at, issuer::eventually, world::leaf};

/// Between two handshakes: the machine is for the host.
const PAUSE: Duration = Duration::from_millis(2);
/// Fewer would prove little.
const MANY: u32 = 20;

/// The same answer so many times in a row; `None` where no handshake came about.
struct Run {
    told: bool,
    leaf: Option<Fingerprint>,
    times: u32,
}

#[derive(Default)]
struct Flags {
    told: AtomicBool,
    count: AtomicU32,
    over: AtomicBool,
}

pub(crate) struct Witness {
    flags: Arc<Flags>,
    thread: JoinHandle<Vec<Run>>,
}

impl Witness {
    pub(crate) fn of(address: SocketAddr) -> Self {
        let flags = Arc::new(Flags::default());
        let until = flags.clone();
        let thread = std::thread::spawn(move || {
            let mut runs: Vec<Run> = Vec::new();
            let enough = || until.count.load(Ordering::SeqCst) >= MANY;
            while !until.over.load(Ordering::SeqCst) || !enough() {
                // Judged by what was told before the handshake began.
                let told = until.told.load(Ordering::SeqCst);
                let leaf = served_at(address);
                until.count.fetch_add(1, Ordering::SeqCst);
                match runs.last_mut() {
                    Some(run) if (run.told, run.leaf) == (told, leaf) => run.times += 1,
                    _ => runs.push(Run {
                        told,
                        leaf,
                        times: 1,
                    }),
                }
                std::thread::sleep(PAUSE);
            }
            runs
        });
        Self { flags, thread }
    }

    /// From here on the host says that the new one is served.
    pub(crate) fn is_told(&self) {
        self.flags.told.store(true, Ordering::SeqCst);
    }

    /// Until there were so many handshakes more.
    pub(crate) async fn sees_more(&self, handshakes: u32) {
        let count = || self.flags.count.load(Ordering::SeqCst);
        let enough = count() + handshakes;
        eventually("so many handshakes", || async {
            (count() >= enough).then_some(())
        })
        .await;
    }

    fn end(self) -> Vec<Run> {
        self.flags.over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }

    /// Nothing but this leaf, and no handshake that failed; how many there were.
    pub(crate) fn saw_only(self, bundle: &v1::Bundle) -> u32 {
        let runs = self.end();
        let strange = runs.iter().find(|run| run.leaf != Some(leaf(bundle)));
        assert!(strange.is_none(), "{}", shown(&runs, &[bundle]));
        enough(&runs)
    }

    /// The old leaf or the new one, and none but the new one since it was told; no handshake failed. How many there
    /// were.
    pub(crate) fn saw_change(self, old: &v1::Bundle, new: &v1::Bundle) -> u32 {
        let runs = self.end();
        let allowed =
            |run: &Run| run.leaf == Some(leaf(new)) || (!run.told && run.leaf == Some(leaf(old)));
        assert!(runs.iter().all(allowed), "{}", shown(&runs, &[old, new]));
        let last = runs.last().and_then(|run| run.leaf);
        assert_eq!(last, Some(leaf(new)), "{}", shown(&runs, &[old, new]));
        enough(&runs)
    }

    /// No handshake failed, and each showed one of these, the last of them in the end.
    pub(crate) fn saw_no_gap(self, bundles: &[&v1::Bundle]) {
        let runs = self.end();
        let gap = runs.iter().any(|run| run.leaf.is_none());
        assert!(!gap, "{}", shown(&runs, bundles));
        known_only(&runs, bundles);
    }

    /// Whatever was shown was one of these, and the last of them in the end; handshakes may have failed.
    pub(crate) fn saw_no_other(self, bundles: &[&v1::Bundle]) {
        known_only(&self.end(), bundles);
    }
}

fn known_only(runs: &[Run], bundles: &[&v1::Bundle]) {
    let known = |seen: Fingerprint| bundles.iter().any(|of| leaf(of) == seen);
    let strange = runs.iter().filter_map(|run| run.leaf).any(|of| !known(of));
    assert!(!strange, "{}", shown(runs, bundles));
    let last = runs.last().and_then(|run| run.leaf);
    let wanted = bundles.last().map(|of| leaf(of));
    assert_eq!(last, wanted, "{}", shown(runs, bundles));
    enough(runs);
}

fn enough(runs: &[Run]) -> u32 {
    let all = runs.iter().map(|run| run.times).sum();
    assert!(all >= MANY, "{all} handshakes only");
    all
}

/// What was seen, for a person.
fn shown(runs: &[Run], bundles: &[&v1::Bundle]) -> String {
    let one = |run: &Run| {
        let what = match run.leaf {
            None => "no handshake".to_owned(),
            Some(seen) => bundles.iter().find(|of| leaf(of) == seen).map_or_else(
                || "a stranger".to_owned(),
                |of| format!("generation {}", of.generation),
            ),
        };
        let told = if run.told { " after it was told" } else { "" };
        format!("{} times {what}{told}", run.times)
    };
    runs.iter().map(one).collect::<Vec<_>>().join(", ")
}
