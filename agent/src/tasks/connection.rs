//! Keeps the stream of desired states: dials when the plan says, publishes what comes, and never gives up.

use std::sync::Arc;

use certwell_proto::{Lineage, v1};
use prost::Message as _;
use tokio::{sync::watch, time::Instant};
use tonic::Code;

use super::{Shutdown, asked_to_stop, observed::Observed};
use crate::{
    clock,
    issuer::{
        Connection, Desired, Identity,
        connection::{CALL_LIMIT, words},
        tls,
    },
    jitter,
    plan::{admit, connect},
};

/// The state of the connection.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// While a stream is established.
    pub connection: Option<Connection>,
    /// What the issuer was told when it was established.
    pub told: Arc<v1::Report>,
    /// Since when it is so, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// When it was lost, or first not established, by a clock that nobody sets; `None` while there is one.
    pub lost: Option<Instant>,
    /// When something last came from the issuer, milliseconds since the Unix epoch; 0: not in this process.
    pub last_contact_ms: i64,
    /// Why there is none; empty when there is.
    pub problem: String,
    /// Through which an issuer asked this host to show its bound key, and which time that was: it was restored from a
    /// backup that doesn't know this host.
    pub forgotten: Option<(u64, Connection)>,
}

impl Link {
    /// Tells one established connection from another.
    pub fn session(&self) -> Option<i64> {
        self.connection.as_ref().map(|_| self.since_ms)
    }
}

/// The task.
pub struct ConnectionTask {
    /// Who we are; changes when it is renewed.
    pub identity: watch::Receiver<Arc<Identity>>,
    /// What to tell at once.
    pub observed: watch::Receiver<Observed>,
    /// What the issuer wants.
    pub desired: watch::Sender<Option<Arc<Desired>>>,
    /// The same as it came, without preflights, for a start without the issuer. It holds no secret.
    pub kept: watch::Sender<Vec<u8>>,
    /// The state of the connection.
    pub link: watch::Sender<Link>,
    /// The newest lineage seen.
    pub lineage: Option<Lineage>,
    /// The end.
    pub shutdown: Shutdown,
}

/// How a session ended.
enum Ended {
    Stop,
    Again(connect::Why, String),
}

impl ConnectionTask {
    /// Until shutdown.
    pub async fn run(mut self) {
        let mut why = connect::Why::Started;
        let mut failures = 0_u32;
        loop {
            let wait = self.wait(why);
            tokio::select! {
                // Nothing has begun that could be lost.
                () = asked_to_stop(&mut self.shutdown) => return,
                () = tokio::time::sleep(wait) => {}
                // There is something new to try with.
                _ = self.identity.changed() => {}
            }
            match self.session().await {
                Ended::Stop => return,
                Ended::Again(next, problem) => {
                    failures = if let connect::Why::Failed(_) = next {
                        failures + 1
                    } else {
                        0
                    };
                    why = if failures > 0 {
                        connect::Why::Failed(failures)
                    } else {
                        next
                    };
                    if !problem.is_empty() {
                        tracing::warn!(problem, failures, "no connection to the issuer");
                    }
                    self.lost(problem);
                }
            }
        }
    }

    fn wait(&self, why: connect::Why) -> std::time::Duration {
        let window = self
            .desired
            .borrow()
            .as_ref()
            .map_or(std::time::Duration::ZERO, |desired| {
                desired.reconnect_window
            });
        let remaining = if self.desired.borrow().is_none() {
            // A host that has never heard what is wanted of it is in need.
            Some(std::time::Duration::ZERO)
        } else {
            self.observed.borrow().remaining(clock::now())
        };
        connect::wait(why, window, remaining, jitter::fraction())
    }

    fn lost(&self, problem: String) {
        let now = clock::now().as_millisecond();
        self.link.send_modify(|link| {
            if link.connection.take().is_some() || link.since_ms == 0 {
                link.since_ms = now;
                link.lost = Some(Instant::now());
            }
            link.problem = problem;
        });
    }

    fn endpoints(&self, identity: &Identity) -> Vec<String> {
        let mut list = self
            .desired
            .borrow()
            .as_ref()
            .map(|desired| desired.endpoints.clone())
            .unwrap_or_default();
        // Those of the enrollment stay as a way back, should new ones be wrong.
        for endpoint in &identity.endpoints {
            if !list.contains(endpoint) {
                list.push(endpoint.clone());
            }
        }
        list
    }

    async fn session(&mut self) -> Ended {
        let failed = |problem: String| Ended::Again(connect::Why::Failed(1), problem);
        let identity = self.identity.borrow_and_update().clone();
        let now = clock::now();
        if identity.not_after <= now {
            return failed(format!(
                "this host's identity ended at {} by this machine's clock, which says {now}: where that is wrong, set it (timedatectl, chrony); else stop the agent and run `certwell-agent enroll --again TOKEN` with a new token",
                identity.not_after
            ));
        }
        let config = match tls::with_identity(&identity) {
            Ok(config) => config,
            Err(error) => return failed(error.to_string()),
        };
        let endpoints = self.endpoints(&identity);
        let dialled = tokio::select! {
            () = asked_to_stop(&mut self.shutdown) => return Ended::Stop,
            dialled = Connection::dial(&endpoints, &config) => dialled,
        };
        let connection = match dialled {
            Ok(connection) => connection,
            Err(error) => return failed(error.to_string()),
        };
        let observed = self.observed.borrow().clone();
        let report = observed.to_report();
        let request = v1::WatchRequest {
            host_info: Some(observed.info),
            observed: Some(report.clone()),
        };
        let mut fleet = connection.fleet();
        let silent = || {
            failed(format!(
                "the issuer said nothing within {} s",
                CALL_LIMIT.as_secs()
            ))
        };
        let limit = Instant::now() + CALL_LIMIT;
        let opened = tokio::select! {
            () = asked_to_stop(&mut self.shutdown) => return Ended::Stop,
            opened = tokio::time::timeout_at(limit, fleet.watch(request)) => opened,
        };
        let mut stream = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                if status.code() == Code::FailedPrecondition {
                    self.forgotten(connection);
                }
                return failed(refusal(&status));
            }
            Err(_) => return silent(),
        };
        let mut established: Option<Instant> = None;
        loop {
            let message = tokio::select! {
                () = asked_to_stop(&mut self.shutdown) => return Ended::Stop,
                // The stream is made anew by the new identity; what it would have said is said again.
                _ = self.identity.changed() => return Ended::Again(connect::Why::NewIdentity, String::new()),
                // The whole state is sent at once; after that silence means that nothing changes.
                () = tokio::time::sleep_until(limit), if established.is_none() => return silent(),
                message = stream.message() => message,
            };
            match message {
                Ok(Some(state)) => {
                    if let Err(problem) = self.take(state) {
                        return failed(problem);
                    }
                    if established.is_none() {
                        established = Some(Instant::now());
                        tracing::info!("connected to the issuer");
                    }
                    self.contact(&connection, &report);
                }
                end => {
                    let problem = match end {
                        Err(status) => refusal(&status),
                        _ => "the issuer ended the stream".to_owned(),
                    };
                    let why = connect::ended(established.map(|since| since.elapsed()));
                    return Ended::Again(why, problem);
                }
            }
        }
    }

    /// The identity task is to show the bound key, and makes a new identity of it.
    fn forgotten(&self, connection: Connection) {
        self.link.send_modify(|link| {
            let times = link.forgotten.take().map_or(0, |(times, _)| times);
            link.forgotten = Some((times + 1, connection));
        });
    }

    fn contact(&self, connection: &Connection, report: &v1::Report) {
        let now = clock::now().as_millisecond();
        self.link.send_modify(|link| {
            if link.connection.is_none() {
                link.connection = Some(connection.clone());
                link.told = Arc::new(report.clone());
                link.since_ms = now;
                link.lost = None;
            }
            if let Some((_, left)) = &mut link.forgotten {
                // The old connection isn't kept open by it.
                *left = connection.clone();
            }
            link.last_contact_ms = now;
            link.problem.clear();
        });
    }

    /// Publishes a state that can be believed.
    fn take(&mut self, mut state: v1::DesiredState) -> Result<(), String> {
        let preflights = std::mem::take(&mut state.preflights);
        let bytes = state.encode_to_vec();
        state.preflights = preflights;
        let desired = Desired::try_from(state)
            .map_err(|error| format!("the issuer's desired state can't be used: {error}"))?;
        admit::lineage(self.lineage, desired.lineage).map_err(|refusal| refusal.to_string())?;
        self.lineage = Some(desired.lineage);
        self.kept.send_if_modified(|kept| {
            let news = *kept != bytes;
            *kept = bytes;
            news
        });
        self.desired.send_if_modified(|present| {
            if present.as_deref() == Some(&desired) {
                return false;
            }
            *present = Some(Arc::new(desired));
            true
        });
        Ok(())
    }
}

fn refusal(status: &tonic::Status) -> String {
    let said = words(status);
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => format!(
            "the issuer refuses this host: {said}; if it was revoked, stop the agent and run `certwell-agent enroll --again TOKEN` with a new token"
        ),
        _ => said,
    }
}
