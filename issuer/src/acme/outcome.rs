//! What came of an order, in the store and in events, and what is told of the next one.

use certwell_proto::{Generation, Identifier, v1::EventKind};
use jiff::Timestamp;

use super::{issuance::Issuance, order::Then};
use crate::{
    plan::facts::{Failing, OrderFacts, OrderStage},
    store::{self, Issued, OrderFailure, record::FAILURES},
};

impl Issuance {
    pub(super) async fn succeeded(&mut self, issued: Issued) {
        self.pending = None;
        self.failures.clear();
        self.attempts = 0;
        // First of all the hosts: everything else can wait.
        self.driver.registry.issued(issued.clone()).await;
        let text = format!(
            "issued by {}, valid until {}",
            issued.authority, issued.not_after
        );
        self.driver
            .events
            .certificate(EventKind::Issued, &self.name, issued.generation, text)
            .await;
        self.issued = Some(issued);
    }

    pub(super) async fn order_ended(
        &mut self,
        failure: OrderFailure,
        then: Then,
    ) -> store::Result<()> {
        if then != Then::Resume
            && let Some(pending) = self.pending.as_mut()
        {
            let generation = pending.intent.generation;
            self.driver
                .store
                .order_failed(&self.name, generation, &failure)
                .await?;
            pending.url = None;
        } else {
            self.driver
                .store
                .record_failure(&self.name, &failure)
                .await?;
        }
        if then == Then::Abandon {
            self.abandon().await?;
        }
        self.remember(failure).await;
        Ok(())
    }

    pub(super) async fn failed(&mut self, failure: OrderFailure) -> store::Result<()> {
        self.driver
            .store
            .record_failure(&self.name, &failure)
            .await?;
        self.remember(failure).await;
        Ok(())
    }

    async fn remember(&mut self, failure: OrderFailure) {
        let generation = self
            .pending
            .as_ref()
            .map_or(Generation::NONE, |p| p.intent.generation);
        tracing::warn!(
            certificate = %self.name,
            generation = (!generation.is_none()).then_some(generation.0),
            problem = failure.problem,
            "issuance failed"
        );
        let text = failure.problem.clone();
        self.failures.push(failure);
        self.attempts += 1;
        if self.failures.len() > FAILURES {
            self.failures.remove(0);
        }
        self.driver
            .events
            .certificate(EventKind::OrderFailed, &self.name, generation, text)
            .await;
    }

    pub(super) async fn tell_recovering(&self) {
        self.tell(OrderFacts {
            stage: OrderStage::Waiting,
            problem: Some(
                "the issuer was restored from a backup; before anything is ordered, the hosts tell what they have"
                    .to_owned(),
            ),
            next_at: None,
            failures: self.attempts(),
            failing: self.failing(None),
        })
        .await;
    }

    pub(super) async fn tell_waiting(&self, at: Timestamp, held: Option<Identifier>) {
        let shared = held.map(|name| {
            format!(
                "the CA could not validate {name} for another certificate; CAs count that by name, so this one waits too"
            )
        });
        let own = self.failures.last().map(|failure| failure.problem.clone());
        let problem = shared.or(own);
        self.tell(OrderFacts {
            stage: if problem.is_some() {
                OrderStage::Waiting
            } else {
                OrderStage::Idle
            },
            problem,
            next_at: Some(at),
            failures: self.attempts(),
            failing: self.failing(Some(at)),
        })
        .await;
    }

    pub(super) fn attempts(&self) -> u32 {
        u32::try_from(self.attempts).unwrap_or(u32::MAX)
    }

    pub(super) fn failing(&self, again: Option<Timestamp>) -> Option<Failing> {
        let (first, last) = (self.failures.first()?, self.failures.last()?);
        Some(Failing {
            since: first.at,
            last: last.at,
            again,
            problem: last.problem.clone(),
            validation: last.validation,
        })
    }

    pub(super) async fn tell(&self, facts: OrderFacts) {
        self.driver.registry.order(&self.name, facts).await;
    }
}
