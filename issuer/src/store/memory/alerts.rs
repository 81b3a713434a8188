//! Alerts, deliveries and silences in memory.

use jiff::Timestamp;

use super::{
    MemoryStore,
    held::{Held, conflict, kept},
};
use crate::store::{
    Result,
    alerts::{
        AcknowledgementRecord, AlertRecord, AlertStore, DeliveryRecord, SilenceRecord, read, wire,
    },
};

#[async_trait::async_trait]
impl AlertStore for MemoryStore {
    async fn put_alerts(&self, alerts: &[AlertRecord]) -> Result<Vec<u64>> {
        let mut held = self.held();
        for alert in alerts {
            let twice = held.alerts.values().any(|known| {
                known.last.key == alert.last.key && known.resolved.is_none() && known.id != alert.id
            });
            if twice && alert.resolved.is_none() {
                return Err(conflict(format!(
                    "an alert {} {} is open already",
                    alert.last.key.class, alert.last.key.subject
                )));
            }
        }
        Ok(alerts.iter().map(|alert| put(&mut held, alert)).collect())
    }

    async fn alerts(&self, since: Timestamp) -> Result<Vec<AlertRecord>> {
        let held = self.held();
        let alerts = held.alerts.values().filter(|alert| wanted(alert, since));
        Ok(alerts.cloned().collect())
    }

    async fn put_delivery(&self, delivery: &DeliveryRecord) -> Result<()> {
        let key = (delivery.alert, delivery.notifier.clone());
        let delivery = DeliveryRecord {
            accepted_at: kept(delivery.accepted_at),
            ..delivery.clone()
        };
        self.held().deliveries.insert(key, delivery);
        Ok(())
    }

    async fn deliveries(&self, since: Timestamp) -> Result<Vec<DeliveryRecord>> {
        let held = self.held();
        let of_wanted = held.deliveries.values().filter(|delivery| {
            let alert = held.alerts.get(&delivery.alert);
            alert.is_some_and(|alert| wanted(alert, since))
        });
        Ok(of_wanted.cloned().collect())
    }

    async fn add_silence(&self, silence: &SilenceRecord) -> Result<u64> {
        let mut held = self.held();
        held.last_silence += 1;
        let id = held.last_silence;
        held.silences.push(SilenceRecord {
            id,
            since: kept(silence.since),
            until: kept(silence.until),
            ..silence.clone()
        });
        Ok(id)
    }

    async fn silences(&self) -> Result<Vec<SilenceRecord>> {
        Ok(self.held().silences.clone())
    }

    async fn end_silence(&self, id: u64) -> Result<bool> {
        let mut held = self.held();
        let count = held.silences.len();
        held.silences.retain(|silence| silence.id != id);
        Ok(held.silences.len() < count)
    }

    async fn evaluated(&self, at: Timestamp) -> Result<()> {
        self.held().evaluated = Some(kept(at));
        Ok(())
    }

    async fn last_evaluation(&self) -> Result<Option<Timestamp>> {
        Ok(self.held().evaluated)
    }

    async fn prune_alerts(&self, before: Timestamp) -> Result<u64> {
        let (mut held, before) = (self.held(), kept(before));
        let held = &mut *held;
        let count = held.alerts.len() + held.silences.len();
        held.alerts
            .retain(|_, alert| alert.resolved.is_none_or(|at| at >= before));
        held.silences.retain(|silence| silence.until >= before);
        held.deliveries
            .retain(|(alert, _), _| held.alerts.contains_key(alert));
        Ok((count - held.alerts.len() - held.silences.len()) as u64)
    }
}

fn wanted(alert: &AlertRecord, since: Timestamp) -> bool {
    alert.resolved.is_none_or(|at| at >= kept(since))
}

fn put(held: &mut Held, alert: &AlertRecord) -> u64 {
    let id = match alert.id {
        0 => {
            held.last_alert += 1;
            held.last_alert
        }
        known => known,
    };
    let ends = alert.last.ends.map(kept);
    // As it comes back from a database.
    let last = read(alert.last.key.clone(), ends, wire(&alert.last));
    let kept_alert = AlertRecord {
        id,
        last: last.unwrap_or_else(|| alert.last.clone()),
        opened: kept(alert.opened),
        escalates: kept(alert.escalates),
        resolved: alert.resolved.map(kept),
        acknowledged: alert
            .acknowledged
            .as_ref()
            .map(|made| AcknowledgementRecord {
                at: kept(made.at),
                until: kept(made.until),
                ..made.clone()
            }),
        ..alert.clone()
    };
    held.alerts.insert(id, kept_alert);
    id
}
