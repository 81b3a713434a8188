//! What happened, newest first.

use certwell_proto::v1;
use jiff::Timestamp;

use super::moment::Moment;
use crate::plan::words::kind_word;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Given once.
    pub id: u64,
    /// When.
    pub at: Moment,
    /// Its kind.
    pub kind: &'static str,
    /// Empty: about none.
    pub certificate: String,
    /// Empty: about none.
    pub host: String,
    /// One sentence.
    pub text: String,
}

/// Newest first.
pub fn rows(events: &[v1::Event], now: Timestamp) -> Vec<Row> {
    events
        .iter()
        .rev()
        .map(|event| Row {
            id: event.id,
            at: Moment::of_millis(event.at_ms, now),
            kind: kind_word(event.kind()),
            certificate: event.certificate.clone(),
            host: event.host.clone(),
            text: event.text.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::cell::tests::now, *};

    #[test]
    fn the_newest_is_the_first() {
        let event = |id| v1::Event {
            id,
            kind: v1::EventKind::OrderFailed.into(),
            ..v1::Event::default()
        };
        let rows = rows(&[event(3), event(4)], now());
        let shown: Vec<(u64, &str)> = rows.iter().map(|row| (row.id, row.kind)).collect();
        assert_eq!(shown, [(4, "order-failed"), (3, "order-failed")]);
    }
}
