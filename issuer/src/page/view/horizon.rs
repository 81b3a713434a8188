//! When what ends, on one axis that begins now: each end, the planned renewal, the last quarter and eighth of its life.

use std::collections::BTreeMap;

use certwell_proto::v1;
use jiff::Timestamp;

use super::{
    mark::Tone,
    moment::{Moment, span},
};
use crate::plan::words;

/// The furthest end stands here, in percent of the axis: there is room for its mark.
const FULL: f64 = 98.0;
/// Labels nearer to each other than this run into each other.
const APART: f64 = 11.0;
/// Lives that differ by more than this are shown on an axis that gives more room to what is near.
const ALIKE: f64 = 4.0;
/// Of one certificate, of generations that are still served somewhere.
const OLDER: usize = 3;

const STEPS: [(i64, &str); 20] = [
    (30, "30 s"),
    (60, "1 min"),
    (5 * 60, "5 min"),
    (15 * 60, "15 min"),
    (3_600, "1 h"),
    (3 * 3_600, "3 h"),
    (6 * 3_600, "6 h"),
    (12 * 3_600, "12 h"),
    (86_400, "1 d"),
    (3 * 86_400, "3 d"),
    (7 * 86_400, "7 d"),
    (14 * 86_400, "14 d"),
    (30 * 86_400, "30 d"),
    (60 * 86_400, "60 d"),
    (90 * 86_400, "90 d"),
    (180 * 86_400, "180 d"),
    (365 * 86_400, "1 year"),
    (730 * 86_400, "2 years"),
    (1095 * 86_400, "3 years"),
    (1461 * 86_400, "4 years"),
];

/// The axis, and a line for each certificate, the first to end first.
#[derive(Debug, Clone, PartialEq)]
pub struct Horizon {
    /// Whether the axis gives more room to what is near.
    pub bent: bool,
    /// Place in percent, and label.
    pub ticks: Vec<(f64, &'static str)>,
    /// The first to end first.
    pub lines: Vec<Line>,
}

/// One generation of one certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The certificate.
    pub certificate: String,
    /// Whose it is: "generation 7", or "generation 6, still served by sally".
    pub what: String,
    /// How it stands.
    pub tone: Tone,
    /// "88 d left", "expired 3 h ago".
    pub left: String,
    /// What comes before the end: "renewal in 46 d"; empty when nothing is planned.
    pub renewal: String,
    /// Where what lies, in percent; what is past isn't there.
    pub points: Vec<(Point, f64)>,
    /// Whether it is known when its life began.
    pub has_fractions: bool,
    /// All of it in words.
    pub sentence: String,
}

/// What lies on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// When it is to be renewed.
    Renewal,
    /// From here on an alert warns.
    Quarter,
    /// From here on an alert pages.
    Eighth,
    /// The end.
    End,
}

impl Horizon {
    /// Of all that is issued, and of what is still served instead.
    pub fn new(certificates: &[v1::CertificateStatus], now: Timestamp) -> Self {
        let mut lives: Vec<Life<'_>> = certificates.iter().flat_map(lives).collect();
        lives.sort_by_key(|life| life.end);
        let ends = lives.iter().map(|life| life.end - now.as_second());
        let axis = Axis::of(
            ends.clone().max().unwrap_or(0),
            ends.filter(|left| *left > 0).min().unwrap_or(0),
        );
        Self {
            bent: axis.bent,
            ticks: axis.ticks(),
            lines: lives
                .into_iter()
                .map(|life| life.line(&axis, now))
                .collect(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Axis {
    far: f64,
    bent: bool,
}

impl Axis {
    fn of(far: i64, near: i64) -> Self {
        let far = far.max(60) as f64;
        Self {
            far,
            bent: near > 0 && far / near as f64 > ALIKE,
        }
    }

    /// In percent; `None` for what is past.
    fn place(&self, from_now: i64) -> Option<f64> {
        let share = from_now as f64 / self.far;
        if share < 0.0 {
            return None;
        }
        let share = if self.bent { share.sqrt() } else { share };
        Some((share * FULL * 100.0).round() / 100.0)
    }

    fn ticks(&self) -> Vec<(f64, &'static str)> {
        let mut ticks: Vec<(f64, &'static str)> = Vec::new();
        // From the far end, where a label says most.
        for (seconds, label) in STEPS.iter().rev() {
            let Some(place) = self.place(*seconds).filter(|place| *place <= 95.0) else {
                continue;
            };
            let free = ticks.last().is_none_or(|(last, _)| last - place >= APART);
            if free && place >= APART / 2.0 {
                ticks.push((place, label));
            }
        }
        ticks.reverse();
        ticks
    }
}

/// A generation's life, in seconds.
struct Life<'a> {
    certificate: &'a str,
    what: String,
    begin: Option<i64>,
    end: i64,
    renewal: Option<i64>,
    paused: bool,
}

fn lives(certificate: &v1::CertificateStatus) -> Vec<Life<'_>> {
    let mut lives = Vec::new();
    if let Some(end) = certificate.not_after {
        lives.push(Life {
            certificate: &certificate.name,
            what: format!("generation {}", certificate.generation),
            begin: certificate.not_before,
            end,
            renewal: certificate.renew_at_ms.map(|at| at.div_euclid(1000)),
            paused: certificate.paused,
        });
    }
    let mut older: BTreeMap<(i64, Option<u64>), Vec<&str>> = BTreeMap::new();
    for host in &certificate.hosts {
        if let Some(end) = host.served_not_after
            && certificate.not_after.is_none_or(|newest| end < newest)
        {
            let generation = host.served.as_ref().and_then(|served| served.generation);
            let hosts = older.entry((end, generation)).or_default();
            hosts.push(&host.host);
        }
    }
    for ((end, generation), hosts) in older.into_iter().take(OLDER) {
        let what = generation.map_or("an older one".to_owned(), |number| {
            format!("generation {number}")
        });
        let by = match hosts.as_slice() {
            [one] => (*one).to_owned(),
            hosts => format!("{} hosts", hosts.len()),
        };
        lives.push(Life {
            certificate: &certificate.name,
            what: format!("{what}, still served by {by}"),
            begin: None,
            end,
            renewal: None,
            paused: false,
        });
    }
    lives
}

impl Life<'_> {
    fn line(&self, axis: &Axis, now: Timestamp) -> Line {
        let life = self.begin.map(|begin| (self.end - begin).max(0));
        let quarter = life.map(|life| self.end - life / 4);
        let eighth = life.map(|life| self.end - life / 8);
        let past = |at: Option<i64>| at.is_some_and(|at| at <= now.as_second());
        let older = self.begin.is_none();
        let tone = if past(Some(self.end)) || past(eighth) {
            Tone::Bad
        } else if past(quarter) || older {
            Tone::Warn
        } else {
            Tone::Good
        };
        let left = self.end - now.as_second();
        let points = [
            (Point::Renewal, self.renewal),
            (Point::Quarter, quarter),
            (Point::Eighth, eighth),
            (Point::End, Some(self.end)),
        ]
        .into_iter()
        .filter_map(|(point, at)| Some((point, axis.place(at? - now.as_second())?)))
        .collect();
        Line {
            certificate: self.certificate.to_owned(),
            what: self.what.clone(),
            tone,
            left: if left > 0 {
                format!("{} left", span(left))
            } else {
                format!("expired {}", Moment::of_seconds(self.end, now).near)
            },
            renewal: match self.renewal {
                _ if self.paused => "paused".to_owned(),
                Some(at) if at > now.as_second() => {
                    format!("renewal {}", Moment::of_seconds(at, now).near)
                }
                Some(_) => "renewal due".to_owned(),
                None => String::new(),
            },
            points,
            has_fractions: life.is_some(),
            sentence: self.sentence(quarter, eighth, now),
        }
    }

    fn sentence(&self, quarter: Option<i64>, eighth: Option<i64>, now: Timestamp) -> String {
        let dated = |at: i64| words::dated(words::from_seconds(at), now);
        let ends = if self.end > now.as_second() {
            "ends"
        } else {
            "ended"
        };
        let mut parts = vec![format!(
            "{} {} {ends} {}",
            self.certificate,
            self.what,
            dated(self.end)
        )];
        let mut tell = |what: &str, at: Option<i64>| {
            parts.extend(at.map(|at| format!("{what} {}", dated(at))));
        };
        tell("its renewal is planned for", self.renewal);
        tell("its last quarter begins", quarter);
        tell("its last eighth", eighth);
        format!("{}.", parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::cell::tests::{NOW, host, now},
        *,
    };

    const DAY: i64 = 86_400;

    fn certificate(name: &str, begun: i64, life: i64, renewal: i64) -> v1::CertificateStatus {
        v1::CertificateStatus {
            name: name.into(),
            generation: 7,
            not_before: Some(NOW - begun),
            not_after: Some(NOW - begun + life),
            renew_at_ms: Some((NOW + renewal) * 1000),
            ..v1::CertificateStatus::default()
        }
    }

    #[test]
    fn every_point_of_a_life_lies_where_its_instant_is() {
        let horizon = Horizon::new(&[certificate("media", 10 * DAY, 90 * DAY, 50 * DAY)], now());
        assert!(!horizon.bent);
        let line = &horizon.lines[0];
        // 80 days are left: the last quarter begins 22.5 days before the end, the last eighth 11.25.
        let expected = [
            (Point::Renewal, 50.0 / 80.0),
            (Point::Quarter, 57.5 / 80.0),
            (Point::Eighth, 68.75 / 80.0),
            (Point::End, 1.0),
        ];
        assert_eq!(line.points.len(), expected.len());
        for ((point, place), (wanted, share)) in line.points.iter().zip(expected) {
            assert_eq!(*point, wanted);
            assert!((place - share * FULL).abs() < 0.01, "{point:?} {place}");
        }
        assert_eq!(
            (line.left.as_str(), line.renewal.as_str(), line.tone),
            ("80 d left", "renewal in 50 d", Tone::Good)
        );
        assert!(line.sentence.contains("its last quarter begins"));
    }

    #[test]
    fn a_life_is_judged_by_what_fraction_of_it_is_left() {
        for life in [90 * DAY, 6 * DAY, 180] {
            for (share, tone) in [
                (0.5, Tone::Good),
                (0.74, Tone::Good),
                (0.76, Tone::Warn),
                (0.87, Tone::Warn),
                (0.88, Tone::Bad),
                (1.0, Tone::Bad),
                (1.5, Tone::Bad),
            ] {
                let begun = (life as f64 * share) as i64;
                let horizon = Horizon::new(&[certificate("media", begun, life, DAY)], now());
                assert_eq!(horizon.lines[0].tone, tone, "{share} of {life} s");
            }
        }
    }

    #[test]
    fn the_first_to_end_is_the_first_and_what_is_past_has_no_place() {
        let horizon = Horizon::new(
            &[
                certificate("late", 0, 90 * DAY, 60 * DAY),
                certificate("over", 91 * DAY, 90 * DAY, -20 * DAY),
                certificate("soon", 80 * DAY, 90 * DAY, -20 * DAY),
            ],
            now(),
        );
        let order: Vec<(&str, &str, &str)> = horizon
            .lines
            .iter()
            .map(|line| {
                (
                    line.certificate.as_str(),
                    line.left.as_str(),
                    line.renewal.as_str(),
                )
            })
            .collect();
        assert_eq!(
            order,
            [
                ("over", "expired 24 h ago", "renewal due"),
                ("soon", "10 d left", "renewal due"),
                ("late", "90 d left", "renewal in 60 d")
            ]
        );
        assert!(horizon.bent, "10 days and 90 days differ much");
        assert_eq!(horizon.lines[0].points, []);
        assert_eq!(horizon.lines[1].points.len(), 1);
    }

    #[test]
    fn an_older_generation_that_is_still_served_has_a_line_of_its_own() {
        let mut media = certificate("media", 0, 90 * DAY, 60 * DAY);
        media.hosts = vec![
            host("esme", v1::HostState::Pending, 1, Some(6)),
            host("fritz", v1::HostState::Converged, 6, Some(7)),
            host("sally", v1::HostState::Pending, 1, Some(6)),
        ];
        media.hosts[1].served_not_after = media.not_after;
        let horizon = Horizon::new(&[media], now());
        assert_eq!(horizon.lines.len(), 2);
        let line = &horizon.lines[0];
        assert_eq!(line.what, "generation 6, still served by 2 hosts");
        assert_eq!((line.tone, line.renewal.as_str()), (Tone::Warn, ""));
    }

    #[test]
    fn labels_of_the_axis_leave_room_for_each_other() {
        for far in [90, 180, 3_600, DAY, 6 * DAY, 45 * DAY, 90 * DAY, 398 * DAY] {
            for bent in [false, true] {
                let axis = Axis {
                    far: far as f64,
                    bent,
                };
                let ticks = axis.ticks();
                assert!(!ticks.is_empty() && ticks.len() <= 9, "{far} {ticks:?}");
                assert!(ticks.windows(2).all(|two| two[1].0 - two[0].0 >= APART));
            }
        }
    }
}
