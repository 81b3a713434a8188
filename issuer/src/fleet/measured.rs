//! What the registry measures of orders, as it is told of their stages.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use certwell_metrics::Timings;
use certwell_proto::CertificateName;
use tokio::time::Instant;

use crate::plan::facts::{OrderFacts, OrderStage};

/// A handle on what was measured since the process started; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// The stages of issuances.
    pub stages: Timings,
    failures: Arc<Mutex<BTreeMap<CertificateName, u64>>>,
}

impl Measured {
    /// How often the issuance of a certificate has failed.
    pub fn failures(&self, certificate: &CertificateName) -> u64 {
        self.held().get(certificate).copied().unwrap_or_default()
    }

    /// Held for the moment of one addition.
    fn held(&self) -> MutexGuard<'_, BTreeMap<CertificateName, u64>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when each issuance is in its stage.
#[derive(Default)]
pub(super) struct Stages {
    measured: Measured,
    since: BTreeMap<CertificateName, Instant>,
}

impl Stages {
    pub(super) fn new(measured: Measured) -> Self {
        Self {
            measured,
            since: BTreeMap::new(),
        }
    }

    /// Takes note of what an issuance turned from and to.
    pub(super) fn turn(&mut self, name: &CertificateName, before: &OrderFacts, after: &OrderFacts) {
        if after.stage == OrderStage::Waiting && after.failures > before.failures {
            *self.measured.held().entry(name.clone()).or_default() += 1;
        }
        let (was, is) = (word(before.stage), word(after.stage));
        if was == is {
            return;
        }
        if let (Some(stage), Some(since)) = (was, self.since.remove(name)) {
            let result = match after.stage {
                OrderStage::Waiting => "failed",
                // Taken back: it is paused, declared otherwise, or no more.
                OrderStage::Idle if !matches!(before.stage, OrderStage::Finalizing(_)) => "dropped",
                _ => "passed",
            };
            self.measured.stages.observe(stage, result, since.elapsed());
        }
        if is.is_some() {
            self.since.insert(name.clone(), Instant::now());
        }
    }
}

fn word(stage: OrderStage) -> Option<&'static str> {
    match stage {
        OrderStage::Preflight => Some("preflight"),
        OrderStage::Ordered(_) => Some("order"),
        OrderStage::Challenge(_) => Some("challenge"),
        OrderStage::Finalizing(_) => Some("finalize"),
        OrderStage::Idle | OrderStage::Waiting => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certwell_metrics::Page;
    use certwell_proto::Generation;

    use super::*;

    fn facts(stage: OrderStage, failures: u32) -> OrderFacts {
        OrderFacts {
            stage,
            failures,
            ..OrderFacts::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_stage_is_measured_and_each_failure_counted_once() {
        let measured = Measured::default();
        let mut stages = Stages::new(measured.clone());
        let name: CertificateName = "media".parse().unwrap();
        let one = Generation(1);
        let turns = [
            facts(OrderStage::Idle, 0),
            facts(OrderStage::Preflight, 0),
            // Told again, with a problem.
            facts(OrderStage::Preflight, 0),
            facts(OrderStage::Ordered(one), 0),
            facts(OrderStage::Challenge(one), 0),
            facts(OrderStage::Waiting, 1),
            facts(OrderStage::Waiting, 1),
            facts(OrderStage::Preflight, 1),
            facts(OrderStage::Idle, 1),
            facts(OrderStage::Ordered(one), 1),
            facts(OrderStage::Challenge(one), 1),
            facts(OrderStage::Finalizing(one), 1),
            facts(OrderStage::Idle, 0),
        ];
        for pair in turns.windows(2) {
            stages.turn(&name, &pair[0], &pair[1]);
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        assert_eq!(measured.failures(&name), 1);
        let mut page = Page::default();
        measured
            .stages
            .write(&mut page.histogram("a_seconds", "A."));
        let text = page.finish();
        for line in [
            "a_seconds_count{step=\"preflight\",result=\"passed\"} 1",
            "a_seconds_sum{step=\"preflight\",result=\"passed\"} 4",
            "a_seconds_count{step=\"preflight\",result=\"dropped\"} 1",
            "a_seconds_count{step=\"order\",result=\"passed\"} 2",
            "a_seconds_count{step=\"challenge\",result=\"failed\"} 1",
            "a_seconds_count{step=\"challenge\",result=\"passed\"} 1",
            "a_seconds_count{step=\"finalize\",result=\"passed\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
