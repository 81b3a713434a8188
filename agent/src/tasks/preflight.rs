//! Asks this host's own nginx for a made-up token, as the CA will for a real one, for as long as the issuer wants to
//! know: a mended configuration turns the verdict by itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use certwell_proto::v1;
use tokio::sync::watch;

use super::{Shutdown, asked_to_stop, installer::HostFacts};
use crate::{
    clock,
    issuer::Desired,
    nginx::{Ask, Master, Nginx, Parsed, Settings, Verdict, addresses, preflight},
    plan::settled,
};

/// Between attempts while the verdict is no pass.
const AGAIN: Duration = Duration::from_secs(2);
/// Old workers may answer for a moment after a reload: a verdict of wrong is asked for again so soon, so often.
const SOON: Duration = Duration::from_millis(200);
const SOON_TIMES: u32 = 4;
/// How often the workers are looked at while they may be of two reloads, and how long.
const POLL: Duration = Duration::from_millis(50);
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// How long the challenge map may take to be in place before nginx is asked all the same.
const MAP_LIMIT: Duration = Duration::from_secs(10);

/// The task.
pub struct PreflightTask {
    /// The requests are in it.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// What the installer knows of nginx.
    pub host: watch::Receiver<HostFacts>,
    /// Which nginx is ours.
    pub settings: Settings,
    /// Results, by id; those of requests that no longer stand are dropped.
    pub results: watch::Sender<BTreeMap<String, v1::PreflightResult>>,
    /// The end.
    pub shutdown: Shutdown,
}

impl PreflightTask {
    /// Until shutdown.
    pub async fn run(mut self) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let desired = self.desired.borrow_and_update().clone();
            let wrong = match desired {
                Some(desired) => tokio::select! {
                    // An answer that is cut short is asked for again by the next agent.
                    () = asked_to_stop(&mut shutdown) => return,
                    wrong = self.answer_all(&desired) => wrong,
                },
                None => false,
            };
            let again = async {
                if wrong {
                    tokio::time::sleep(AGAIN).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = asked_to_stop(&mut self.shutdown) => return,
                changed = self.desired.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    /// Answers what isn't answered by a pass yet; whether something is wrong.
    async fn answer_all(&mut self, desired: &Desired) -> bool {
        self.results.send_if_modified(|results| {
            let before = results.len();
            results.retain(|id, _| desired.preflights.contains_key(id));
            results.len() != before
        });
        let open: Vec<String> = desired
            .preflights
            .keys()
            .filter(|id| {
                self.results
                    .borrow()
                    .get(*id)
                    .is_none_or(|r| r.verdict() != v1::PreflightVerdict::Pass)
            })
            .cloned()
            .collect();
        if open.is_empty() {
            return false;
        }
        let ready = self
            .host
            .wait_for(|host| host.answers.as_deref() == Some(desired.challenges.as_slice()));
        // Passed or not: what nginx says decides, not whether we think it is ready.
        let _ = tokio::time::timeout(MAP_LIMIT, ready).await;
        self.settled().await;
        let mut wrong = false;
        for id in open {
            let Some(ask) = desired.preflights.get(&id) else {
                continue;
            };
            let first = !self.results.borrow().contains_key(&id);
            let mut verdict = self.ask(ask).await;
            let mut more = if first { SOON_TIMES } else { 0 };
            while verdict != Verdict::Pass && more > 0 {
                tokio::time::sleep(SOON).await;
                self.settled().await;
                verdict = self.ask(ask).await;
                more -= 1;
            }
            wrong |= verdict != Verdict::Pass;
            self.publish(id, verdict);
        }
        wrong
    }

    /// Waits while old and new workers answer side by side: the CA may ask the other ones.
    async fn settled(&self) {
        let waiting = async {
            loop {
                let now = clock::now();
                let master = Nginx::find(&self.settings, now)
                    .ok()
                    .and_then(|nginx| nginx.master);
                let ages: Vec<Duration> = master
                    .iter()
                    .flat_map(Master::active)
                    .map(|worker| clock::until(worker.started, now))
                    .collect();
                if settled::is_settled(&ages) {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let _ = tokio::time::timeout(SETTLE_LIMIT, waiting).await;
    }

    async fn ask(&self, ask: &Ask) -> Verdict {
        // What stands in our own way tells nothing of what a CA would get.
        let parsed = match self.askable() {
            Ok(parsed) => parsed,
            Err(problem) => return Verdict::Erred(problem),
        };
        let local = addresses::local().unwrap_or_default();
        preflight::preflight(ask, &parsed.servers, &local).await
    }

    /// What nginx is configured to serve, where it runs and that is known; else why not.
    fn askable(&self) -> Result<Arc<Parsed>, String> {
        let host = self.host.borrow();
        let Some(parsed) = host.parsed.clone() else {
            return Err(if host.problem.is_empty() {
                "nginx's configuration isn't known yet".into()
            } else {
                host.problem.clone()
            });
        };
        match Nginx::find(&self.settings, clock::now()) {
            Ok(nginx) if nginx.master.is_some() => Ok(parsed),
            Ok(_) => Err("nginx isn't running: start it".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn publish(&self, id: String, verdict: Verdict) {
        let (kind, detail) = match verdict {
            Verdict::Pass => (v1::PreflightVerdict::Pass, String::new()),
            Verdict::Wrong(detail) => (v1::PreflightVerdict::Wrong, detail),
            Verdict::Erred(detail) => (v1::PreflightVerdict::Erred, detail),
        };
        let result = v1::PreflightResult {
            id: id.clone(),
            verdict: kind.into(),
            detail,
        };
        self.results.send_if_modified(|results| {
            if results.get(&id) == Some(&result) {
                return false;
            }
            match kind {
                v1::PreflightVerdict::Pass => tracing::info!("preflight: the CA would be answered"),
                v1::PreflightVerdict::Wrong => tracing::warn!(
                    problem = result.detail,
                    "preflight: the CA would not be answered"
                ),
                _ => tracing::warn!(
                    problem = result.detail,
                    "preflight: nginx can't be asked, so nothing is known of what the CA would get"
                ),
            }
            results.insert(id, result);
            true
        });
    }
}
