//! Which ending of an install is told of a certificate: the newest one, but for what must not be forgotten.

use certwell_proto::Generation;

use super::outcome::Outcome;

/// What is known of one certificate.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the issuer wants; 0 when nothing is on offer.
    pub wanted: Generation,
    /// What is active; 0 for the placeholder, or where nothing of ours is.
    pub active: Generation,
    /// The newest generation that was given up, with the reason.
    pub given_up: Option<(Generation, &'a str)>,
    /// How the last install ended, and of which generation.
    pub last: Option<(Generation, Outcome)>,
    /// Its sentence; empty when nothing is in the way.
    pub problem: &'a str,
    /// Why what is on offer isn't taken at all; empty when it is.
    pub refusal: &'a str,
    /// What is active isn't as it was put there.
    pub damaged: bool,
    /// What is told while a person keeps our hands off it.
    pub by_hand: Option<&'a str>,
}

/// The ending with its sentence.
///
/// A generation that was given up stays said while it is the newest that was tried, whatever is on offer since: it is
/// the only NACK, and the issuer may ask after any restart of either.
pub fn ending(facts: &Facts<'_>) -> (Option<(Generation, Outcome)>, String) {
    if let Some(sentence) = facts.by_hand {
        let generation = if facts.wanted.is_none() {
            facts.active
        } else {
            facts.wanted
        };
        return (Some((generation, Outcome::Held)), sentence.to_owned());
    }
    let last = facts.last.map(|(generation, _)| generation);
    let given_up = facts.given_up.filter(|(generation, _)| {
        *generation >= facts.active
            && *generation >= facts.wanted
            && last.is_none_or(|last| last <= *generation)
    });
    if let Some((generation, reason)) = given_up {
        return (Some((generation, Outcome::Rejected)), reason.to_owned());
    }
    if facts.refusal.is_empty() {
        return (facts.last, facts.problem.to_owned());
    }
    let sentence = if facts.damaged {
        format!("{}; {}", facts.problem, facts.refusal)
    } else {
        facts.refusal.to_owned()
    };
    (Some((facts.wanted, Outcome::Held)), sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONVERGED: Facts<'static> = Facts {
        wanted: Generation(2),
        active: Generation(2),
        given_up: None,
        last: Some((Generation(2), Outcome::Converged)),
        problem: "",
        refusal: "",
        damaged: false,
        by_hand: None,
    };

    fn told(facts: Facts<'_>) -> (Option<(u64, Outcome)>, String) {
        let (ending, sentence) = ending(&facts);
        (
            ending.map(|(generation, outcome)| (generation.0, outcome)),
            sentence,
        )
    }

    #[test]
    fn the_last_ending_is_told() {
        assert_eq!(
            told(CONVERGED),
            (Some((2, Outcome::Converged)), String::new())
        );
        let nothing = Facts {
            last: None,
            problem: "drawn when the issuer is reached",
            ..CONVERGED
        };
        assert_eq!(told(nothing), (None, nothing.problem.to_owned()));
    }

    #[test]
    fn what_was_given_up_is_told_while_it_is_the_newest() {
        let given_up = Facts {
            wanted: Generation(3),
            given_up: Some((Generation(3), "nginx refuses it")),
            ..CONVERGED
        };
        let said = (Some((3, Outcome::Rejected)), "nginx refuses it".to_owned());
        assert_eq!(told(given_up), said);
        for wanted in [0, 2] {
            let wanted = Generation(wanted);
            assert_eq!(
                told(Facts { wanted, ..given_up }),
                said,
                "whatever is on offer"
            );
        }
        let last = None;
        assert_eq!(told(Facts { last, ..given_up }), said, "after a restart");
        let newer = [
            Facts {
                wanted: Generation(4),
                ..given_up
            },
            Facts {
                active: Generation(4),
                ..given_up
            },
            Facts {
                last: Some((Generation(4), Outcome::Held)),
                ..given_up
            },
        ];
        for facts in newer {
            assert_eq!(
                told(facts).0.map(|(generation, _)| generation),
                facts.last.map(|(g, _)| g.0)
            );
        }
    }

    #[test]
    fn a_hold_by_hand_is_told_before_all_else() {
        let held = Facts {
            by_hand: Some("held by hand"),
            given_up: Some((Generation(3), "nginx refuses it")),
            refusal: "this host has had generation 3",
            ..CONVERGED
        };
        for (wanted, told_of) in [(3, 3), (0, 2)] {
            let wanted = Generation(wanted);
            assert_eq!(
                told(Facts { wanted, ..held }),
                (Some((told_of, Outcome::Held)), "held by hand".to_owned())
            );
        }
    }

    #[test]
    fn an_offer_that_is_refused_is_held_and_said_beside_damage() {
        let refused = Facts {
            wanted: Generation(1),
            refusal: "this host has had generation 2",
            problem: "generation 2 is damaged",
            ..CONVERGED
        };
        let held = Some((1, Outcome::Held));
        assert_eq!(told(refused), (held, refused.refusal.to_owned()));
        let damaged = Facts {
            damaged: true,
            ..refused
        };
        assert_eq!(
            told(damaged),
            (
                held,
                "generation 2 is damaged; this host has had generation 2".to_owned()
            )
        );
    }
}
