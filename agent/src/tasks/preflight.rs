//! Asks this host's own nginx for a made-up token, as the CA will for a real one, for as long as the issuer wants to
//! know: a mended configuration turns the verdict by itself. Each question is asked by a future of its own, so that a slow
//! answer to one holds up neither another nor news from the issuer.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use certwell_proto::v1;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{AbortHandle, JoinSet},
};

use super::{Shutdown, asked_to_stop, installer::HostFacts};
use crate::{
    clock,
    exec::{self, targets::is_local},
    issuer::Desired,
    nginx::{Ask, Challenge, Master, Nginx, Parsed, Settings, Verdict, addresses, preflight},
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
/// How long nginx may take to be known before that is said.
const KNOWN_LIMIT: Duration = Duration::from_secs(10);
/// For one attempt, however many names and redirects it has.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(60);
/// Questions that are asked at once.
const AT_ONCE: usize = 4;

/// The task.
pub struct PreflightTask {
    /// The requests are in it.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// What the installer knows of nginx.
    pub host: watch::Receiver<HostFacts>,
    /// Which nginx is ours.
    pub settings: Settings,
    /// The server in the place of nginx.
    pub exec: Option<exec::Settings>,
    /// Results, by id; those of requests that no longer stand are dropped.
    pub results: watch::Sender<BTreeMap<String, v1::PreflightResult>>,
    /// The end.
    pub shutdown: Shutdown,
}

/// One request, with the map by which it is to be answered.
#[derive(Clone, PartialEq)]
struct Question {
    ask: Ask,
    challenges: Vec<Challenge>,
}

/// What every question needs to be asked.
#[derive(Clone)]
struct Asker {
    host: watch::Receiver<HostFacts>,
    settings: Settings,
    exec: Option<exec::Settings>,
    turns: Arc<Semaphore>,
    answers: mpsc::Sender<(String, Verdict)>,
}

impl PreflightTask {
    /// Until shutdown.
    pub async fn run(mut self) {
        let (answers, mut answered) = mpsc::channel(AT_ONCE);
        let asker = Asker {
            host: self.host.clone(),
            settings: self.settings.clone(),
            exec: self.exec.clone(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            answers,
        };
        let mut asked: BTreeMap<String, (Question, AbortHandle)> = BTreeMap::new();
        // Dropped with this future: nothing runs on, and what is cut short is asked again by the next agent.
        let mut tasks = JoinSet::new();
        loop {
            let desired = self.desired.borrow_and_update().clone();
            if let Some(desired) = desired {
                self.adopt(&desired, &asker, &mut asked, &mut tasks);
            }
            // Cancel-safe: all of them are waits that keep what has come.
            tokio::select! {
                () = asked_to_stop(&mut self.shutdown) => return,
                changed = self.desired.changed() => if changed.is_err() { return },
                Some((id, verdict)) = answered.recv() => {
                    if asked.contains_key(&id) {
                        self.publish(id, verdict);
                    }
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Asks what is new, and no longer what is gone.
    fn adopt(
        &self,
        desired: &Desired,
        asker: &Asker,
        asked: &mut BTreeMap<String, (Question, AbortHandle)>,
        tasks: &mut JoinSet<()>,
    ) {
        self.results.send_if_modified(|results| {
            let before = results.len();
            results.retain(|id, _| desired.preflights.contains_key(id));
            results.len() != before
        });
        let question = |ask: &Ask| Question {
            ask: ask.clone(),
            challenges: desired.challenges.clone(),
        };
        asked.retain(|id, (present, task)| {
            let stays = desired.preflights.get(id).map(question).as_ref() == Some(&*present);
            if !stays {
                task.abort();
            }
            stays
        });
        for (id, ask) in &desired.preflights {
            asked.entry(id.clone()).or_insert_with(|| {
                let question = question(ask);
                let asking = asker.clone().until_pass(id.clone(), question.clone());
                (question, tasks.spawn(asking))
            });
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

impl Asker {
    /// Asks until it passes; each answer is told.
    async fn until_pass(mut self, id: String, question: Question) {
        let mut soon = SOON_TIMES;
        loop {
            self.map_in_place(&id, &question).await;
            let verdict = self.attempt(&question.ask).await;
            let passed = verdict == Verdict::Pass;
            if !passed && soon > 0 {
                soon -= 1;
                tokio::time::sleep(SOON).await;
                continue;
            }
            if self.answers.send((id.clone(), verdict)).await.is_err() || passed {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Waits until nginx answers by the map in question: before that, nothing is known. That nginx itself can't be
    /// asked is said meanwhile.
    async fn map_in_place(&mut self, id: &str, question: &Question) {
        loop {
            let ready = self
                .host
                .wait_for(|host| host.answers.as_ref() == Some(&question.challenges));
            if tokio::time::timeout(KNOWN_LIMIT, ready).await.is_ok() {
                return;
            }
            if let Err(problem) = self.askable() {
                let told = (id.to_owned(), Verdict::Erred(problem));
                let _ = self.answers.send(told).await;
            }
        }
    }

    async fn attempt(&self, ask: &Ask) -> Verdict {
        let Ok(_turn) = self.turns.acquire().await else {
            return Verdict::Erred("the agent is ending".into());
        };
        let attempt = async {
            self.settled().await;
            self.ask(ask).await
        };
        tokio::time::timeout(ATTEMPT_LIMIT, attempt)
            .await
            .unwrap_or_else(|_| {
                Verdict::Erred(format!(
                    "asking nginx took more than {} s",
                    ATTEMPT_LIMIT.as_secs()
                ))
            })
    }

    /// Waits while old and new workers answer side by side: the CA may ask the other ones.
    async fn settled(&self) {
        if self.exec.is_some() {
            return;
        }
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
        let local = addresses::local().unwrap_or_default();
        if let Some(exec) = &self.exec {
            let here: BTreeSet<IpAddr> = exec
                .addresses
                .iter()
                .map(SocketAddr::ip)
                .filter(|ip| is_local(*ip, &local))
                .collect();
            return preflight::at(ask, here.into_iter().collect()).await;
        }
        // What stands in our own way tells nothing of what a CA would get.
        let parsed = match self.askable() {
            Ok(parsed) => parsed,
            Err(problem) => return Verdict::Erred(problem),
        };
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
}
