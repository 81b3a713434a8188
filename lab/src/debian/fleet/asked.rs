//! What a fleet is asked: by `certwell` on fritz, and by handshakes from outside.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Fingerprint;

use super::Fleet;
use crate::{
    debian::Machine,
    probe::{self, Served},
    program::Output,
    settings::MEDIA,
    status::{Event, Status},
    wait::wait_for,
};

impl Fleet {
    /// `certwell` on fritz.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn certwell(&self, args: &[&str]) -> Result<Output> {
        self.fritz
            .run(["certwell"].into_iter().chain(args.iter().copied()))
    }

    /// `certwell status --json` on fritz.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn status(&self) -> Result<Status> {
        let said = self.certwell(&["status", "--json"])?;
        serde_json::from_str(&said.stdout)
            .with_context(|| format!("{}{}", said.stdout, said.stderr))
    }

    /// Every event on fritz so far, oldest first.
    ///
    /// # Errors
    /// When they can't be had.
    pub fn events(&self) -> Result<Vec<Event>> {
        let said = self
            .certwell(&["events", "--last", "0", "--json"])?
            .success("certwell events")?;
        said.stdout
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// Asks for a renewal of a certificate now, as a person does.
    ///
    /// # Errors
    /// When the issuer refuses.
    pub fn renew(&self, certificate: &str) -> Result<()> {
        self.certwell(&["certificates", "renew", certificate])?
            .success("certwell certificates renew")
            .map(drop)
    }

    /// Waits until all hosts of the certificate that `wanted` picks serve `generation` or a later one, by `certwell
    /// status`.
    ///
    /// # Errors
    /// When it doesn't happen in time.
    pub fn converged(
        &self,
        certificate: &str,
        generation: u64,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<u64> {
        let what = format!("{certificate} converged at generation {generation} or later");
        wait_for(&what, within, || {
            let status = self.status()?;
            let found = status.certificate(certificate).context("not in status")?;
            let done =
                found.generation >= generation
                    && found
                        .hosts
                        .iter()
                        .filter(|host| wanted(&host.host))
                        .all(|host| {
                            host.state == "converged"
                                && host.facts.served.as_ref().is_some_and(|served| {
                                    served.generation == Some(found.generation)
                                })
                        });
            ensure!(done, "{}", found.states());
            Ok::<_, anyhow::Error>(found.generation)
        })
    }

    /// What an edge serves for a name, by a handshake from outside.
    ///
    /// # Errors
    /// When no handshake comes about.
    pub fn served(&self, edge: &Machine, name: &str) -> Result<Served> {
        probe::handshake((edge.address, 443).into(), name)
    }

    /// The fingerprint of the one leaf that all edges serve for [`MEDIA`].
    ///
    /// # Errors
    /// When they differ, or one doesn't serve.
    pub fn common_leaf(&self) -> Result<Fingerprint> {
        let mut found = None;
        for edge in &self.edges {
            let leaf = self.served(edge, MEDIA)?.fingerprint();
            ensure!(
                *found.get_or_insert(leaf) == leaf,
                "{} serves another leaf than those before it",
                edge.name
            );
        }
        found.context("there are no edges")
    }
}
