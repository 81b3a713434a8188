//! Whether what was activated is really served. A reload's exit code proves nothing; new workers under the same
//! master and real handshakes do.

use std::time::Duration;

/// Handshakes in a row that the first name of a server block on a listener needs.
pub const IN_A_ROW: u32 = 5;
/// The least time that they span: old and new workers are served side by side for about 100 ms.
pub const SPAN: Duration = Duration::from_millis(300);
/// Between handshakes that answered with the new leaf.
pub const SPACING: Duration = Duration::from_millis(75);

/// What one handshake showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The new leaf.
    New,
    /// An older one of ours.
    Old,
    /// A leaf that isn't ours, or the placeholder.
    Stranger,
    /// No handshake came about.
    Down,
    /// It isn't to be probed: rejects by intent, regex name, address elsewhere.
    Exempt,
}

/// One listener and name, over the time of confirming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// [`IN_A_ROW`] for the first name of a server block on a listener, 1 for others.
    pub needed: u32,
    /// Whether any leaf was served here before the activation.
    pub healthy_before: bool,
    /// What the last handshake showed.
    pub last: Option<Seen>,
    /// How many in a row showed the new leaf.
    pub in_a_row: u32,
    /// When the first of these was.
    pub row_began: Duration,
    /// When the last handshake was.
    pub at: Duration,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new(first_name: bool, healthy_before: bool) -> Self {
        Self {
            needed: if first_name { IN_A_ROW } else { 1 },
            healthy_before,
            last: None,
            in_a_row: 0,
            row_began: Duration::ZERO,
            at: Duration::ZERO,
        }
    }

    /// Adds a handshake, `at` after the reload was asked for.
    pub fn add(&mut self, seen: Seen, at: Duration) {
        if seen == Seen::New {
            if self.in_a_row == 0 {
                self.row_began = at;
            }
            self.in_a_row += 1;
        } else {
            self.in_a_row = 0;
        }
        self.last = Some(seen);
        self.at = at;
    }

    /// Whether enough was seen here.
    pub fn settled(&self) -> bool {
        match self.last {
            Some(Seen::Exempt) => true,
            Some(Seen::New) => {
                self.in_a_row >= self.needed
                    && (self.needed == 1 || self.at.saturating_sub(self.row_began) >= SPAN)
            }
            _ => false,
        }
    }
}

/// What it adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Wait,
    /// Served on every listener.
    Converged,
    /// Old workers, or what they serve, stay.
    NotApplied,
    /// A listener that was healthy before fails now.
    Regressed,
}

/// How long to wait for the new leaf, scaled from how long `nginx -t` took here.
pub fn deadline(test_took: Duration) -> Duration {
    Duration::from_secs(10) + test_took * 20
}

/// The verdict over all listeners of one certificate. Without any listener, new workers are all that can be asked.
pub fn verdict(
    tallies: &[Tally],
    new_workers: bool,
    elapsed: Duration,
    deadline: Duration,
) -> Verdict {
    if new_workers && tallies.iter().all(Tally::settled) {
        return Verdict::Converged;
    }
    if elapsed < deadline {
        return Verdict::Wait;
    }
    if tallies
        .iter()
        .any(|tally| tally.healthy_before && tally.last == Some(Seen::Down))
    {
        return Verdict::Regressed;
    }
    Verdict::NotApplied
}

/// How long until the next handshakes: soon at first, then less and less often; evenly once the new leaf is seen.
pub fn pause(tallies: &[Tally], rounds: u32) -> Duration {
    let unsettled = || tallies.iter().filter(|tally| !tally.settled());
    if unsettled().next().is_some() && unsettled().all(|tally| tally.last == Some(Seen::New)) {
        return SPACING;
    }
    (Duration::from_millis(10) * (rounds + 1)).min(Duration::from_millis(250))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn seen(list: &[(Seen, u64)], first: bool, healthy: bool) -> Tally {
        let mut tally = Tally::new(first, healthy);
        for (seen, at) in list {
            tally.add(*seen, ms(*at));
        }
        tally
    }

    #[test]
    fn five_in_a_row_over_300_ms_are_needed_on_a_first_name() {
        use Seen::{New, Old};
        let row = [(New, 0), (New, 75), (New, 150), (New, 225), (New, 300)];
        assert!(seen(&row, true, true).settled());
        assert!(!seen(&row[..4], true, true).settled());
        // Too quick: an old worker may yet answer.
        assert!(
            !seen(
                &[(New, 0), (New, 1), (New, 2), (New, 3), (New, 4)],
                true,
                true
            )
            .settled()
        );
        // An old leaf in between begins the row anew.
        let broken = [
            (New, 0),
            (New, 75),
            (Old, 150),
            (New, 225),
            (New, 300),
            (New, 375),
        ];
        assert!(!seen(&broken, true, true).settled());
        assert!(seen(&[(New, 5)], false, true).settled());
    }

    #[test]
    fn an_old_leaf_before_the_deadline_means_wait_and_after_it_not_applied() {
        let tally = [seen(&[(Seen::Old, 100)], true, true)];
        assert_eq!(verdict(&tally, true, ms(200), LIMIT), Verdict::Wait);
        assert_eq!(verdict(&tally, true, LIMIT, LIMIT), Verdict::NotApplied);
    }

    #[test]
    fn without_new_workers_nothing_is_converged() {
        let tally = [seen(&[(Seen::New, 100)], false, true)];
        assert_eq!(verdict(&tally, false, ms(200), LIMIT), Verdict::Wait);
        assert_eq!(verdict(&tally, false, LIMIT, LIMIT), Verdict::NotApplied);
        assert_eq!(verdict(&tally, true, ms(200), LIMIT), Verdict::Converged);
    }

    #[test]
    fn a_listener_that_was_healthy_and_is_down_has_regressed() {
        let down = |healthy| [seen(&[(Seen::Down, 100)], true, healthy)];
        assert_eq!(verdict(&down(true), true, LIMIT, LIMIT), Verdict::Regressed);
        assert_eq!(
            verdict(&down(false), true, LIMIT, LIMIT),
            Verdict::NotApplied
        );
        assert_eq!(verdict(&down(true), true, ms(1), LIMIT), Verdict::Wait);
    }

    #[test]
    fn what_needs_no_probe_and_no_listener_at_all_are_no_hindrance() {
        assert_eq!(
            verdict(
                &[seen(&[(Seen::Exempt, 1)], true, false)],
                true,
                ms(1),
                LIMIT
            ),
            Verdict::Converged
        );
        assert_eq!(verdict(&[], true, ms(1), LIMIT), Verdict::Converged);
        assert_eq!(verdict(&[], false, ms(1), LIMIT), Verdict::Wait);
    }

    #[test]
    fn handshakes_are_never_made_without_a_pause() {
        let old = [seen(&[(Seen::Old, 1)], true, true)];
        let new = [seen(&[(Seen::New, 1)], true, true)];
        assert_eq!(pause(&old, 0), ms(10));
        assert_eq!(pause(&old, 1_000), ms(250));
        assert_eq!(pause(&new, 0), SPACING);
        assert_eq!(pause(&[new[0], old[0]], 2), ms(30));
        // All is seen, and new workers are not.
        assert_eq!(pause(&[], 0), ms(10));
    }

    #[test]
    fn the_deadline_is_scaled_from_the_test() {
        assert_eq!(deadline(ms(10)), ms(10_200));
        assert_eq!(deadline(ms(1_400)), ms(38_000));
    }

    proptest! {
        #[test]
        fn a_verdict_comes_at_the_deadline_at_the_latest(
            shown in proptest::collection::vec((0_u8..5, any::<bool>(), any::<bool>()), 0..6), workers: bool, over in 0_u64..1000
        ) {
            let kinds = [Seen::New, Seen::Old, Seen::Stranger, Seen::Down, Seen::Exempt];
            let tallies: Vec<Tally> = shown.iter().map(|(kind, first, healthy)| {
                seen(&[(kinds[usize::from(*kind)], 10)], *first, *healthy)
            }).collect();
            prop_assert_ne!(verdict(&tallies, workers, LIMIT + ms(over), LIMIT), Verdict::Wait);
            let early = verdict(&tallies, workers, ms(20), LIMIT);
            prop_assert!(matches!(early, Verdict::Wait | Verdict::Converged));
        }
    }
}
