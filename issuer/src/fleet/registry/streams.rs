//! The open streams of hosts.

use std::{collections::BTreeMap, sync::Arc};

use certwell_proto::{HostName, v1};
use tokio::sync::watch;

/// What a host's stream carries; `None` cuts it.
pub type Offer = Option<Arc<v1::DesiredState>>;

/// Stands for one open stream of a host; handed back when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    host: HostName,
    number: u64,
}

impl Ticket {
    /// Whose stream it is.
    pub fn host(&self) -> &HostName {
        &self.host
    }
}

/// A stream that was opened.
pub type Opened = (Ticket, watch::Receiver<Offer>);

/// Open streams that one host may have.
const PER_HOST: usize = 4;

/// By host and number: a host that reconnects may have two until the dead one is noticed.
#[derive(Default)]
pub(super) struct Streams {
    open: BTreeMap<HostName, BTreeMap<u64, watch::Sender<Offer>>>,
    last: u64,
}

impl Streams {
    pub(super) fn open(&mut self, host: &HostName, desired: v1::DesiredState) -> Opened {
        self.last += 1;
        let (offer, receiver) = watch::channel(Some(Arc::new(desired)));
        let streams = self.open.entry(host.clone()).or_default();
        streams.insert(self.last, offer);
        // One living and a few that are dead and not noticed yet; an agent opens one.
        while streams.len() > PER_HOST {
            if let Some((_, oldest)) = streams.pop_first() {
                oldest.send_replace(None);
            }
        }
        (
            Ticket {
                host: host.clone(),
                number: self.last,
            },
            receiver,
        )
    }

    /// Whether it was the last open stream of its host.
    pub(super) fn close(&mut self, ticket: &Ticket) -> bool {
        let Some(streams) = self.open.get_mut(&ticket.host) else {
            return false;
        };
        if streams.remove(&ticket.number).is_none() || !streams.is_empty() {
            return false;
        }
        self.open.remove(&ticket.host);
        true
    }

    /// Ends every stream of a host. They are forgotten at once, so that none of them can be offered anything again,
    /// however late it is noticed.
    pub(super) fn cut(&mut self, host: &HostName) {
        for offer in self.open.remove(host).unwrap_or_default().into_values() {
            offer.send_replace(None);
        }
    }

    pub(super) fn is_open(&self, host: &HostName) -> bool {
        self.open.contains_key(host)
    }

    pub(super) fn hosts(&self) -> Vec<HostName> {
        self.open.keys().cloned().collect()
    }

    pub(super) fn publish(&mut self, host: &HostName, desired: v1::DesiredState) {
        let Some(streams) = self.open.get_mut(host) else {
            return;
        };
        let desired = Arc::new(desired);
        for offer in streams.values() {
            offer.send_if_modified(|old| {
                let changed = old
                    .as_ref()
                    .is_none_or(|old| old.revision != desired.revision);
                if changed {
                    *old = Some(desired.clone());
                }
                changed
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(revision: &str) -> v1::DesiredState {
        v1::DesiredState {
            revision: revision.into(),
            ..Default::default()
        }
    }

    fn revision(stream: &mut watch::Receiver<Offer>) -> Option<String> {
        stream
            .borrow_and_update()
            .as_ref()
            .map(|desired| desired.revision.clone())
    }

    #[test]
    fn a_host_leaves_with_its_last_stream() {
        let mut streams = Streams::default();
        let sally = "sally".parse().unwrap();
        let (dead, _) = streams.open(&sally, desired("1"));
        let (living, _) = streams.open(&sally, desired("1"));
        assert!(!streams.close(&dead));
        assert!(!streams.close(&dead));
        assert!(streams.close(&living));
        assert!(!streams.is_open(&sally));
    }

    #[test]
    fn a_cut_stream_stays_cut_when_its_host_comes_back() {
        let mut streams = Streams::default();
        let sally = "sally".parse().unwrap();
        let (old, mut cut) = streams.open(&sally, desired("1"));
        streams.cut(&sally);
        let (_, mut fresh) = streams.open(&sally, desired("2"));
        streams.publish(&sally, desired("3"));
        assert_eq!(revision(&mut cut), None);
        assert_eq!(revision(&mut fresh).as_deref(), Some("3"));
        // The end of the old one says nothing of the new one.
        assert!(!streams.close(&old));
        assert!(streams.is_open(&sally));
    }

    #[test]
    fn a_host_that_opens_too_many_loses_its_oldest() {
        let mut streams = Streams::default();
        let sally = "sally".parse().unwrap();
        let (_first, mut oldest) = streams.open(&sally, desired("1"));
        let others: Vec<Opened> = (0..PER_HOST)
            .map(|_| streams.open(&sally, desired("1")))
            .collect();
        assert_eq!(revision(&mut oldest), None);
        assert_eq!(others.len(), PER_HOST);
        assert!(
            others
                .into_iter()
                .all(|(_, mut stream)| revision(&mut stream).is_some())
        );
    }

    #[test]
    fn the_same_revision_wakes_nobody() {
        let mut streams = Streams::default();
        let sally = "sally".parse().unwrap();
        let (_ticket, mut stream) = streams.open(&sally, desired("1"));
        stream.mark_unchanged();
        streams.publish(&sally, desired("1"));
        assert_eq!(stream.has_changed().ok(), Some(false));
    }
}
