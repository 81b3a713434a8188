//! Open alerts, those that were resolved lately, and what notifiers accepted of them, as the store has them. What the
//! store didn't take is kept and told all the same, and put in again: a full disk is no reason to be silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    config::Alerts,
    plan::{
        alert::{Alert, Class},
        deliver::{Change, Held, Kind, Standing, Tried, not_after, not_later, reconcile},
    },
    store::{self, AlertRecord, DeliveryRecord, SilenceRecord, Store},
};

/// So long after it was resolved an alert is remembered: it may come back, and its end is still to be told.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(48);

/// An alert, and how far it was told.
pub(super) struct Live {
    /// In this process; an alert that isn't stored yet has no id.
    pub(super) serial: u64,
    pub(super) record: AlertRecord,
    /// Whether the store has it as it is.
    stored: bool,
    pub(super) deliveries: BTreeMap<String, DeliveryRecord>,
    /// Of these notifiers the store doesn't have what they accepted.
    unstored: BTreeSet<String>,
    pub(super) tried: BTreeMap<String, Tried>,
    /// By silences, and when the last of them ended.
    held: Held,
    pub(super) released: Option<Timestamp>,
}

impl Live {
    /// Whether the store knows what this notifier accepted: until then it is told nothing more of it.
    pub(super) fn may_be_told(&self, notifier: &str) -> bool {
        !self.unstored.contains(notifier)
    }

    pub(super) fn is_open(&self) -> bool {
        self.record.resolved.is_none()
    }
}

pub(super) struct Book {
    store: Arc<dyn Store>,
    pub(super) lives: Vec<Live>,
    pub(super) silences: Vec<SilenceRecord>,
    standing: Standing,
    serials: u64,
}

impl Book {
    /// What the store has.
    pub(super) async fn recall(store: Arc<dyn Store>, now: Timestamp) -> store::Result<Self> {
        let since = now - REMEMBERED;
        let mut book = Self {
            lives: Vec::new(),
            silences: store.silences().await?,
            standing: Standing::default(),
            serials: 0,
            store,
        };
        for record in book.store.alerts(since).await? {
            book.add(record, true);
        }
        for delivery in book.store.deliveries(since).await? {
            let of = |live: &&mut Live| live.record.id == delivery.alert;
            if let Some(live) = book.lives.iter_mut().find(of) {
                live.deliveries.insert(delivery.notifier.clone(), delivery);
            }
        }
        Ok(book)
    }

    /// Compares what was found with what is known, and takes the changes over; returns those that people are told of as
    /// events, each with its alert's serial.
    pub(super) fn reconcile(
        &mut self,
        found: Vec<Alert>,
        settings: &Alerts,
        whole: bool,
        now: Timestamp,
    ) -> Vec<(Kind, u64)> {
        let changes = reconcile(
            found,
            &self.records(),
            &mut self.standing,
            settings,
            whole,
            now,
        );
        let changed = changes.into_iter().filter_map(|change| self.apply(change));
        changed.collect()
    }

    pub(super) fn records(&self) -> Vec<AlertRecord> {
        self.lives.iter().map(|live| live.record.clone()).collect()
    }

    fn apply(&mut self, change: Change) -> Option<(Kind, u64)> {
        let Change { alert, kind } = change;
        let place = self.lives.iter().position(|live| match kind {
            // It comes back, or is new.
            Kind::Raised => alert.id != 0 && live.record.id == alert.id,
            _ => live.is_open() && live.record.last.key == alert.last.key,
        });
        let serial = match place.and_then(|place| self.lives.get_mut(place)) {
            Some(live) => {
                live.record = alert;
                live.stored &= kind == Kind::Reworded;
                live.serial
            }
            None if kind == Kind::Raised => self.add(alert, false),
            None => return None,
        };
        Some((kind, serial))
    }

    fn add(&mut self, record: AlertRecord, stored: bool) -> u64 {
        self.serials += 1;
        self.lives.push(Live {
            serial: self.serials,
            record,
            stored,
            deliveries: BTreeMap::new(),
            unstored: BTreeSet::new(),
            tried: BTreeMap::new(),
            held: Held::default(),
            released: None,
        });
        self.serials
    }

    /// Puts into the store what it doesn't have; what can't be put is tried again the next time.
    pub(super) async fn commit(&mut self) -> store::Result<()> {
        let dirty = self.lives.iter().filter(|live| !live.stored);
        let records: Vec<AlertRecord> = dirty.map(|live| live.record.clone()).collect();
        if !records.is_empty() {
            let ids = self.store.put_alerts(&records).await?;
            let dirty = self.lives.iter_mut().filter(|live| !live.stored);
            for (live, id) in dirty.zip(ids) {
                live.record.id = id;
                live.stored = true;
            }
        }
        for live in &mut self.lives {
            let waiting: Vec<String> = live.unstored.iter().cloned().collect();
            for notifier in waiting {
                if let Some(delivery) = live.deliveries.get_mut(&notifier) {
                    delivery.alert = live.record.id;
                    self.store.put_delivery(delivery).await?;
                }
                live.unstored.remove(&notifier);
            }
        }
        Ok(())
    }

    /// A notifier accepted this.
    pub(super) fn accepted(&mut self, serial: u64, delivery: DeliveryRecord) {
        if let Some(live) = self.by_serial(serial) {
            let notifier = delivery.notifier.clone();
            live.tried.remove(&notifier);
            live.unstored.insert(notifier.clone());
            live.deliveries.insert(notifier, delivery);
        }
    }

    pub(super) fn by_serial(&mut self, serial: u64) -> Option<&mut Live> {
        self.lives.iter_mut().find(|live| live.serial == serial)
    }

    pub(super) fn by_id(&self, id: u64) -> Option<&Live> {
        self.lives
            .iter()
            .find(|live| id != 0 && live.record.id == id)
    }

    /// Puts one alert into the store, and then here: somebody asked for it, and is told if it can't be.
    pub(super) async fn put(&mut self, record: AlertRecord) -> store::Result<u64> {
        let ids = self.store.put_alerts(std::slice::from_ref(&record)).await?;
        let id = ids.first().copied().unwrap_or_default();
        let record = AlertRecord { id, ..record };
        match self.lives.iter_mut().find(|live| live.record.id == id) {
            Some(live) => {
                live.record = record;
                live.stored = true;
            }
            None => {
                self.add(record, true);
            }
        }
        Ok(id)
    }

    /// The drill that is open, if one is.
    pub(super) fn drill(&self) -> Option<&Live> {
        self.lives
            .iter()
            .find(|live| live.is_open() && live.record.last.key.class == Class::Drill)
    }

    /// Before anything is judged by the clock, which may have been set back.
    pub(super) fn not_after(&mut self, now: Timestamp) {
        for live in &mut self.lives {
            not_after(&mut live.record, now);
            for delivery in live.deliveries.values_mut() {
                delivery.accepted_at = delivery.accepted_at.min(now);
            }
            for tried in live.tried.values_mut() {
                tried.not_before = not_later(tried.not_before, now);
            }
        }
    }

    /// Notices silences that have ended since it was last asked.
    pub(super) fn look_at_silences(&mut self, now: Timestamp) {
        for live in &mut self.lives {
            if live.held.ends(&live.record.last, &self.silences, now) {
                live.released = Some(now);
            }
        }
    }

    /// Whoever was mended is tried at once.
    pub(super) fn try_anew(&mut self, notifier: &str) {
        for live in &mut self.lives {
            live.tried.remove(notifier);
        }
    }

    /// Forgets what was resolved long ago, and silences that are over.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.silences.retain(|silence| silence.until > now);
        self.lives.retain(|live| {
            let old = |at| now.duration_since(at) >= REMEMBERED;
            !live.record.resolved.is_some_and(old)
        });
    }

    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }
}
