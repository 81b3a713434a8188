//! The steps of one certificate alone: fetch, verify, stage, candidate test. Whatever fails ends it alone, and nothing
//! that nginx serves is touched.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use certwell_proto::{
    Bundle, CertificateName, Generation,
    bundle::{BundleError, Expected},
    v1,
};

use super::{
    Installer, asked_to_stop,
    host::RUN_LIMIT,
    places,
    round::{Running, advance, fact, finish},
    server::Server,
};
use crate::{
    clock,
    issuer::connection,
    nginx::{Tested, candidate},
    plan::install::Progress,
};

/// For one bundle over the wire.
const FETCH_LIMIT: Duration = Duration::from_secs(30);

impl Installer {
    pub(super) async fn fetch(&mut self, running: &mut Running, name: &CertificateName) -> bool {
        let Some(trail) = running.trails.get_mut(name) else {
            return finish(&mut running.round, name);
        };
        let Some(connection) = self.link.borrow().connection.clone() else {
            trail.stop("the issuer is not reached".into());
            self.conclude(running, name);
            return false;
        };
        let request = v1::FetchRequest {
            certificate: name.to_string(),
            generation: trail.generation.0,
        };
        let mut fleet = connection.fleet();
        let answered = tokio::select! {
            // Nothing was touched yet.
            () = asked_to_stop(&mut self.shutdown) => return finish(&mut running.round, name),
            answered = tokio::time::timeout(FETCH_LIMIT, fleet.fetch(request)) => answered,
        };
        let bundle = match answered {
            Err(_) => Err("the issuer didn't answer the fetch in time".to_owned()),
            Ok(Err(status)) => Err(format!(
                "it can't be fetched: {}",
                connection::words(&status)
            )),
            Ok(Ok(response)) => Bundle::try_from(response.into_inner())
                .map_err(|error| format!("the bundle can't be read: {error}")),
        };
        let bundle = bundle.and_then(|bundle| {
            let as_announced = bundle.certificate == *name
                && bundle.generation == trail.generation
                && bundle.fingerprints() == trail.wanted.fingerprints;
            if as_announced {
                Ok(bundle)
            } else {
                Err("the issuer sent another bundle than it announced".into())
            }
        });
        match bundle {
            Ok(bundle) => {
                trail.bundle = Some(bundle);
                self.ledger.entry_mut(name).facts.fetched = Some(fact(trail.generation));
                self.ledger_dirty = true;
                advance(&mut running.round, name, Progress::Fetched);
            }
            Err(why) => {
                trail.stop(why);
                self.conclude(running, name);
            }
        }
        true
    }

    pub(super) fn verify(&mut self, running: &mut Running, name: &CertificateName) -> bool {
        let Some(trail) = running.trails.get_mut(name) else {
            return finish(&mut running.round, name);
        };
        let expected = Expected {
            identifiers: &trail.wanted.identifiers,
            roots: &trail.wanted.roots,
            now: clock::now(),
        };
        let pairs = trail
            .bundle
            .as_ref()
            .map(|bundle| bundle.key_pairs.as_slice())
            .unwrap_or_default();
        let wrong = pairs.iter().find_map(|pair| pair.verify(&expected).err());
        match wrong {
            None => {
                trail.found.verified = Some(true);
                advance(&mut running.round, name, Progress::Verified);
            }
            // Dates are judged by this host's clock, which may be the one that is wrong: the generation isn't.
            Some(error @ (BundleError::NotYetValid(_) | BundleError::Expired(_))) => {
                trail.stop(error.to_string());
                self.conclude(running, name);
            }
            Some(error) => {
                trail.found.verified = Some(false);
                trail.why = error.to_string();
                self.conclude(running, name);
            }
        }
        true
    }

    pub(super) fn stage(&mut self, running: &mut Running, name: &CertificateName) -> bool {
        let Some(trail) = running.trails.get_mut(name) else {
            return finish(&mut running.round, name);
        };
        let Some(bundle) = trail.bundle.take() else {
            return finish(&mut running.round, name);
        };
        let places = places::make_ready(&self.live, &self.config);
        if let Err(error) = places {
            trail.stop(error.to_string());
            self.conclude(running, name);
            return true;
        }
        match self.store.stage(&bundle) {
            Ok(record) => {
                let lineage = self.ledger.lineage().map(|lineage| lineage.id.to_string());
                self.ledger
                    .entry_mut(name)
                    .record_staged(trail.generation, record, lineage);
                self.ledger_dirty = true;
                advance(&mut running.round, name, Progress::Staged);
            }
            Err(error) => {
                trail.stop(if error.is_full() {
                    format!("the disk is full: {error}")
                } else {
                    error.to_string()
                });
                self.conclude(running, name);
            }
        }
        true
    }

    pub(super) async fn test_candidate(
        &mut self,
        running: &mut Running,
        name: &CertificateName,
    ) -> bool {
        let Some(generation) = running.trails.get(name).map(|trail| trail.generation) else {
            return finish(&mut running.round, name);
        };
        let Ok(Server::Nginx(nginx)) = self.host.server() else {
            // No nginx to ask: the plan goes on without. Another server's test is about all that it would load.
            advance(&mut running.round, name, Progress::Ready);
            return true;
        };
        let pairs = self.staged_pairs(name, generation);
        let invocation = nginx.invocation.clone();
        let scratch = self.config.state_directory.clone();
        let testing = candidate::test(&invocation, &pairs, &scratch, RUN_LIMIT);
        let is_last = !running
            .round
            .certificates
            .iter()
            .any(|(other, candidate)| other != name && candidate.progress < Progress::Ready);
        let tested = if is_last {
            // nginx needs a processor of its own for some milliseconds: what comes next anyway is done meanwhile.
            let names: Vec<CertificateName> = running.trails.keys().cloned().collect();
            let server = Server::Nginx(nginx);
            let (tested, ()) = tokio::join!(testing, self.make_ready(&server, &names));
            tested
        } else {
            testing.await
        };
        let Some(trail) = running.trails.get_mut(name) else {
            return finish(&mut running.round, name);
        };
        match tested {
            Ok(Tested::Passed { .. }) => {
                trail.found.candidate = Some(true);
                advance(&mut running.round, name, Progress::Ready);
            }
            Ok(Tested::Refused { words }) => {
                trail.found.candidate = Some(false);
                trail.why = words;
                self.conclude(running, name);
            }
            Err(error) => {
                trail.stop(error.to_string());
                self.conclude(running, name);
            }
        }
        true
    }

    /// The ledger and the look at the listeners that an activation needs.
    async fn make_ready(&mut self, server: &Server, names: &[CertificateName]) {
        self.save();
        if server.runs().await {
            self.survey_before(server, names).await;
        }
    }

    fn staged_pairs(
        &self,
        name: &CertificateName,
        generation: Generation,
    ) -> Vec<(PathBuf, PathBuf)> {
        let directory = self.store.path(name, generation);
        let files = self
            .ledger
            .entry(name)
            .and_then(|entry| entry.staged.get(&generation.0))
            .map(|record| &record.files);
        files
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter_map(|file| Some((file, file.strip_prefix("fullchain")?)))
            .map(|(file, suffix)| {
                (
                    directory.join(file),
                    directory.join(format!("privkey{suffix}")),
                )
            })
            .collect()
    }
}
