use super::*;
use proptest::prelude::*;

fn candidate(ever_real: bool, older_worthless: bool) -> Candidate {
    Candidate {
        progress: Progress::Wanted,
        ever_real,
        older_worthless,
        verdict: None,
    }
}

fn round(candidates: &[Candidate]) -> Round {
    Round::new(
        candidates
            .iter()
            .enumerate()
            .map(|(index, candidate)| (format!("c{index}").parse().unwrap(), *candidate))
            .collect(),
    )
}

/// What performing a step finds, in a world where everything goes well unless told otherwise.
struct World {
    host: Host,
    /// Results of the tests in their order; then they pass.
    tests: Vec<bool>,
    verdict: Verdict,
}

const GOOD: World = World {
    host: Host::Sound,
    tests: Vec::new(),
    verdict: Verdict::Converged,
};

/// Performs the whole round; the steps, in words.
fn walk(mut round: Round, mut world: World) -> Vec<String> {
    let mut log = Vec::new();
    for _ in 0..1_000 {
        let step = next(&round);
        let list = |names: &[CertificateName]| {
            names
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("+")
        };
        let advance = |round: &mut Round, names: &[CertificateName], progress| {
            for name in names {
                round.certificates.get_mut(name).unwrap().progress = progress;
            }
        };
        let mut passed = true;
        match &step {
            Step::Fetch(name) => {
                log.push(format!("fetch {name}"));
                advance(&mut round, std::slice::from_ref(name), Progress::Fetched);
            }
            Step::Verify(name) => {
                advance(&mut round, std::slice::from_ref(name), Progress::Verified)
            }
            Step::Stage(name) => advance(&mut round, std::slice::from_ref(name), Progress::Staged),
            Step::TestCandidate(name) => {
                advance(&mut round, std::slice::from_ref(name), Progress::Ready)
            }
            Step::Baseline => {
                log.push("baseline".into());
                round.host = world.host;
            }
            Step::Hold(names) => log.push(format!("hold {}", list(names))),
            Step::Activate(names) => {
                log.push(format!("activate {}", list(names)));
                advance(&mut round, names, Progress::Active);
            }
            Step::Test | Step::TestAgain => {
                passed = if world.tests.is_empty() {
                    true
                } else {
                    world.tests.remove(0)
                };
                log.push(format!(
                    "{} {passed}",
                    if step == Step::Test {
                        "test"
                    } else {
                        "test again"
                    }
                ));
            }
            Step::Reload => log.push("reload".into()),
            Step::Confirm(names) => {
                log.push(format!("confirm {}", list(names)));
                for name in names {
                    round.certificates.get_mut(name).unwrap().verdict = Some(world.verdict);
                }
            }
            Step::RollBack(names) => log.push(format!("roll back {}", list(names))),
            Step::Report(names) => log.push(format!("report {}", list(names))),
            Step::Done => return log,
        }
        after(&mut round, &step, passed);
    }
    panic!("the round doesn't end: {log:?}");
}

#[test]
fn all_that_are_due_share_one_reload() {
    let log = walk(
        round(&[candidate(true, false), candidate(true, false)]),
        GOOD,
    );
    assert_eq!(
        log,
        [
            "fetch c0",
            "fetch c1",
            "baseline",
            "activate c0+c1",
            "test true",
            "reload",
            "confirm c0+c1",
            "report c0+c1"
        ]
    );
}

#[test]
fn a_joint_test_that_fails_is_rolled_back_and_tried_one_by_one() {
    let world = World {
        tests: vec![false, true, false, true],
        ..GOOD
    };
    let log = walk(
        round(&[candidate(true, false), candidate(true, false)]),
        world,
    );
    assert_eq!(
        log[2..],
        [
            "baseline",
            "activate c0+c1",
            "test false",
            "roll back c0+c1",
            "activate c0",
            "test true",
            "reload",
            "confirm c0",
            "report c0",
            "activate c1",
            "test false",
            "roll back c1",
            "test again true",
            "report c1",
        ]
    );
}

#[test]
fn a_joint_test_that_fails_rolls_back_even_to_what_is_worthless_to_try_them_one_by_one() {
    let world = World {
        tests: vec![false, true, false],
        ..GOOD
    };
    let log = walk(
        round(&[candidate(true, false), candidate(true, true)]),
        world,
    );
    assert_eq!(
        log[3..],
        [
            "activate c0+c1",
            "test false",
            "roll back c0+c1",
            "activate c0",
            "test true",
            "reload",
            "confirm c0",
            "report c0",
            "activate c1",
            "test false",
            "report c1",
        ]
    );
}

#[test]
fn a_broken_host_holds_what_was_ever_real_and_lets_the_first_one_in() {
    let world = World {
        host: Host::Broken,
        ..GOOD
    };
    let log = walk(
        round(&[candidate(true, false), candidate(false, true)]),
        world,
    );
    assert_eq!(
        log[2..],
        [
            "baseline",
            "hold c0",
            "activate c1",
            "test true",
            "reload",
            "confirm c1",
            "report c1"
        ]
    );
}

#[test]
fn a_stopped_nginx_gets_a_tested_pair_and_is_not_started() {
    let log = walk(
        round(&[candidate(true, false)]),
        World {
            host: Host::Stopped,
            ..GOOD
        },
    );
    assert_eq!(
        log,
        [
            "fetch c0",
            "baseline",
            "activate c0",
            "test true",
            "report c0"
        ]
    );
}

#[test]
fn without_nginx_only_a_first_certificate_is_put_in_place() {
    let log = walk(
        round(&[candidate(true, false), candidate(false, true)]),
        World {
            host: Host::Absent,
            ..GOOD
        },
    );
    assert_eq!(
        log[2..],
        ["baseline", "hold c0", "activate c1", "report c1"]
    );
}

#[test]
fn an_edit_in_progress_holds_everything() {
    let log = walk(
        round(&[candidate(false, true)]),
        World {
            host: Host::Editing,
            ..GOOD
        },
    );
    assert_eq!(log, ["fetch c0", "baseline", "hold c0"]);
}

#[test]
fn what_regressed_is_rolled_back_and_nginx_goes_back_to_it() {
    let log = walk(
        round(&[candidate(true, false)]),
        World {
            verdict: Verdict::Regressed,
            ..GOOD
        },
    );
    assert_eq!(
        log[2..],
        [
            "activate c0",
            "test true",
            "reload",
            "confirm c0",
            "roll back c0",
            "test true",
            "reload",
            "report c0"
        ]
    );
}

#[test]
fn nothing_goes_back_to_what_is_worthless() {
    for tests in [vec![false], vec![true]] {
        let world = World {
            verdict: Verdict::Regressed,
            tests,
            ..GOOD
        };
        let log = walk(round(&[candidate(true, true)]), world);
        assert!(
            !log.iter().any(|step| step.starts_with("roll back")),
            "{log:?}"
        );
    }
}

#[test]
fn what_was_not_applied_stays_on_disk() {
    let log = walk(
        round(&[candidate(true, false)]),
        World {
            verdict: Verdict::NotApplied,
            ..GOOD
        },
    );
    assert_eq!(
        log[2..],
        [
            "activate c0",
            "test true",
            "reload",
            "confirm c0",
            "report c0"
        ]
    );
}

fn hosts() -> impl Strategy<Value = Host> {
    prop_oneof![
        Just(Host::Sound),
        Just(Host::Broken),
        Just(Host::Editing),
        Just(Host::Stopped),
        Just(Host::Absent)
    ]
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Converged),
        Just(Verdict::NotApplied),
        Just(Verdict::Regressed)
    ]
}

proptest! {
    #[test]
    fn every_round_ends_and_each_certificate_is_reported_once(
        candidates in proptest::collection::vec(any::<(bool, bool)>(), 0..5),
        host in hosts(),
        tests in proptest::collection::vec(any::<bool>(), 0..12),
        verdict in verdicts(),
    ) {
        let list: Vec<Candidate> = candidates.iter().map(|(real, worthless)| candidate(*real, *worthless)).collect();
        let log = walk(round(&list), World { host, tests, verdict });
        let mut ended: Vec<&str> = log
            .iter()
            .filter_map(|step| step.strip_prefix("report ").or(step.strip_prefix("hold ")))
            .flat_map(|names| names.split('+'))
            .collect();
        ended.sort_unstable();
        let expected: Vec<String> = (0..list.len()).map(|index| format!("c{index}")).collect();
        prop_assert_eq!(ended, expected);
        // A reload follows a passed test, always.
        for (index, step) in log.iter().enumerate() {
            if step == "reload" {
                prop_assert_eq!(&log[index - 1], "test true");
            }
            if step.starts_with("activate") {
                prop_assert!(log[..index].iter().any(|earlier| earlier == "baseline"));
                prop_assert!(host != Host::Editing);
            }
        }
    }
}

#[test]
fn once_the_host_is_to_blame_the_others_are_held() {
    let candidate = |progress| Candidate {
        progress,
        ever_real: true,
        older_worthless: false,
        verdict: None,
    };
    let name = |text: &str| text.parse::<CertificateName>().unwrap();
    for host in [Host::Sound, Host::Stopped] {
        let mut round = Round::new(BTreeMap::from([
            (name("a"), candidate(Progress::Active)),
            (name("b"), candidate(Progress::Ready)),
        ]));
        round.host = host;
        round.one_by_one = true;
        round.phase = Phase::RolledBack;
        let step = next(&round);
        assert_eq!(step, Step::TestAgain);
        after(&mut round, &step, false);
        assert_eq!(round.host, Host::Broken);
        let step = next(&round);
        assert_eq!(step, Step::Report(vec![name("a")]));
        after(&mut round, &step, true);
        assert_eq!(next(&round), Step::Hold(vec![name("b")]));
    }
}
