//! What an issuer that went wrong could hand out: refused before nginx hears of it, whatever it is.

use certwell_proto::v1;

use super::{
    fleet::Authority,
    host::NAME,
    world::{NAMES, World, leaf, serving},
};

/// A bundle of this generation that isn't good.
type Spoilt = fn(&World, u64) -> v1::Bundle;

fn changed(world: &World, generation: u64, change: impl Fn(&mut v1::KeyPair)) -> v1::Bundle {
    let mut bundle = world.bundle(generation);
    change(&mut bundle.key_pairs[0]);
    bundle
}

/// Each with how it ends: given up where the generation itself is wrong, held where what came can't be judged.
const CASES: &[(&str, Spoilt, v1::Outcome)] = &[
    (
        "the key of another leaf",
        |world, generation| {
            let other = world.bundle(generation).key_pairs.remove(0).private_key;
            changed(world, generation, |pair| pair.private_key = other.clone())
        },
        v1::Outcome::Rejected,
    ),
    (
        "other names",
        |world, generation| {
            world
                .authority
                .bundle(NAME, generation, &["other.example.org"])
        },
        v1::Outcome::Rejected,
    ),
    (
        "one name too few",
        |world, generation| world.authority.bundle(NAME, generation, &NAMES[..1]),
        v1::Outcome::Rejected,
    ),
    (
        "the chain of a stranger",
        |_, generation| Authority::new("a stranger").bundle(NAME, generation, NAMES),
        v1::Outcome::Rejected,
    ),
    (
        "an expired leaf",
        |world, generation| {
            world
                .authority
                .bundle_living(NAME, generation, NAMES, (-7_200, -3_600))
        },
        v1::Outcome::Held,
    ),
    (
        "a key of no bytes",
        |world, generation| changed(world, generation, |pair| pair.private_key.clear()),
        v1::Outcome::Held,
    ),
    (
        "a certificate of no bytes in the chain",
        |world, generation| changed(world, generation, |pair| pair.fullchain.push(Vec::new())),
        v1::Outcome::Rejected,
    ),
    (
        "10 MB of key",
        |world, generation| {
            changed(world, generation, |pair| {
                pair.private_key = vec![0; 10_000_000]
            })
        },
        v1::Outcome::Held,
    ),
];

#[tokio::test]
async fn a_bad_pair_is_refused_before_nginx_hears_of_it() {
    let (world, first) = serving().await;
    let tests = world.host.tests_of_nginx();
    let workers = world.host.settled_workers().await;
    let mut generation = 1;
    for (what, spoilt, outcome) in CASES {
        generation += 1;
        world.offer(&spoilt(&world, generation));
        let report = world.outcome(generation, *outcome).await;
        assert!(
            report.problem.contains("certificate left at generation 1"),
            "{what}: {}",
            report.problem
        );
        assert_eq!(world.host.active(), "1", "{what}");
        assert_eq!(world.host.served(), Some(leaf(&first)), "{what}");
        assert_eq!(world.host.staged(), ["1"], "{what}: nothing is on disk");
        assert_eq!(world.host.tests_of_nginx(), tests, "{what}");
        assert_eq!(world.host.workers(), workers, "{what}");
    }
    let good = world.bundle(generation + 1);
    world.offer(&good);
    world.outcome(generation + 1, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&good)));
}
