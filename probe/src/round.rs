//! Everything once: an outlook in, sightings out.
//!
//! Whoever is looked at twice (as a host's address, and as what DNS gives) is asked once in a round.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use certwell_proto::{Leaf, v1};
use jiff::Timestamp;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    chain::{self, Roots},
    dial::{Place, has_route},
    handshake::{Answer, Ask, Key, Served, ask},
    outlook::{Look, Outlook},
    resolve::{Resolver, Unresolved},
    url::{self, Expected},
};

/// For one handshake round the globe.
const LIMIT: Duration = Duration::from_secs(5);
/// A handshake that doesn't come about is tried once more after so long: a lost packet is no news.
const AGAIN: Duration = Duration::from_millis(300);
/// So soon after the end of a round that shows a new fault another one follows.
const SOON: Duration = Duration::from_secs(10);
/// Places that are looked at, and names that are asked for, at once.
const AT_ONCE: usize = 16;
/// Names of a leaf that are told: as many as a certificate of certwell may have.
const COVERS: usize = certwell_proto::limits::IDENTIFIERS_PER_CERTIFICATE;

/// Where a name is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    address: SocketAddr,
    name: String,
}

/// What was there.
#[derive(Debug, Clone)]
struct Found {
    ecdsa: Answer,
    rsa: Answer,
    /// Whether this machine could have reached it.
    has_route: bool,
    urls: BTreeMap<Expected, v1::UrlAnswer>,
    at: Timestamp,
}

type Resolved = BTreeMap<String, Result<BTreeSet<IpAddr>, Unresolved>>;

/// Looks at everything once. `now` reads the clock.
pub async fn round(outlook: &Outlook, now: fn() -> Timestamp) -> Vec<v1::Sighting> {
    let resolved = resolve(outlook).await;
    let mut spots: BTreeMap<Spot, BTreeSet<Expected>> = BTreeMap::new();
    for look in &outlook.looks {
        for address in addresses(look, &resolved).unwrap_or_default() {
            let name = look.name.clone();
            let urls = spots.entry(Spot { address, name }).or_default();
            urls.extend(look.url.clone());
        }
    }
    let found = few_at_once(spots.into_iter().map(|(spot, urls)| async move {
        let found = find(&spot, urls, now).await;
        (spot, found)
    }))
    .await;
    outlook
        .looks
        .iter()
        .flat_map(|look| sightings(look, &resolved, &found, &outlook.roots, now))
        .collect()
}

/// Whether something is wrong that wasn't in the round before. One look may have failed for any reason: whoever has seen
/// such a thing looks again soon, see [`next_round`]. That DNS leads a name to another address, which is as bad, is nothing new.
pub fn shows_a_new_fault(before: &[v1::Sighting], now: &[v1::Sighting]) -> bool {
    let faults = |sightings: &[v1::Sighting]| -> BTreeSet<_> {
        let wrong = sightings.iter().filter_map(|sighting| {
            let fault = match sighting.state() {
                v1::SightingState::Down | v1::SightingState::Rejects => "down",
                v1::SightingState::Unresolved => "unresolved",
                _ if sighting
                    .url
                    .as_ref()
                    .is_some_and(|url| !url.problem.is_empty()) =>
                {
                    "url"
                }
                _ => return None,
            };
            let (certificate, name) = (sighting.certificate.clone(), sighting.name.clone());
            let address = Some(&sighting.address).filter(|_| !sighting.by_dns);
            Some((fault, certificate, name, address.cloned()))
        });
        wrong.collect()
    };
    !faults(now).is_subset(&faults(before))
}

/// When the round after one that began and ended then is due. A quick one leaves the same pause however long the last
/// took: where nobody answers a round may take minutes, and the others are looked at as well.
pub fn next_round(began: Instant, ended: Instant, every: Duration, is_new: bool) -> Instant {
    let regular = began + every;
    match is_new {
        true => regular.min(ended + SOON),
        false => regular,
    }
}

/// Each name once.
async fn resolve(outlook: &Outlook) -> Resolved {
    let names: BTreeSet<&String> = outlook
        .looks
        .iter()
        .filter(|look| look.addresses.is_empty() && look.name.parse::<IpAddr>().is_err())
        .map(|look| &look.name)
        .collect();
    if names.is_empty() {
        return Resolved::new();
    }
    match Resolver::of(&outlook.resolvers) {
        Ok(resolver) => {
            few_at_once(names.into_iter().cloned().map(|name| {
                let resolver = resolver.clone();
                async move {
                    let addresses = resolver.addresses(&name).await;
                    (name, addresses)
                }
            }))
            .await
        }
        Err(problem) => names
            .into_iter()
            .map(|name| (name.clone(), Err(Unresolved::NoAnswer(problem.clone()))))
            .collect(),
    }
}

fn addresses(look: &Look, resolved: &Resolved) -> Result<Vec<SocketAddr>, Unresolved> {
    if !look.addresses.is_empty() {
        return Ok(look.addresses.clone());
    }
    if let Ok(ip) = look.name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, look.port)]);
    }
    match resolved.get(&look.name) {
        Some(Ok(ips)) => Ok(ips
            .iter()
            .map(|ip| SocketAddr::new(*ip, look.port))
            .collect()),
        Some(Err(problem)) => Err(problem.clone()),
        None => Err(Unresolved::NoAnswer("it wasn't asked for".to_owned())),
    }
}

async fn find(spot: &Spot, urls: BTreeSet<Expected>, now: fn() -> Timestamp) -> Found {
    let of = |key| Ask {
        place: Place::Tcp(spot.address),
        name: Some(spot.name.clone()),
        key: Some(key),
        proxy_protocol: false,
        proof: true,
    };
    let mut ecdsa = ask(&of(Key::Ecdsa), LIMIT).await;
    if matches!(ecdsa, Answer::Down(_)) {
        tokio::time::sleep(AGAIN).await;
        ecdsa = ask(&of(Key::Ecdsa), LIMIT).await;
    }
    let mut rsa = ask(&of(Key::Rsa), LIMIT).await;
    if matches!((&rsa, &ecdsa), (Answer::Down(_), Answer::Served(_))) {
        tokio::time::sleep(AGAIN).await;
        rsa = ask(&of(Key::Rsa), LIMIT).await;
    }
    let any = |wanted: fn(&Answer) -> bool| wanted(&ecdsa) || wanted(&rsa);
    let reached = any(|answer| matches!(answer, Answer::Served(_)));
    let has_route = !any(|answer| matches!(answer, Answer::Down(_))) || has_route(spot.address);
    let mut answers = BTreeMap::new();
    for expected in urls.into_iter().filter(|_| reached) {
        let mut answer = url::get(&expected, &spot.name, spot.address, LIMIT).await;
        // No answer at all, of a server that has just answered.
        if answer.status == 0 {
            tokio::time::sleep(AGAIN).await;
            answer = url::get(&expected, &spot.name, spot.address, LIMIT).await;
        }
        answers.insert(expected, answer);
    }
    Found {
        ecdsa,
        rsa,
        has_route,
        urls: answers,
        at: now(),
    }
}

fn sightings(
    look: &Look,
    resolved: &Resolved,
    found: &BTreeMap<Spot, Found>,
    roots: &Roots,
    now: fn() -> Timestamp,
) -> Vec<v1::Sighting> {
    let blank = v1::Sighting {
        certificate: look.certificate.to_string(),
        name: look.name.clone(),
        host: look
            .host
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        by_dns: look.host.is_none(),
        at_ms: now().as_millisecond(),
        key: v1::KeyAlgorithm::Ecdsa.into(),
        ..v1::Sighting::default()
    };
    let addresses = match addresses(look, resolved) {
        Ok(addresses) => addresses,
        Err(why) => {
            let own_fault = matches!(why, Unresolved::NoAnswer(_));
            let (Unresolved::None(detail) | Unresolved::NoAnswer(detail)) = why;
            let state = v1::SightingState::Unresolved.into();
            return vec![v1::Sighting {
                state,
                detail,
                own_fault,
                ..blank
            }];
        }
    };
    let mut sightings = Vec::new();
    for address in addresses {
        let spot = Spot {
            address,
            name: look.name.clone(),
        };
        let Some(found) = found.get(&spot) else {
            continue;
        };
        let blank = v1::Sighting {
            address: address.to_string(),
            at_ms: found.at.as_millisecond(),
            ..blank.clone()
        };
        let pairs = [
            (v1::KeyAlgorithm::Ecdsa, &found.ecdsa, &found.rsa),
            (v1::KeyAlgorithm::Rsa, &found.rsa, &found.ecdsa),
        ];
        let mut url = look
            .url
            .as_ref()
            .and_then(|expected| found.urls.get(expected))
            .cloned();
        for (key, answer, other) in pairs {
            let blank = v1::Sighting {
                key: key.into(),
                ..blank.clone()
            };
            let mut sighting = sighting(blank, answer, other, look, (roots, found.at));
            sighting.own_fault = !found.has_route && sighting.state() == v1::SightingState::Down;
            // Once for the place, not for each kind of key.
            if sighting.state() == v1::SightingState::Leaf {
                sighting.url = url.take();
            }
            sightings.push(sighting);
        }
    }
    sightings
}

fn sighting(
    blank: v1::Sighting,
    answer: &Answer,
    other: &Answer,
    look: &Look,
    (roots, at): (&Roots, Timestamp),
) -> v1::Sighting {
    let (state, detail) = match answer {
        Answer::Served(served) => return leaf(blank, served, look, roots, at),
        Answer::Rejects => (v1::SightingState::Rejects, String::new()),
        Answer::Down(why) => (v1::SightingState::Down, why.clone()),
        Answer::NoCommonWay(_) if matches!(other, Answer::Served(_)) => {
            (v1::SightingState::NoSuchKey, String::new())
        }
        Answer::NoCommonWay(why) => (
            v1::SightingState::Down,
            format!("no leaf with a key for ECDSA or RSA, or no TLS 1.2 or 1.3 ({why})"),
        ),
    };
    v1::Sighting {
        state: state.into(),
        detail,
        ..blank
    }
}

fn leaf(
    blank: v1::Sighting,
    served: &Served,
    look: &Look,
    roots: &Roots,
    at: Timestamp,
) -> v1::Sighting {
    let leaf = match Leaf::read(served.leaf()) {
        Ok(leaf) => leaf,
        Err(error) => {
            return v1::Sighting {
                state: v1::SightingState::Down.into(),
                detail: error.to_string(),
                ..blank
            };
        }
    };
    let problem = chain::problem(&served.chain, &leaf, &look.name, roots, at);
    v1::Sighting {
        state: v1::SightingState::Leaf.into(),
        fingerprint: leaf.fingerprint.0.to_vec(),
        not_before: leaf.not_before.as_second(),
        not_after: leaf.not_after.as_second(),
        covers: leaf
            .identifiers
            .iter()
            .take(COVERS)
            .map(ToString::to_string)
            .collect(),
        tls_version: served.tls_version.to_owned(),
        chain_problem: problem.unwrap_or_default(),
        ..blank
    }
}

/// What they come to, none of which may panic.
async fn few_at_once<K, V, F>(futures: impl IntoIterator<Item = F>) -> BTreeMap<K, V>
where
    K: Ord + Send + 'static,
    V: Send + 'static,
    F: Future<Output = (K, V)> + Send + 'static,
{
    let mut results = BTreeMap::new();
    // Dropped together with this future: nothing runs on unwatched.
    let mut running = JoinSet::new();
    for future in futures {
        if running.len() >= AT_ONCE {
            results.extend(running.join_next().await.and_then(Result::ok));
        }
        running.spawn(future);
    }
    while let Some(joined) = running.join_next().await {
        results.extend(joined.ok());
    }
    results
}
