//! `certwell certificates renew`, with and without `--wait`.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use certwell_issuer::{clock, plan::facts::FleetFacts};
use certwell_proto::{Generation, v1};
use v1::EventKind as Kind;

use crate::{
    fleet::{HOSTS, MEDIA, days, fleet, host, issue, media, observe, older},
    run::Ran,
    server::{Issuer, Stage},
};

const RENEW: [&str; 3] = ["certificates", "renew", MEDIA];

fn event(kind: Kind, on: &str, text: &str) -> v1::Event {
    v1::Event {
        kind: kind.into(),
        certificate: MEDIA.into(),
        host: on.into(),
        generation: 3,
        text: text.into(),
        ..Default::default()
    }
}

fn say(kind: Kind, text: &'static str) -> Stage {
    Box::new(move |_: &mut FleetFacts| Some(event(kind, "", text)))
}

fn issued() -> Stage {
    Box::new(|facts: &mut FleetFacts| {
        let now = clock::now();
        issue(facts, MEDIA, 3, now, now + days(90));
        Some(event(Kind::Issued, "", "letsencrypt issued generation 3"))
    })
}

fn arrives(on: &'static str) -> [Stage; 2] {
    [
        Box::new(move |_: &mut FleetFacts| {
            Some(event(
                Kind::Installed,
                on,
                &format!("{on} installed generation 3"),
            ))
        }),
        Box::new(move |facts: &mut FleetFacts| {
            observe(facts, MEDIA, on, 3, clock::now());
            Some(event(
                Kind::Served,
                on,
                &format!("{on} serves generation 3 on 2 listeners"),
            ))
        }),
    ]
}

fn order() -> Vec<Stage> {
    vec![
        say(Kind::Preflight, "4 hosts answer for media.hachyderm.io"),
        say(Kind::Order, "generation 3 is ordered from letsencrypt"),
        say(Kind::Challenge, "letsencrypt validates media.hachyderm.io"),
        issued(),
    ]
}

fn whole() -> Vec<Stage> {
    order()
        .into_iter()
        .chain(HOSTS.into_iter().flat_map(arrives))
        .collect()
}

fn in_order(ran: &Ran, parts: &[&str]) {
    let mut rest = ran.out.as_str();
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("no {part:?}: {}", ran.out)
        };
        rest = after;
    }
}

#[test]
fn waiting_shows_every_stage_and_ends_when_all_hosts_serve_it() {
    let issuer = Issuer::of(fleet(clock::now()));
    issuer.known.say(event(
        Kind::Served,
        "esme",
        "esme serves generation 2: long ago",
    ));
    issuer.stages(whole());
    let ran = issuer.run(&[&RENEW[..], &["--wait"]].concat());
    in_order(
        &ran,
        &[
            "preflight: 4 hosts answer for media.hachyderm.io",
            "order: ",
            "challenge: ",
            "issued: ",
            "cdn-frankfurt-1 installed generation 3",
            "cdn-frankfurt-1 serves generation 3 on 2 listeners",
            "sally serves generation 3 on 2 listeners",
            "media.hachyderm.io generation 3 is served by all 4 hosts, after ",
        ],
    );
    assert!(
        !ran.out.contains("long ago"),
        "an event from before the renewal is shown: {}",
        ran.out
    );
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(
        ran.out.lines().all(|line| line.chars().count() <= 80),
        "{}",
        ran.out
    );
    let calls = issuer.known.calls();
    let at = |what: &str| {
        calls
            .iter()
            .position(|call| call.starts_with(what))
            .unwrap()
    };
    assert!(at("events follow=true after=1") < at("renew"), "{calls:?}");
}

#[test]
fn a_host_that_holds_back_lets_the_wait_time_out_with_its_words() {
    let mut facts = fleet(clock::now());
    older(&mut facts, MEDIA, 2, clock::now() + days(80));
    let issuer = Issuer::of(facts);
    let mut stages = order();
    stages.extend(HOSTS[..3].iter().copied().flat_map(arrives));
    stages.push(Box::new(|facts: &mut FleetFacts| {
        let sally = crate::fleet::sally(facts);
        sally.outcome = v1::Outcome::Held;
        sally.outcome_generation = Generation(3);
        sally.facts.problem = "sally: No space left on device".into();
        Some(event(
            Kind::HostProblem,
            "sally",
            "sally: No space left on device",
        ))
    }));
    issuer.stages(stages);
    let ran = issuer.run(&[&RENEW[..], &["--wait", "--timeout", "3s"]].concat());
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.said().contains(
            "generation 3 of media.hachyderm.io is not served everywhere after 3 seconds"
        )
    );
    assert!(
        ran.said().contains("sally: No space left on device"),
        "{}",
        ran.err
    );
    in_order(
        &ran,
        &[
            "esme serves generation 3",
            "host-problem: ",
            "No space left on device",
        ],
    );
}

#[test]
fn a_failed_order_is_shown_and_waited_out() {
    let issuer = Issuer::of(fleet(clock::now()));
    let mut stages = vec![say(
        Kind::OrderFailed,
        "letsencrypt answered 503; tried again in a minute",
    )];
    stages.extend(whole());
    issuer.stages(stages);
    let ran = issuer.run(&[&RENEW[..], &["--wait"]].concat());
    in_order(
        &ran,
        &[
            "order-failed: ",
            "answered 503",
            "issued: ",
            "served by all 4 hosts",
        ],
    );
    assert_eq!(ran.code, 0);
}

#[test]
fn an_order_that_does_not_come_about_times_out_with_its_problem() {
    let issuer = Issuer::of(fleet(clock::now()));
    issuer.stages(vec![Box::new(|facts: &mut FleetFacts| {
        media(facts, MEDIA).order.problem = Some("sally: port 80 answers 301".into());
        None
    })]);
    let ran = issuer.run(&[&RENEW[..], &["--wait", "--timeout", "2s"]].concat());
    assert_eq!(ran.code, 3);
    assert!(
        ran.said()
            .contains("after 2 seconds: sally: port 80 answers 301"),
        "{}",
        ran.err
    );
}

#[test]
fn an_issuer_that_is_restarted_in_the_middle_costs_no_verdict() {
    let mut issuer = Issuer::of(fleet(clock::now()));
    issuer.stages(order());
    let mut command = issuer.command(&[&RENEW[..], &["--wait", "--timeout", "30s"]].concat());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("issued: ") {
        assert!(out.read_line(&mut shown).unwrap() > 0, "{shown}");
    }
    issuer.stop();
    while !shown.contains("the issuer went away; waiting for it") {
        assert!(out.read_line(&mut shown).unwrap() > 0, "{shown}");
    }
    // What happens while nobody listens is shown later, once.
    issuer
        .known
        .say(event(Kind::Fetched, "esme", "esme drew generation 3"));
    issuer.stages(HOSTS.into_iter().flat_map(arrives).collect());
    issuer.start();
    while out.read_line(&mut shown).unwrap() > 0 {}
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{shown}");
    assert_eq!(shown.matches("the issuer went away").count(), 1, "{shown}");
    assert_eq!(
        shown.matches("esme drew generation 3").count(),
        1,
        "{shown}"
    );
    assert_eq!(
        shown.matches("letsencrypt issued generation 3").count(),
        1,
        "{shown}"
    );
    assert!(shown.contains("is served by all 4 hosts"), "{shown}");
}

#[test]
fn without_wait_it_returns_at_once() {
    let issuer = Issuer::of(fleet(clock::now()));
    let ran = issuer.run(&RENEW);
    assert!(
        ran.out
            .starts_with("generation 3 of media.hachyderm.io is being ordered"),
        "{}",
        ran.out
    );
    assert_eq!(ran.code, 0);
    assert_eq!(issuer.known.calls(), ["renew media.hachyderm.io"]);
}

#[test]
fn json_is_one_document_and_nothing_else() {
    let issuer = Issuer::of(fleet(clock::now()));
    let json = issuer.run(&[&RENEW[..], &["--json"]].concat()).json();
    assert_eq!(json["version"], 1);
    assert_eq!(
        (&json["generation"], &json["converged"]),
        (&3.into(), &false.into())
    );

    let issuer = Issuer::of(fleet(clock::now()));
    issuer.stages(whole());
    let json = issuer
        .run(&[&RENEW[..], &["--wait", "--json"]].concat())
        .json();
    assert_eq!(
        (&json["generation"], &json["converged"]),
        (&3.into(), &true.into())
    );
}

#[test]
fn on_a_terminal_a_spinner_goes_beside_the_lines() {
    let issuer = Issuer::of(fleet(clock::now()));
    issuer.stages(whole());
    let ran = issuer.run_on_terminal(
        &[&RENEW[..], &["--wait"]].concat(),
        "",
        &[("COLUMNS", "80")],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    in_order(
        &ran,
        &[
            "generation 3 of media.hachyderm.io",
            "issued: ",
            "is served by all 4 hosts",
        ],
    );
    assert!(ran.out.contains('\u{1b}'), "no spinner: {}", ran.out);
}

#[test]
fn what_can_not_be_renewed_is_refused_with_its_exit_code() {
    let mut facts = fleet(clock::now());
    media(&mut facts, MEDIA).paused = true;
    let issuer = Issuer::of(facts);
    for wait in [&[][..], &["--wait"]] {
        let ran = issuer.run(&[&RENEW[..], wait].concat());
        assert_eq!(ran.code, 8);
        assert!(
            ran.said()
                .contains("`certwell resume media.hachyderm.io` first"),
            "{}",
            ran.err
        );
        let ran = issuer.run(&[&["certificates", "renew", "other.example"][..], wait].concat());
        assert_eq!(ran.code, 7);
    }
    assert!(issuer.known.facts().hosts.contains_key(&host("sally")));
}
