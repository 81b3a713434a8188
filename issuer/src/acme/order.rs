//! The order driver: asks the CA, lets plan::order decide, performs the step, commits it before the next.

use std::{sync::Arc, time::Duration};

use certwell_proto::{
    Identifier, KeyPair,
    bundle::{BundleError, Expected},
    v1::EventKind,
};
use jiff::Timestamp;

use tokio::sync::Semaphore;

use super::{
    accounts::describe,
    client::{Acme, AcmeError, PASSING},
    names::Names,
};
use crate::{
    clock,
    fleet::{Events, Registry},
    plan::{
        facts::{OrderFacts, OrderStage},
        order::{ChallengeState, OrderView, Step, next},
    },
    store::{Intent, Issued, OrderFailure, PendingOrder, Store},
};

/// The first pause between two questions about an order's state; it doubles.
const FIRST_POLL: Duration = Duration::from_millis(200);
/// The longest such pause.
const LONGEST_POLL: Duration = Duration::from_secs(5);
/// Orders under way at once, of all certificates.
pub const AT_ONCE: usize = 8;
/// An order that hasn't ended by then has failed.
const PATIENCE: Duration = Duration::from_secs(600);
/// Answers to challenges are repeated so often when the CA can't take them.
const ANSWERS: u32 = 3;

/// What drives orders.
#[derive(Clone)]
pub struct Driver {
    /// Where each step is committed.
    pub store: Arc<dyn Store>,
    /// Who is told how far it came.
    pub registry: Registry,
    /// What is written down for people.
    pub events: Events,
    /// Orders under way at once: a hundred certificates that fall due together queue here, not at the CA.
    pub at_once: Arc<Semaphore>,
    /// What certificates that share an identifier know of each other.
    pub names: Names,
}

/// How an order ended without a certificate.
#[derive(Debug)]
pub struct Ended {
    /// For the retry.
    pub failure: OrderFailure,
    /// What may be used again.
    pub then: Then,
}

/// What remains of an order that ended without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The order may still be finished: resume it by its URL.
    Resume,
    /// The CA doesn't know our account any more: make it anew with the same key, then order again.
    Reregister,
    /// The order is dead; its CSR was never sent, so the intent is ordered again.
    OrderAgain,
    /// The CSR was sent, or may have been: the intent must not be used again.
    Abandon,
}

impl Driver {
    /// Places or resumes the order and drives it to its end. Committed: the order's URL before any challenge,
    /// the bundle before anybody hears of it.
    ///
    /// # Errors
    /// When the order failed; the failure is not yet stored.
    pub async fn drive(
        &self,
        acme: &dyn Acme,
        pending: &mut PendingOrder,
        roots: &[Vec<u8>],
    ) -> Result<Issued, Ended> {
        // Never closed: without a permit there is nothing to be careful of.
        let _permit = self.at_once.acquire().await.ok();
        let intent = pending.intent.clone();
        let resumed = pending.url.is_some();
        let url = match pending.url.clone() {
            Some(url) => url,
            None => self.place(acme, pending).await?,
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut pause = FIRST_POLL;
        let mut answers = 0;
        let mut finalized = false;
        loop {
            let view = acme
                .order(&url, answers == 0)
                .await
                .map_err(|e| failed(e, finalized || resumed))?;
            match next(&view) {
                Step::Answer(open) if answers < ANSWERS => {
                    answers += 1;
                    self.stage(&intent, OrderStage::Challenge(intent.generation))
                        .await;
                    if answers == 1 {
                        let names: Vec<&str> = open
                            .iter()
                            .filter_map(|&index| view.authorizations.get(index))
                            .map(|a| a.identifier.as_str())
                            .collect();
                        self.tell(
                            &intent,
                            EventKind::Challenge,
                            format!("the CA may validate {}", names.join(", ")),
                        )
                        .await;
                    }
                    match acme.answer(&url, &open).await {
                        Err(error) if answers == ANSWERS => return Err(failed(error, false)),
                        Err(_) | Ok(()) => {}
                    }
                }
                Step::Answer(_) | Step::Poll => {}
                Step::Finalize if finalized => {}
                Step::Finalize => {
                    self.stage(&intent, OrderStage::Finalizing(intent.generation))
                        .await;
                    self.names.validated(&intent.identifiers);
                    acme.finalize(&url, &intent.csr)
                        .await
                        .map_err(|e| failed(e, true))?;
                    finalized = true;
                    pause = FIRST_POLL;
                    continue;
                }
                Step::Download => return self.download(acme, &url, &intent, roots).await,
                Step::GiveUp {
                    problem,
                    validation,
                } => {
                    let failure = OrderFailure {
                        at: clock::now(),
                        validation,
                        problem,
                        retry_at: None,
                    };
                    for name in refused(&view) {
                        self.names.failed(&name, failure.at);
                    }
                    let then = if validation {
                        Then::OrderAgain
                    } else {
                        Then::Abandon
                    };
                    return Err(Ended { failure, then });
                }
            }
            if tokio::time::Instant::now() >= deadline {
                let problem = format!(
                    "the CA has not finished the order {url} within {} minutes",
                    PATIENCE.as_secs() / 60
                );
                return Err(Ended {
                    failure: plain(problem),
                    then: Then::Resume,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_POLL);
        }
    }

    async fn place(&self, acme: &dyn Acme, pending: &mut PendingOrder) -> Result<String, Ended> {
        let intent = &pending.intent;
        self.stage(intent, OrderStage::Ordered(intent.generation))
            .await;
        let url = acme
            .new_order(&intent.identifiers, intent.replaces.as_deref())
            .await
            .map_err(|e| failed(e, false))?;
        self.store
            .order_placed(&intent.certificate, intent.generation, &url)
            .await
            .map_err(|e| Ended {
                failure: plain(describe(&e)),
                then: Then::Resume,
            })?;
        self.tell(
            intent,
            EventKind::Order,
            format!("ordered at {}", intent.authority),
        )
        .await;
        pending.url = Some(url.clone());
        Ok(url)
    }

    async fn download(
        &self,
        acme: &dyn Acme,
        url: &str,
        intent: &Intent,
        roots: &[Vec<u8>],
    ) -> Result<Issued, Ended> {
        // Downloading again is harmless: a failure here keeps the intent and its order.
        let fullchain = acme.download(url).await.map_err(|e| failed(e, false))?;
        let pair = KeyPair {
            fullchain,
            private_key: intent.private_key.clone(),
        };
        let now = clock::now();
        let verified = pair
            .verify(&Expected {
                identifiers: &intent.identifiers,
                roots,
                now,
            })
            .map_err(|e| Ended {
                failure: plain(format!(
                    "the CA issued a certificate that can't be used: {e}"
                )),
                then: after_unusable(&e),
            })?;
        let issued = Issued {
            certificate: intent.certificate.clone(),
            generation: intent.generation,
            identifiers: intent.identifiers.clone(),
            authority: intent.authority.clone(),
            fullchain: pair.fullchain,
            root: roots.get(verified.root).cloned().unwrap_or_default(),
            not_before: verified.leaf.not_before,
            not_after: verified.leaf.not_after,
            at: now,
        };
        self.store.finish_order(&issued).await.map_err(|e| Ended {
            failure: plain(describe(&e)),
            then: Then::Resume,
        })?;
        Ok(issued)
    }

    async fn stage(&self, intent: &Intent, stage: OrderStage) {
        let facts = OrderFacts {
            stage,
            ..OrderFacts::default()
        };
        self.registry.order(&intent.certificate, facts).await;
    }

    async fn tell(&self, intent: &Intent, kind: EventKind, text: String) {
        self.events
            .certificate(kind, &intent.certificate, intent.generation, text)
            .await;
    }
}

/// The identifiers that the CA couldn't validate.
fn refused(view: &OrderView) -> impl Iterator<Item = Identifier> {
    view.authorizations
        .iter()
        .filter(|authorization| matches!(authorization.challenge, ChallengeState::Failed(_)))
        .filter_map(|authorization| authorization.identifier.parse().ok())
}

fn plain(problem: String) -> OrderFailure {
    OrderFailure {
        at: clock::now(),
        validation: false,
        problem,
        retry_at: None::<Timestamp>,
    }
}

/// What is wrong with the certificate itself won't change. What is judged by our roots or our clock may: then the
/// certificate is fetched and judged again, for another order would cost one of those that the CA allows in a week.
fn after_unusable(error: &BundleError) -> Then {
    match error {
        BundleError::Chain(_)
        | BundleError::Root(_)
        | BundleError::NotYetValid(_)
        | BundleError::Unreadable { .. }
        | BundleError::Order(_)
        | BundleError::Empty => Then::Resume,
        BundleError::Key
        | BundleError::KeyMismatch
        | BundleError::Identifiers(_)
        | BundleError::Expired(_) => Then::Abandon,
    }
}

/// What the CA refuses for good won't get better by asking again; what it is too busy for, or an answer that
/// was lost on the way, will.
fn failed(error: AcmeError, csr_sent: bool) -> Ended {
    let passing = PASSING.contains(&error.kind.as_str()) || error.kind == "orderNotReady";
    let then = match (passing, csr_sent) {
        _ if error.kind == "accountDoesNotExist" => Then::Reregister,
        (true, _) => Then::Resume,
        (false, true) => Then::Abandon,
        (false, false) => Then::OrderAgain,
    };
    Ended {
        failure: OrderFailure {
            retry_at: error.retry_at,
            ..plain(error.problem)
        },
        then,
    }
}
