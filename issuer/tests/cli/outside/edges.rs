//! A host with several addresses, and kinds of key looked at apart.

use super::*;

/// Another address of sally's.
fn second(key: Key) -> Spot {
    Spot {
        address: Some("192.0.2.99:443".parse().unwrap()),
        key,
        ..at_host("sally")
    }
}

/// All is well, but for what is shown at the second address.
fn also(facts: &mut FleetFacts, key: Key, shown: Shown) {
    let mut all = all_well();
    all.push(told(second(key), shown));
    see(facts, None, all, noon());
}

fn kinds(facts: &FleetFacts) -> Vec<Kind> {
    let found = findings(facts, noon());
    found.into_iter().map(|finding| finding.kind).collect()
}

/// As listed in the seventh fact.
fn states(facts: &FleetFacts) -> Vec<v1::ListenerState> {
    let mut listeners = fact(facts, "sally").unwrap().listeners;
    listeners.sort_by(|one, other| one.address.cmp(&other.address));
    listeners.iter().map(v1::Listener::state).collect()
}

use v1::ListenerState::{Current, Down, Old, Stranger, Unprobed};

#[test]
fn the_seventh_fact_is_the_lowest_generation_of_a_host_s_addresses() {
    let mut facts = outside();
    older(&mut facts, MEDIA, 1, noon() + days(50));
    also(&mut facts, Key::Ecdsa, generation(1));
    assert_eq!(fact(&facts, "sally").unwrap().generation, Some(1));
    assert_eq!(states(&facts), [Current, Old]);
    // Whose leaf it is doesn't depend on the kind of its key.
    let mut facts = outside();
    older(&mut facts, MEDIA, 1, noon() + days(50));
    also(&mut facts, Key::Rsa, generation(1));
    assert_eq!(fact(&facts, "sally").unwrap().generation, Some(1));
    assert_eq!(kinds(&facts), [Kind::OtherGeneration]);
}

#[test]
fn one_address_that_shows_something_else_leaves_the_seventh_fact_empty() {
    let stranger = Shown::Leaf(shown(b"a stranger", MEDIA));
    for (what, state, kind) in [
        (stranger, Stranger, Kind::Stranger),
        (Shown::Down("refused".into()), Down, Kind::Down),
    ] {
        let mut facts = outside();
        also(&mut facts, Key::Ecdsa, what);
        assert_eq!(fact(&facts, "sally").unwrap().generation, None, "{kind:?}");
        assert_eq!(states(&facts), [Current, state]);
        assert_eq!(kinds(&facts), [kind]);
    }
}

#[test]
fn a_host_needs_no_rsa_leaf_and_may_show_another_of_ours_that_covers_the_name() {
    let mut facts = outside();
    also(&mut facts, Key::Rsa, Shown::NoSuchKey);
    assert_eq!(fact(&facts, "sally").unwrap().generation, Some(2));
    assert_eq!(states(&facts), [Current]);
    assert_eq!(kinds(&facts), []);

    let twin = "img.hachyderm.io";
    let mut facts = outside();
    declare(&mut facts, twin, &["sally"]);
    issue(&mut facts, twin, 1, noon() - days(10), noon() + days(80));
    also(
        &mut facts,
        Key::Rsa,
        Shown::Leaf(shown(&leaf(twin, 1), MEDIA)),
    );
    assert_eq!(fact(&facts, "sally").unwrap().generation, Some(2));
    assert_eq!(states(&facts), [Current, Unprobed]);
    assert_eq!(kinds(&facts), []);
}

#[test]
fn a_host_that_has_just_got_its_first_generation_may_still_show_the_placeholder() {
    let placeholder = || with("sally", Shown::Leaf(shown(b"placeholder", MEDIA)));
    for (age, expected) in [(1, vec![]), (5, vec![Kind::Stranger])] {
        let mut facts = outside();
        let issued = noon() - minutes(age);
        issue(&mut facts, MEDIA, 1, issued, noon() + days(80));
        let mut all: Vec<Told> = placeholder();
        for one in &mut all {
            if one.spot != at_host("sally") {
                one.shown = generation(1);
            }
        }
        see(&mut facts, None, all, noon());
        assert_eq!(kinds(&facts), expected, "{age}");
    }
}

#[test]
fn a_placeholder_is_no_stranger_because_a_second_generation_follows_before_anybody_looks_again() {
    let placeholder = || {
        let mut all: Vec<Told> = with("sally", Shown::Leaf(shown(b"placeholder", MEDIA)));
        for one in &mut all {
            if one.spot != at_host("sally") {
                one.shown = generation(1);
            }
        }
        all
    };
    for (age, expected) in [(1, vec![]), (5, vec![Kind::Stranger])] {
        let mut facts = outside();
        let first = noon() - minutes(age);
        issue(&mut facts, MEDIA, 1, first, noon() + days(80));
        see(&mut facts, None, placeholder(), first);
        see(&mut facts, None, placeholder(), noon());
        assert_eq!(kinds(&facts), expected, "{age}");
        older(&mut facts, MEDIA, 1, noon() + days(80));
        let (second, later) = (noon() + minutes(1) / 4, noon() + minutes(1) / 2);
        issue(&mut facts, MEDIA, 2, second, noon() + days(80));
        let kinds = |facts: &FleetFacts| -> Vec<Kind> {
            let found = findings(facts, later);
            found.into_iter().map(|finding| finding.kind).collect()
        };
        assert_eq!(kinds(&facts), expected, "{age}");
        // Whoever looks now and sees it still, sees a stranger.
        see(&mut facts, None, placeholder(), later);
        assert_eq!(kinds(&facts), [Kind::Stranger], "{age}");
    }
}

#[test]
fn an_older_generation_lacks_a_name_that_was_just_added_without_being_wrong() {
    for (age, expected) in [(1, vec![]), (5, vec![Kind::Chain, Kind::OtherGeneration])] {
        let mut facts = outside();
        older(&mut facts, MEDIA, 1, noon() + days(50));
        issue(
            &mut facts,
            MEDIA,
            2,
            noon() - minutes(age),
            noon() + days(80),
        );
        let lacking = SeenLeaf {
            chain_problem: Some("the leaf doesn't cover it".into()),
            ..shown(&leaf(MEDIA, 1), MEDIA)
        };
        see(
            &mut facts,
            None,
            with("sally", Shown::Leaf(lacking)),
            noon(),
        );
        assert_eq!(kinds(&facts), expected, "{age}");
    }
}

#[test]
fn a_host_that_left_a_certificate_is_seen_no_more() {
    let mut facts = seen(with("sally", Shown::Rejects));
    assert_eq!(kinds(&facts), [Kind::Down]);
    configure(&mut facts, |config| {
        let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
        declared.hosts.retain(|on| *on != host("sally"));
    });
    assert_eq!(kinds(&facts), []);
}

#[test]
fn a_probe_that_looks_at_one_place_alone_is_believed() {
    let mut facts = seen(all_well());
    let down = Shown::Down("timed out".into());
    see(
        &mut facts,
        Some("esme"),
        vec![told(at_host("sally"), down)],
        noon(),
    );
    assert_eq!(kinds(&facts), [Kind::Down]);
}
