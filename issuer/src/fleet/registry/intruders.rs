//! Who comes with an identity that isn't good any more: counted by host, and told once in a while.

use certwell_proto::{HostName, v1::EventKind};
use jiff::SignedDuration;

use super::task::Task;
use crate::{clock, plan::facts::Intruder};

/// Names that are kept; whoever comes besides is refused as well, and not told.
const INTRUDERS: usize = 256;
/// One that stayed away for so long is news again.
const NEWS: SignedDuration = SignedDuration::from_hours(1);

impl Task {
    pub(super) async fn intruder(&mut self, host: HostName, why: String) {
        let now = clock::now();
        let intruders = &mut self.facts.intruders;
        if !intruders.contains_key(&host) && intruders.len() >= INTRUDERS {
            return;
        }
        let fresh = Intruder {
            why,
            first: now,
            last: now,
            calls: 0,
        };
        let why = fresh.why.clone();
        let known = intruders
            .entry(host.clone())
            .or_insert_with(|| fresh.clone());
        let is_news = known.calls == 0 || known.why != why || now.duration_since(known.last) > NEWS;
        if is_news {
            *known = fresh;
        }
        known.last = now;
        known.calls += 1;
        if is_news {
            let text = format!("refused: {why}");
            self.events.host(EventKind::HostProblem, &host, text).await;
        }
    }
}
