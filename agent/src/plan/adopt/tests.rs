//! Every state of the disk, and what fits.

use super::*;
use crate::nginx::parse;
use proptest::prelude::*;

const TARGET: &str = "/etc/certwell/live/media";

fn ours() -> Entry {
    Entry::Link(TARGET.into())
}

fn found(live: Entry, aside: Entry, conf: Conf, conf_aside: bool, noted: bool) -> Found {
    Found {
        live,
        aside,
        conf,
        conf_aside,
        noted,
    }
}

/// What a step does to the disk.
fn perform(found: &mut Found, step: Step) {
    match step {
        Step::Note => found.noted = true,
        Step::SetConfAside => (found.conf, found.conf_aside) = (Conf::Absent, true),
        Step::PutConfBack => (found.conf, found.conf_aside) = (Conf::Present, false),
        Step::RemoveLink => found.aside = Entry::Absent,
        Step::MakeLink => found.aside = ours(),
        Step::Exchange => std::mem::swap(&mut found.live, &mut found.aside),
        Step::Done => {}
    }
}

fn way(mut found: Found, next: fn(&Found, &Path) -> Result<Step, Conflict>) -> (Found, Vec<Step>) {
    let mut steps = Vec::new();
    for _ in 0..12 {
        match next(&found, Path::new(TARGET)) {
            Ok(Step::Done) => return (found, steps),
            Ok(step) => {
                perform(&mut found, step);
                steps.push(step);
            }
            Err(conflict) => panic!("{conflict}: {found:?}"),
        }
    }
    panic!("no end: {steps:?}");
}

#[test]
fn certbot_is_kept_away_before_its_directory_is_exchanged_and_let_back_after() {
    let fresh = found(Entry::Directory, Entry::Absent, Conf::Present, false, false);
    let (adopted, steps) = way(fresh.clone(), adopt);
    assert_eq!(
        steps,
        [
            Step::Note,
            Step::SetConfAside,
            Step::MakeLink,
            Step::Exchange
        ]
    );
    assert_eq!(
        adopted,
        found(ours(), Entry::Directory, Conf::Absent, true, true)
    );
    let (back, steps) = way(adopted, undo);
    assert_eq!(steps, [Step::Exchange, Step::RemoveLink, Step::PutConfBack]);
    assert_eq!(
        back,
        Found {
            noted: true,
            ..fresh
        }
    );
}

#[test]
fn from_wherever_a_run_ended_both_directions_lead_to_their_end() {
    let fresh = found(Entry::Directory, Entry::Absent, Conf::Present, false, false);
    let mut states = vec![fresh.clone()];
    let mut now = fresh;
    for next in [adopt, undo] {
        loop {
            let step = next(&now, Path::new(TARGET)).unwrap();
            if step == Step::Done {
                break;
            }
            perform(&mut now, step);
            states.push(now.clone());
        }
    }
    assert_eq!(states.len(), 8);
    for state in states {
        let (adopted, _) = way(state.clone(), adopt);
        assert_eq!(
            (adopted.live, adopted.conf),
            (ours(), Conf::Absent),
            "{state:?}"
        );
        let (back, _) = way(state.clone(), undo);
        assert_eq!(
            (back.live, back.aside, back.conf),
            (Entry::Directory, Entry::Absent, Conf::Present),
            "{state:?}"
        );
    }
}

#[test]
fn what_somebody_else_put_there_is_left() {
    let elsewhere = || Entry::Link("/srv/other".into());
    let dir = || Entry::Directory;
    let at_live = |found| Conflict::Stranger(Spot::Live, found);
    let aside = |found| Conflict::Stranger(Spot::Aside, found);
    let table = [
        (elsewhere(), Entry::Absent, false, at_live(elsewhere())),
        (elsewhere(), dir(), false, at_live(elsewhere())),
        (dir(), dir(), false, aside(dir())),
        (dir(), Entry::Other, false, aside(Entry::Other)),
        (ours(), Entry::Other, false, aside(Entry::Other)),
        (ours(), elsewhere(), false, aside(elsewhere())),
        (Entry::Absent, dir(), false, at_live(Entry::Absent)),
        (ours(), Entry::Absent, false, Conflict::Lost),
        (dir(), Entry::Absent, true, Conflict::TwoConfs),
        (ours(), dir(), true, Conflict::TwoConfs),
    ];
    for (live, aside, conf_aside, conflict) in table {
        let found = found(live, aside, Conf::Present, conf_aside, true);
        for next in [adopt, undo] {
            assert_eq!(
                next(&found, Path::new(TARGET)),
                Err(conflict.clone()),
                "{found:?}"
            );
        }
    }
    // A link of an attempt with another certificate is made anew.
    let other = found(dir(), elsewhere(), Conf::Absent, true, true);
    assert_eq!(adopt(&other, Path::new(TARGET)), Ok(Step::RemoveLink));
}

#[test]
fn an_empty_configuration_of_certbot_s_is_in_nobody_s_way() {
    let left = found(ours(), Entry::Directory, Conf::Empty, true, true);
    assert_eq!(adopt(&left, Path::new(TARGET)), Ok(Step::Done));
    assert_eq!(undo(&left, Path::new(TARGET)), Ok(Step::Exchange));
}

#[test]
fn only_words_about_its_own_files_blame_a_lineage() {
    let live = ["/etc/letsencrypt/live/a.org".into()];
    let words = |path: &str| {
        format!("[emerg] cannot load certificate key \"{path}\": BIO_new_file() failed")
    };
    assert!(is_to_blame(
        &words("/etc/letsencrypt/live/a.org/privkey.pem"),
        &live
    ));
    assert!(!is_to_blame(
        &words("/etc/letsencrypt/live/a.org.uk/privkey.pem"),
        &live
    ));
    assert!(!is_to_blame("[emerg] unknown directive \"sssl\"", &live));
}

fn names(list: &[&str]) -> Vec<Identifier> {
    list.iter().map(|name| name.parse().unwrap()).collect()
}

fn blocks(names: &[&str]) -> Vec<Server> {
    let body: String = names
        .iter()
        .map(|name| format!("server {{ listen 443 ssl; {name} }}\n"))
        .collect();
    parse(&format!(
        "# configuration file /n.conf:\nhttp {{\n{body}}}\n"
    ))
    .servers
}

#[test]
fn the_names_that_server_blocks_answer_for_are_needed() {
    let lineage = names(&["a.org", "www.a.org", "*.b.org"]);
    let table: [(&[&str], &[&str]); 8] = [
        (&["server_name localhost a.org;"], &["a.org"]),
        (&["server_name a.org;"], &["a.org"]),
        (
            &["server_name a.org;", "server_name x.b.org;"],
            &["a.org", "x.b.org"],
        ),
        // Not covered today either.
        (&["server_name a.org other.org;"], &["a.org"]),
        (&["server_name *.b.org;"], &["*.b.org"]),
        (&["server_name _;"], &["a.org", "www.a.org", "*.b.org"]),
        (&["server_name ~^x;"], &["a.org", "www.a.org", "*.b.org"]),
        (&[], &["a.org", "www.a.org", "*.b.org"]),
    ];
    for (config, wanted) in table {
        assert_eq!(
            needed(&lineage, &blocks(config)),
            names(wanted),
            "{config:?}"
        );
    }
    // Of a lineage that can't be read, the blocks alone tell.
    assert_eq!(
        needed(&[], &blocks(&["server_name a.org;"])),
        names(&["a.org"])
    );
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn leaf(identifiers: &[&str]) -> Box<Leaf> {
    Box::new(Leaf {
        fingerprint: certwell_proto::Fingerprint([7; 32]),
        serial: "1".into(),
        not_before: at(0),
        not_after: at(1_000),
        identifiers: names(identifiers),
        issuer: "CN=x".into(),
        self_issued: false,
    })
}

#[test]
fn only_an_issued_valid_generation_that_covers_what_is_needed_fits() {
    let needed = names(&["a.org", "x.b.org"]);
    let active =
        |generation, names: &[&str]| Successor::Active(Generation(generation), leaf(names));
    let told = |successor: &Successor, second| {
        fit("a", successor, &needed, at(second)).map_err(|unfit| unfit.to_string())
    };
    assert_eq!(
        told(&active(3, &["a.org", "*.b.org"]), 5),
        Ok(Generation(3))
    );
    for (successor, second, word) in [
        (Successor::Absent, 5, "--as"),
        (Successor::Foreign, 5, "not of this agent"),
        (Successor::Damaged(Generation(2)), 5, "generation 2"),
        (active(0, &["a.org", "x.b.org"]), 5, "placeholder"),
        (active(3, &["a.org", "x.b.org"]), 1_000, "not valid now"),
        (active(3, &["a.org"]), 5, "doesn't cover x.b.org"),
        (active(3, &["*.x.b.org"]), 5, "cover a.org, x.b.org"),
        (active(3, &["www.x.org"]), 5, "doesn't cover a.org, x.b.org"),
    ] {
        let said = told(&successor, second).unwrap_err();
        assert!(said.contains(word), "{said}");
    }
}

fn entries() -> impl Strategy<Value = Entry> {
    prop_oneof![
        Just(Entry::Absent),
        Just(Entry::Directory),
        Just(ours()),
        Just(Entry::Link("/srv/other".into())),
        Just(Entry::Other),
    ]
}

proptest! {
    /// Whatever lies there: steps come to an end, and a directory of certbot's is never removed nor written over.
    #[test]
    fn no_directory_is_ever_lost(
        live in entries(), aside in entries(), conf in 0_u8..3, conf_aside: bool, noted: bool, back: bool
    ) {
        let conf = [Conf::Absent, Conf::Empty, Conf::Present][usize::from(conf)];
        let mut now = found(live, aside, conf, conf_aside, noted);
        let directories = |found: &Found| {
            [&found.live, &found.aside].into_iter().filter(|entry| **entry == Entry::Directory).count()
        };
        let before = directories(&now);
        let next = if back { undo } else { adopt };
        for turn in 0.. {
            prop_assert!(turn < 12, "no end");
            match next(&now, Path::new(TARGET)) {
                Err(_) | Ok(Step::Done) => break,
                Ok(step) => {
                    prop_assert!(step != Step::MakeLink || now.aside == Entry::Absent);
                    prop_assert!(step != Step::RemoveLink || matches!(now.aside, Entry::Link(_)));
                    prop_assert!(step != Step::PutConfBack || now.conf != Conf::Present);
                    prop_assert!(step != Step::SetConfAside || !now.conf_aside);
                    perform(&mut now, step);
                }
            }
            prop_assert_eq!(directories(&now), before);
        }
    }
}
