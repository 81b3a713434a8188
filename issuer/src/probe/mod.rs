//! The issuer's own looks from outside.
//!
//! ```text
//! registry --facts--> task: a round, the next one when it is due or something has changed --sightings--> registry
//! ```

use std::time::Duration;

use certwell_probe::{Outlook, chain::Roots, next_round, outlook::LOOKS, shows_a_new_fault};
use certwell_proto::pace::pace;
use tokio::time::{Instant, sleep_until};

use crate::{
    acme::http::root_certificates,
    clock, config,
    fleet::Registry,
    plan::{
        facts::FleetFacts,
        looks::{looks, roots},
        seen::{merge::shortest_life, wire},
    },
};

/// What has changed is looked at after so long: other hosts are about to change too.
const SETTLE: Duration = Duration::from_secs(2);
/// And no sooner after the last round has begun than so many times as long as it took.
const RESPITE: u32 = 4;
/// No round begins sooner after the last one has.
const SHORTEST: Duration = Duration::from_secs(1);

/// Looks at everything, round after round; ends when the registry does.
pub async fn run(registry: Registry) {
    let mut stirred = registry.stirred();
    let system = system_roots();
    let mut cut = 0;
    let mut before = Vec::new();
    loop {
        let began = Instant::now();
        stirred.mark_unchanged();
        let Some(facts) = registry.facts().await else {
            return;
        };
        let settings = facts.config.probe.clone();
        let sightings = if settings.enabled {
            let outlook = outlook(&facts, &system, &mut cut);
            certwell_probe::round(&outlook, clock::now).await
        } else {
            Vec::new()
        };
        let is_new = shows_a_new_fault(&before, &sightings);
        before.clone_from(&sightings);
        match wire::told(sightings) {
            Ok(told) => registry.sightings(told).await,
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "what was seen from outside can't be told"
            ),
        }
        let life = shortest_life(&facts, clock::now());
        let every = pace(settings.every, life).max(SHORTEST);
        let due = next_round(began, Instant::now(), every, is_new);
        let respite = began + (began.elapsed() * RESPITE).max(SHORTEST);
        // Cancel-safe: nothing is lost of a change that comes while the other wins.
        tokio::select! {
            () = sleep_until(due.max(Instant::now())) => {}
            changed = stirred.changed() => {
                if changed.is_err() {
                    return;
                }
                sleep_until((Instant::now() + SETTLE).max(respite).min(due.max(respite))).await;
            }
        }
    }
}

fn outlook(facts: &FleetFacts, system: &[Vec<u8>], cut: &mut usize) -> Outlook {
    let mut looks = looks(facts);
    let over = looks.len().saturating_sub(LOOKS);
    if over > *cut {
        tracing::warn!(
            "{} looks from outside are more than the {LOOKS} of one round: the last names of the certificates with the \
             most of them aren't looked at",
            looks.len()
        );
    }
    *cut = over;
    looks.truncate(LOOKS);
    let by_system = facts
        .config
        .authorities
        .values()
        .any(|authority| authority.roots == config::Roots::System);
    let system = system.iter().filter(|_| by_system);
    Outlook {
        looks,
        roots: Roots::of(roots(facts).iter().chain(system)),
        resolvers: facts.config.probe.resolvers.clone(),
        every: facts.config.probe.every,
    }
}

/// None on a machine without any: then chains are held against what configuration and issued chains tell.
fn system_roots() -> Vec<Vec<u8>> {
    root_certificates(&config::Roots::System).unwrap_or_default()
}
