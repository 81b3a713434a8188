//! Whether what an edge has on its disk, and what it serves, belongs together: key, leaf and chain.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use certwell_proto::{Identifier, KeyPair, Leaf, Secret, bundle, pem};
use jiff::SignedDuration;

use crate::{
    debian::{Fleet, Machine},
    probe::Served,
};

/// A link that was switched while its files were read is followed again.
const SWITCHES: u32 = 5;

/// Judges one certificate. That a leaf is over is no fault here: that is asked elsewhere.
#[derive(Debug)]
pub(super) struct Judge {
    name: String,
    identifiers: Vec<Identifier>,
    roots: Vec<Vec<u8>>,
}

impl Judge {
    pub(super) fn of(fleet: &Fleet, name: &str) -> Result<Self> {
        let roots = pem::read_certificates(fleet.world.issuing_root()?.as_bytes())?;
        Ok(Self {
            name: name.to_owned(),
            identifiers: vec![name.parse()?],
            roots: roots.iter().map(|root| root.to_vec()).collect(),
        })
    }

    /// The pair at `live/NAME` of an edge, running or not: its key fits its leaf, and its chain leads to the CA's root.
    pub(super) fn on_disk(&self, edge: &Machine) -> Result<Leaf> {
        let live = format!("/etc/certwell/live/{}", self.name);
        let mut switches = 0;
        let pair = loop {
            let generation = follow(edge, &live)?;
            let pair = read(&generation);
            if pair.is_err() && follow(edge, &live)? != generation && switches < SWITCHES {
                switches += 1;
                continue;
            }
            break pair;
        };
        let pair = pair.with_context(|| format!("{}: what is at {live}", edge.name))?;
        let leaf = Leaf::read(pair.leaf_der())?;
        pair.verify(&self.expected(&leaf))
            .with_context(|| format!("{}: what is at {live}", edge.name))?;
        Ok(leaf)
    }

    /// The leaf that an edge showed in a handshake, for which it must have had the key: its chain leads to the CA's
    /// root.
    pub(super) fn served(&self, edge: &Machine, served: &Served) -> Result<()> {
        bundle::verify_chain(&served.chain, &self.expected(&served.leaf))
            .with_context(|| format!("{}: what it serves", edge.name))?;
        Ok(())
    }

    fn expected(&self, leaf: &Leaf) -> bundle::Expected<'_> {
        bundle::Expected {
            identifiers: &self.identifiers,
            roots: &self.roots,
            now: leaf.not_after - SignedDuration::from_secs(1),
        }
    }
}

/// Where the link leads, as seen from here.
fn follow(edge: &Machine, link: &str) -> Result<PathBuf> {
    let leads_to =
        fs::read_link(edge.path(link)).with_context(|| format!("{}: {link}", edge.name))?;
    let absolute = Path::new(link)
        .parent()
        .unwrap_or(Path::new("/"))
        .join(leads_to);
    Ok(edge.path(&absolute.to_string_lossy()))
}

fn read(generation: &Path) -> Result<KeyPair> {
    let file = |name: &str| {
        let path = generation.join(name);
        fs::read(&path).with_context(|| path.display().to_string())
    };
    let fullchain = pem::read_certificates(&file("fullchain.pem")?)?;
    let key = pem::read_private_key(&file("privkey.pem")?)?;
    Ok(KeyPair {
        fullchain: fullchain.iter().map(|der| der.to_vec()).collect(),
        private_key: Secret::new(key.secret_der().to_vec()),
    })
}
