//! What certificates that share an identifier have to know of each other: a CA counts failed validations by name, not
//! by certificate.
//!
//! Each change is one look at a watch channel, in which nobody else can come between. It is forgotten when the issuer
//! ends: then each certificate still has its own failures in the store.

use std::collections::BTreeMap;

use certwell_proto::Identifier;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// A failure is of no interest to anybody after this.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

/// The identifiers that are being validated, or that lately couldn't be.
#[derive(Clone, Default)]
pub struct Names(watch::Sender<BTreeMap<Identifier, Known>>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// An order for it is under way.
    busy: bool,
    /// When it last couldn't be validated.
    failed: Option<Timestamp>,
}

/// Held while an order is under way: no other is placed that shares a name with it.
pub struct Turn {
    names: Names,
    identifiers: Vec<Identifier>,
}

impl Names {
    /// Returns when no other order is under way that shares one of these.
    pub async fn turn(&self, identifiers: &[Identifier]) -> Turn {
        let mut changes = self.0.subscribe();
        loop {
            let taken = self.0.send_if_modified(|names| {
                let busy = |name| names.get(name).is_some_and(|known: &Known| known.busy);
                if identifiers.iter().any(busy) {
                    return false;
                }
                for name in identifiers {
                    names.entry(name.clone()).or_default().busy = true;
                }
                true
            });
            if taken {
                return Turn {
                    names: self.clone(),
                    identifiers: identifiers.to_vec(),
                };
            }
            // The sender is ours, so there is always one.
            let _ = changes.changed().await;
        }
    }

    /// The CA couldn't validate this one.
    pub fn failed(&self, name: &Identifier, at: Timestamp) {
        self.0.send_modify(|names| {
            names.entry(name.clone()).or_default().failed = Some(at);
            names.retain(|_, known| {
                let recent = |failed| at.duration_since(failed) < REMEMBERED;
                known.busy || known.failed.is_some_and(recent)
            });
        });
    }

    /// The CA has validated all of these.
    pub fn validated(&self, identifiers: &[Identifier]) {
        self.0.send_modify(|names| {
            for name in identifiers {
                if let Some(known) = names.get_mut(name) {
                    known.failed = None;
                }
            }
        });
    }

    /// Which of these failed last, and when.
    pub fn last_failed(&self, identifiers: &[Identifier]) -> Option<(Identifier, Timestamp)> {
        let names = self.0.borrow();
        let failed = |name| Some((name, names.get(name)?.failed?));
        let (name, at) = identifiers
            .iter()
            .filter_map(failed)
            .max_by_key(|(_, at)| *at)?;
        Some((name.clone(), at))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.names.0.send_modify(|names| {
            for name in &self.identifiers {
                if let Some(known) = names.get_mut(name) {
                    known.busy = false;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn names(texts: &[&str]) -> Vec<Identifier> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn orders_that_share_a_name_go_one_after_the_other() {
        let all = Names::default();
        let first = all.turn(&names(&["a.example", "b.example"])).await;
        let _other = all.turn(&names(&["c.example"])).await;
        let shared = names(&["b.example", "d.example"]);
        let moment = Duration::from_secs(1);
        assert!(timeout(moment, all.turn(&shared)).await.is_err());
        // Who gave up waiting holds nothing.
        let _unshared = timeout(moment, all.turn(&names(&["d.example"])))
            .await
            .unwrap();
        drop(_unshared);
        let waiting = tokio::spawn({
            let (all, shared) = (all.clone(), shared.clone());
            async move { all.turn(&shared).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        let second = timeout(moment, waiting).await.unwrap().unwrap();
        assert!(
            timeout(moment, all.turn(&names(&["d.example"])))
                .await
                .is_err()
        );
        drop(second);
        timeout(moment, all.turn(&shared)).await.unwrap();
    }

    #[test]
    fn a_failure_counts_for_everybody_with_the_name_until_it_is_validated() {
        let all = Names::default();
        let [a, b] = [names(&["a.example"]), names(&["b.example"])];
        let both = names(&["a.example", "b.example"]);
        all.failed(&a[0], at(100));
        all.failed(&b[0], at(200));
        assert_eq!(all.last_failed(&a), Some((a[0].clone(), at(100))));
        assert_eq!(all.last_failed(&both), Some((b[0].clone(), at(200))));
        all.validated(&b);
        assert_eq!(all.last_failed(&both), Some((a[0].clone(), at(100))));
        all.failed(&b[0], at(100 + 3_600));
        assert_eq!(all.last_failed(&a), None);
    }
}
