//! Whether old and new workers may be answering side by side: for about 100 ms after a reload, longer with many
//! vhosts, a question is answered by either, and the CA's may be the other one.

use std::time::Duration;

/// Workers that were begun within this are of one reload.
const TOGETHER: Duration = Duration::from_millis(200);
/// A reload's old workers are told to go some 100 ms after the new ones begin.
const YOUNG: Duration = Duration::from_millis(300);
/// Ages that differ after this come from a worker that died and was replaced, not from a reload.
const LONG_AGO: Duration = Duration::from_secs(30);

/// Whether all workers that take connections are of one configuration, by their ages.
pub fn is_settled(ages: &[Duration]) -> bool {
    let (Some(youngest), Some(oldest)) = (ages.iter().min(), ages.iter().max()) else {
        return true;
    };
    *youngest >= LONG_AGO || (*youngest >= YOUNG && *oldest - *youngest <= TOGETHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_two_reloads_are_not_settled() {
        let settled = |ages: &[u64]| {
            let ages: Vec<Duration> = ages.iter().copied().map(Duration::from_millis).collect();
            is_settled(&ages)
        };
        assert!(settled(&[]));
        assert!(settled(&[60_000, 60_010]));
        assert!(!settled(&[60_000, 20]), "both answer");
        assert!(!settled(&[20]), "an old one may answer yet");
        assert!(!settled(&[5_000, 400]), "an old one stays long");
        assert!(settled(&[400, 410]));
        assert!(settled(&[600_000, 31_000]), "one died and was replaced");
    }
}
