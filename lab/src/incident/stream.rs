//! A steady stream of HTTPS requests to every edge, from outside: each on a connection of its own, each judged as a
//! browser would.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::{Fingerprint, Identifier, bundle};

use crate::{clock, debian::Fleet, probe};

/// Between two requests to one edge.
const PAUSE: Duration = Duration::from_millis(100);
/// That many failures are told word for word.
const TOLD: usize = 10;

/// Requests under way, until [`Stream::stop`].
#[derive(Debug)]
pub struct Stream {
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

/// What came of them so far.
#[derive(Debug, Default)]
struct Seen {
    over: AtomicBool,
    good: AtomicUsize,
    bad: AtomicUsize,
    told: Mutex<Vec<String>>,
    leaves: Mutex<BTreeSet<Fingerprint>>,
}

/// What came of a stream.
#[derive(Debug)]
pub struct Outcome {
    /// Answered with 200 over a chain that a browser takes.
    pub good: usize,
    /// Refused, broken off, expired, another's, or not answered.
    pub bad: usize,
    /// The first of the bad ones, word for word.
    pub told: Vec<String>,
    /// How many leaves were seen.
    pub leaves: usize,
}

impl Stream {
    /// Begins one to every edge, for `name`.
    ///
    /// # Errors
    /// When the CA's root can't be had.
    pub fn start(fleet: &Fleet, name: &str) -> Result<Self> {
        Self::to(fleet, name, |_| true)
    }

    /// The same to those edges alone that `wanted` picks.
    ///
    /// # Errors
    /// As for [`Stream::start`].
    pub fn to(fleet: &Fleet, name: &str, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let root = certwell_proto::pem::read_certificates(fleet.world.issuing_root()?.as_bytes())?
            .first()
            .context("the CA shows no root")?
            .to_vec();
        let identifiers: [Identifier; 1] = [name.parse()?];
        let seen = Arc::new(Seen::default());
        let threads = fleet
            .edges
            .iter()
            .filter(|edge| wanted(&edge.name))
            .map(|edge| {
                let judge = Judge {
                    address: (edge.address, 443).into(),
                    edge: edge.name.clone(),
                    name: name.to_owned(),
                    identifiers: identifiers.to_vec(),
                    roots: vec![root.clone()],
                };
                let seen = Arc::clone(&seen);
                thread::spawn(move || judge.ask_until_over(&seen))
            })
            .collect();
        Ok(Self { seen, threads })
    }

    /// How many were answered well so far.
    pub fn good(&self) -> usize {
        self.seen.good.load(Ordering::SeqCst)
    }

    /// Ends it.
    pub fn stop(mut self) -> Outcome {
        self.end();
        let told = self
            .seen
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let leaves = self
            .seen
            .leaves
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Outcome {
            good: self.good(),
            bad: self.seen.bad.load(Ordering::SeqCst),
            told: told.clone(),
            leaves: leaves.len(),
        }
    }

    fn end(&mut self) {
        self.seen.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks one edge.
struct Judge {
    address: SocketAddr,
    edge: String,
    name: String,
    identifiers: Vec<Identifier>,
    roots: Vec<Vec<u8>>,
}

impl Judge {
    fn ask_until_over(&self, seen: &Seen) {
        while !seen.over.load(Ordering::SeqCst) {
            match self.ask() {
                Ok(leaf) => {
                    seen.good.fetch_add(1, Ordering::SeqCst);
                    let mut leaves = seen.leaves.lock().unwrap_or_else(PoisonError::into_inner);
                    leaves.insert(leaf);
                }
                Err(error) => {
                    seen.bad.fetch_add(1, Ordering::SeqCst);
                    let mut told = seen.told.lock().unwrap_or_else(PoisonError::into_inner);
                    if told.len() < TOLD {
                        told.push(format!("{} {}: {error:#}", clock::now(), self.edge));
                    }
                }
            }
            thread::sleep(PAUSE);
        }
    }

    /// One request, on a new connection.
    fn ask(&self) -> Result<Fingerprint> {
        let mut stream = probe::connect(self.address, &self.name)?;
        write!(stream, "GET / HTTP/1.0\r\nHost: {}\r\n\r\n", self.name)
            .context("handshake or request")?;
        let chain: Vec<Vec<u8>> = stream
            .conn
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|der| der.to_vec())
            .collect();
        let expected = bundle::Expected {
            identifiers: &self.identifiers,
            roots: &self.roots,
            now: clock::now(),
        };
        bundle::verify_chain(&chain, &expected)?;
        let body = probe::read_reply(&mut stream)?;
        ensure!(!body.is_empty(), "an empty answer");
        let leaf = chain.first().context("no certificate")?;
        Ok(Fingerprint::of(leaf))
    }
}
