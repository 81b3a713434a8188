//! The one sentence in the way of a certificate: what is wrong, the server's own words, and what comes next.

use certwell_proto::Generation;

use super::server::Speech;
use crate::plan::{
    install::Host,
    outcome::{Found, Outcome, REGRESSIONS},
};

/// The sentence; empty when nothing is in the way. `why` are the words of what failed.
pub(super) fn problem(
    outcome: Outcome,
    found: &Found,
    generation: Generation,
    active: Option<Generation>,
    why: &str,
    server: Speech,
) -> String {
    let name = server.name;
    let why = why.strip_prefix("[emerg] ").unwrap_or(why);
    let left = match active {
        Some(active) if active.is_none() => "the placeholder stays".to_owned(),
        Some(active) => format!("certificate left at generation {active}"),
        None => "nothing of ours is active".to_owned(),
    };
    match outcome {
        // All is said where no listener uses it.
        Outcome::Converged => why.to_owned(),
        Outcome::Rejected if found.verified == Some(false) => {
            format!(
                "generation {generation} is refused: {why}; {left}; the issuer has to make another"
            )
        }
        Outcome::Rejected if found.candidate == Some(false) => {
            format!(
                "{name} refuses generation {generation} by itself: {why}; {left}; the issuer has to make another"
            )
        }
        Outcome::Rejected => {
            format!(
                "generation {generation} made things worse {REGRESSIONS} times, and is given up: {why}; {left}"
            )
        }
        Outcome::Held => held(found, generation, &left, why, server),
        Outcome::NotApplied => format!(
            "{name} took the configuration, but generation {generation} is not proven to be served: {why}; it stays on disk, will retry the reload"
        ),
        Outcome::Regressed => format!(
            "generation {generation} made things worse ({} of {REGRESSIONS} times): {why}; {left}, will retry",
            found.regressions + 1
        ),
    }
}

fn held(found: &Found, generation: Generation, left: &str, why: &str, server: Speech) -> String {
    let Speech { name, test } = server;
    if found.stopped_early {
        return format!("generation {generation}: {why}; {left}, will retry");
    }
    if found.activated && found.tested.is_none() && found.host == Host::Sound {
        return format!("{name} can't test generation {generation}: {why}; {left}, will retry");
    }
    match found.host {
        Host::Stopped if found.activated && found.tested == Some(true) => format!(
            "{name} is not running; generation {generation} is installed and tested, and is served when {name} is started"
        ),
        Host::Absent if found.activated => {
            format!("{why}; generation {generation} is installed all the same")
        }
        Host::Absent => format!("{why}; {left}, will retry"),
        Host::Editing => format!("{why}; {left}"),
        _ => format!(
            "{test} failed on the host's own config (not ours): {why}; {left}, will retry when the config changes"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_design_s_own_sentence() {
        let found = Found {
            stopped_early: false,
            verified: Some(true),
            candidate: Some(true),
            host: Host::Broken,
            activated: false,
            resumed: false,
            tested: None,
            tested_again: None,
            reloaded: None,
            verdict: None,
            regressions: 0,
        };
        let why = "[emerg] unknown directive \"sssl\" in /etc/nginx/sites-enabled/media:12";
        assert_eq!(
            problem(
                Outcome::Held,
                &found,
                Generation(7),
                Some(Generation(6)),
                why,
                Speech::NGINX,
            ),
            "nginx -t failed on the host's own config (not ours): unknown directive \"sssl\" in \
             /etc/nginx/sites-enabled/media:12; certificate left at generation 6, will retry when the config changes"
        );
    }
}
