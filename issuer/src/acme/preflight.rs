//! The preflight of an issuance: the question to its challenge hosts, and waiting for their verdicts.

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use certwell_proto::{Generation, HostName, v1::EventKind};
use tokio::time::Instant;

use super::issuance::{Issuance, internal};
use crate::{
    clock,
    config::{Authority, Certificate},
    fleet::Control,
    plan::{
        facts::{OrderFacts, OrderStage},
        offer::PreflightQuestion,
        preflight::{
            Judgement, PreflightFacts, Verdict, join, judge, words_of_going, words_of_suspicion,
        },
        renew::{is_pressing, remaining},
    },
    store::OrderFailure,
};

/// What came of waiting for the preflight.
pub(super) enum Preflight {
    /// Place the order; these hosts have not passed.
    Go(Vec<HostName>),
    /// The configuration or a pause changed: look again.
    Changed,
}

impl Issuance {
    pub(super) fn question(
        &self,
        declared: &Certificate,
        authority: &Authority,
        thumbprint: &str,
    ) -> Result<PreflightQuestion, OrderFailure> {
        let mut random = [0_u8; 24];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| internal("the random generator failed"))?;
        let token = URL_SAFE_NO_PAD.encode(random);
        Ok(PreflightQuestion {
            id: token[..12].to_owned(),
            token,
            thumbprint: thumbprint.to_owned(),
            names: declared
                .identifiers
                .iter()
                .map(ToString::to_string)
                .collect(),
            port: authority.http_01_port,
        })
    }

    pub(super) async fn preflight(
        &mut self,
        control: &Control,
        declared: &Certificate,
        question: PreflightQuestion,
    ) -> Preflight {
        let generation = self
            .pending
            .as_ref()
            .map_or(Generation::NONE, |p| p.intent.generation);
        let hosts = &declared.challenge_hosts;
        self.driver
            .events
            .certificate(
                EventKind::Preflight,
                &self.name,
                generation,
                format!(
                    "asking {} whether their nginx would answer the CA",
                    join(hosts)
                ),
            )
            .await;
        self.tell(OrderFacts {
            stage: OrderStage::Preflight,
            ..OrderFacts::default()
        })
        .await;
        let mut verdicts = self.driver.registry.preflight(&self.name, question).await;
        let began = Instant::now();
        let mut told: Option<String> = None;
        let outcome = loop {
            let now = clock::now();
            let life = self.issued.as_ref().map(|issued| remaining(issued, now));
            let patience = certwell_proto::pace::pace(control.config.renewal.preflight_wait, life);
            let seen = verdicts
                .as_mut()
                .map_or_else(BTreeMap::new, |v| v.borrow_and_update().clone());
            let known = self.driver.registry.hosts(hosts).await;
            let judgement = judge(&PreflightFacts {
                hosts,
                verdicts: &seen,
                known: &known,
                waited: began.elapsed(),
                patience,
                pressing: is_pressing(self.issued.as_ref(), now),
            });
            match judgement {
                Judgement::Go { silent, erred } => {
                    let text = words_of_going(&silent, &erred);
                    self.driver
                        .events
                        .certificate(EventKind::Preflight, &self.name, generation, text)
                        .await;
                    let passes = |host: &&HostName| seen.get(*host) == Some(&Verdict::Pass);
                    break Preflight::Go(hosts.iter().filter(|h| !passes(h)).cloned().collect());
                }
                Judgement::Wait { problem } => {
                    if problem != told {
                        if let Some(text) = &problem {
                            // The kind of the event says so already.
                            let text = text.strip_prefix("preflight: ").unwrap_or(text).to_owned();
                            self.driver
                                .events
                                .certificate(EventKind::Preflight, &self.name, generation, text)
                                .await;
                        }
                        let stage = OrderStage::Preflight;
                        self.tell(OrderFacts {
                            stage,
                            problem: problem.clone(),
                            ..OrderFacts::default()
                        })
                        .await;
                        told = problem;
                    }
                }
            }
            let rest = patience.saturating_sub(began.elapsed());
            let nap = if rest.is_zero() {
                patience.max(Duration::from_secs(1))
            } else {
                rest
            };
            let news = async {
                match verdicts.as_mut() {
                    Some(verdicts) => verdicts.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            // Cancel-safe: sleeps hold nothing, `changed` marks nothing until it returns.
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                alive = news => if !alive { break Preflight::Changed },
                changed = self.control.changed() => {
                    let fresh = self.control.borrow().clone();
                    let same = fresh.config.certificates.get(&self.name) == Some(declared)
                        && fresh.config.renewal == control.config.renewal
                        && !fresh.is_paused(&self.name);
                    if changed.is_err() || !same {
                        break Preflight::Changed;
                    }
                }
            }
        };
        self.driver.registry.preflight_over(&self.name).await;
        outcome
    }

    /// The same failure; where the CA couldn't validate, with who may be in the way.
    pub(super) async fn suspecting(
        &self,
        failure: OrderFailure,
        declared: &Certificate,
        unproven: &[HostName],
    ) -> OrderFailure {
        if !failure.validation {
            return failure;
        }
        let hosts = &declared.challenge_hosts;
        let known = self.driver.registry.hosts(hosts).await;
        match words_of_suspicion(hosts, unproven, &known) {
            Some(words) => OrderFailure {
                problem: format!("{}; {words}", failure.problem),
                ..failure
            },
            None => failure,
        }
    }
}
