//! The other verbs, and how refusals end.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, net::UnixListener, process::CommandExt as _},
    process::{Command, Stdio},
};

use certwell_issuer::clock;
use certwell_proto::v1;
use tonic::Code;

use crate::{
    fleet::{MEDIA, fleet, sally_host},
    run::{Ran, certwell, ran},
    server::Issuer,
};

#[test]
fn refusals_have_their_exit_codes() {
    let issuer = Issuer::of(fleet(clock::now()));
    for (code, exit) in [
        (Code::InvalidArgument, 2),
        (Code::DeadlineExceeded, 3),
        (Code::Unavailable, 5),
        (Code::PermissionDenied, 6),
        (Code::Unauthenticated, 6),
        (Code::NotFound, 7),
        (Code::AlreadyExists, 8),
        (Code::FailedPrecondition, 8),
        (Code::Aborted, 8),
        (Code::Internal, 1),
        (Code::DataLoss, 1),
    ] {
        issuer.known.refuse(code);
        for verb in [&["status"][..], &["pause"], &["hosts", "list"], &["events"]] {
            let ran = issuer.run(verb);
            assert_eq!(ran.code, exit, "{code}: {ran:?}");
            assert!(ran.err.contains("for a reason that is told"), "{}", ran.err);
            assert_eq!(ran.out, "");
        }
    }
}

#[test]
fn names_nobody_has_are_not_found_and_texts_that_are_no_names_are_refused() {
    let issuer = Issuer::of(fleet(clock::now()));
    for (arguments, exit, words) in [
        (
            &["explain", "other.example"][..],
            7,
            "no certificate other.example",
        ),
        (
            &["certificates", "show", "other.example"],
            7,
            "certwell certificates list",
        ),
        (&["hosts", "show", "fritz"], 7, "certwell hosts list"),
        (&["explain", "../etc"], 2, "is no certificate name"),
        (&["hosts", "revoke", "A B"], 2, "is no host name"),
        (&["token", "create"], 2, "--host"),
        (
            &["token", "create", "--host", "sally", "--ttl", "15"],
            2,
            "90s, 15m, 2h or 1d",
        ),
        (&["stauts"], 2, "status"),
    ] {
        let ran = issuer.run(arguments);
        assert_eq!(ran.code, exit, "{arguments:?}: {ran:?}");
        assert!(ran.said().contains(words), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn a_socket_that_does_not_answer_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent.sock");
    let deserted = directory.path().join("deserted.sock");
    drop(UnixListener::bind(&deserted).unwrap());
    for (socket, why) in [(&absent, "no such socket"), (&deserted, "nobody listens")] {
        let ran = ran(certwell(socket).arg("status"));
        assert_eq!(ran.code, 5);
        for part in [
            why,
            "Is certwell-issuer running?",
            "root, or in the group that admin-group names (default certwell)",
        ] {
            assert!(ran.said().contains(part), "{}", ran.err);
        }
        assert!(ran.said().contains(socket.to_str().unwrap()), "{}", ran.err);
    }
    // --socket goes before the environment.
    let issuer = Issuer::of(fleet(clock::now()));
    let mut command = certwell(&absent);
    assert_eq!(
        ran(command.args(["status", "--socket"]).arg(&issuer.socket)).code,
        0
    );
}

#[test]
fn an_issuer_that_takes_the_call_and_says_nothing_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("mute.sock");
    let _mute = UnixListener::bind(&socket).unwrap();
    let ran = ran(certwell(&socket).arg("status"));
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(
        ran.said().contains("did not answer within 10 seconds"),
        "{}",
        ran.err
    );
}

#[test]
fn a_user_who_may_not_use_the_socket_is_told_who_may() {
    let issuer = Issuer::of(fleet(clock::now()));
    fs::set_permissions(&issuer.socket, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(issuer.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = issuer.directory().join("certwell");
    // By another process: one that another test starts meanwhile would hold the copy open for writing, and what is
    // written to can't be run.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_certwell"))
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(&copy);
    command.arg("--socket").arg(&issuer.socket).arg("status");
    if nix::unistd::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    } else {
        fs::set_permissions(&issuer.socket, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let ran = ran(&mut command);
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(
        ran.said()
            .contains("are you root, or in the group that admin-group names (default certwell)?"),
        "{}",
        ran.err
    );
}

#[test]
fn tokens_alone_go_to_standard_output() {
    let issuer = Issuer::of(fleet(clock::now()));
    let one = issuer.run(&["token", "create", "--host", "sally"]);
    assert_eq!(
        (one.code, one.out.as_str()),
        (0, "certwell1.token-of-sally\n")
    );
    assert!(
        one.err
            .contains("`certwell-agent enroll -` on sally before "),
        "{}",
        one.err
    );

    let two = issuer.run(&[
        "token", "create", "--host", "sally", "--host", "esme", "--ttl", "1h",
    ]);
    assert_eq!(
        two.out,
        "sally certwell1.token-of-sally\nesme certwell1.token-of-esme\n"
    );
    assert_eq!(
        issuer.known.calls(),
        ["token sally 900", "token sally,esme 3600"]
    );

    let json = issuer.run(&["token", "create", "--host", "esme", "--json"]);
    assert_eq!(json.json()["tokens"][0]["token"], "certwell1.token-of-esme");
    assert!(
        json.json()["tokens"][0]["expires"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert_eq!(json.err, "");
}

#[test]
fn ending_a_host_asks_a_person_and_obeys_a_script() {
    let issuer = Issuer::of(fleet(clock::now()));
    for verb in ["revoke", "retire"] {
        let call = format!("{verb} sally");
        let no = issuer.run_on_terminal(&["hosts", verb, "sally"], "n\n", &[]);
        assert_eq!(no.code, 6, "{no:?}");
        assert!(
            no.out.contains("sally") && no.out.contains("[y/N]"),
            "{}",
            no.out
        );
        assert!(no.out.contains("nothing is changed"), "{}", no.out);
        assert!(!issuer.known.calls().contains(&call));

        let yes = issuer.run_on_terminal(&["hosts", verb, "sally"], "y\n", &[]);
        assert_eq!(yes.code, 0, "{yes:?}");
        assert_eq!(
            issuer.known.calls().iter().filter(|c| **c == call).count(),
            1
        );

        let told = issuer.run_on_terminal(&["hosts", verb, "sally", "--yes"], "", &[]);
        assert!(told.code == 0 && !told.out.contains("[y/N]"), "{told:?}");

        let script = issuer.run(&["hosts", verb, "sally"]);
        assert_eq!((script.code, script.err.as_str()), (0, ""));
        let json = issuer.run(&["hosts", verb, "sally", "--json"]).json();
        assert_eq!(json["host"], "sally");
        assert_eq!(json["life"], format!("{verb}d").replace("ee", "e"));
    }
}

#[test]
fn pause_and_resume_reach_the_issuer_by_name_or_as_a_whole() {
    let issuer = Issuer::of(fleet(clock::now()));
    let ran = issuer.run(&["pause", MEDIA]);
    assert!(
        ran.shown().contains("`certwell resume media.hachyderm.io`"),
        "{}",
        ran.out
    );
    for arguments in [&["pause"][..], &["resume", MEDIA], &["resume"]] {
        assert_eq!(issuer.run(arguments).code, 0);
    }
    let calls = [
        "pause media.hachyderm.io",
        "pause ",
        "resume media.hachyderm.io",
        "resume ",
    ];
    assert_eq!(issuer.known.calls(), calls);
    let json = issuer.run(&["pause", "--json"]).json();
    assert_eq!(
        (&json["paused"], &json["certificate"]),
        (&true.into(), &serde_json::Value::Null)
    );
}

#[test]
fn hosts_and_certificates_are_listed_and_shown() {
    let now = clock::now();
    let mut facts = fleet(now);
    *sally_host(&mut facts) = Default::default();
    let issuer = Issuer::of(facts);

    let list = issuer.run(&["hosts", "list"]);
    assert!(
        list.out.starts_with("sally has never joined"),
        "{}",
        list.out
    );
    assert!(
        list.out.contains("esme             enrolled  yes"),
        "{}",
        list.out
    );
    assert!(
        list.out
            .contains("sally            declared  no         never"),
        "{}",
        list.out
    );
    let json = issuer.run(&["hosts", "list", "--json"]).json();
    assert_eq!(json["hosts"][3]["life"], "declared");
    assert_eq!(json["hosts"][3]["last_seen"], serde_json::Value::Null);

    let show = issuer.run(&["hosts", "show", "esme"]);
    assert!(
        show.out.starts_with("esme is enrolled and connected"),
        "{}",
        show.out
    );
    for part in [
        "nginx       1.22.1",
        "system      Debian GNU/Linux 12",
        "media.hachyderm.io  converged  2",
    ] {
        assert!(show.out.contains(part), "{part:?}: {}", show.out);
    }
    let json = issuer.run(&["hosts", "show", "esme", "--json"]).json();
    assert_eq!(json["info"]["agent_version"], "0.1.0");

    let list = issuer.run(&["certificates", "list"]);
    assert!(
        list.out
            .contains("media.hachyderm.io  silent  2           80 days    in 50 days  3/4"),
        "{}",
        list.out
    );
    let show = issuer.run(&["certificates", "show", MEDIA]);
    let short =
        certwell_proto::fingerprint::hex(&crate::fleet::fingerprint(MEDIA, 2))[..8].to_owned();
    assert!(show.out.contains(&short), "{}", show.out);
    assert!(show.out.contains("127.0.0.1:8443"), "{}", show.out);
    let json = issuer
        .run(&["certificates", "show", MEDIA, "--json"])
        .json();
    assert_eq!(
        (&json["name"], &json["authority"]),
        (&MEDIA.into(), &"letsencrypt".into())
    );
    assert_eq!(json["hosts"].as_array().unwrap().len(), 4);

    let told = issuer.run(&["explain", MEDIA]);
    assert!(
        told.out.contains("3 of 4 hosts serve generation 2"),
        "{}",
        told.out
    );
    let json = issuer.run(&["explain", MEDIA, "--json"]).json();
    assert!(json["sentences"].as_array().unwrap().len() > 5);
}

fn happened(on: &str, text: &str) -> v1::Event {
    v1::Event {
        kind: v1::EventKind::Fetched.into(),
        certificate: MEDIA.into(),
        host: on.into(),
        generation: 2,
        text: text.into(),
        ..Default::default()
    }
}

#[test]
fn past_events_are_shown_and_new_ones_followed() {
    let issuer = Issuer::of(fleet(clock::now()));
    assert_eq!(issuer.run(&["events"]).out, "nothing has happened yet\n");
    for on in ["esme", "sally", "fritz"] {
        issuer
            .known
            .say(happened(on, &format!("{on} drew generation 2")));
    }
    let two = issuer.run(&["events", "--last", "2"]);
    assert!(!two.out.contains("esme") && two.out.contains("sally") && two.out.contains("fritz"));
    assert!(
        two.out
            .contains("fetched: media.hachyderm.io: sally drew generation 2"),
        "{}",
        two.out
    );

    let sally = issuer.run(&["events", "--host", "sally"]).out;
    assert_eq!(sally.lines().count(), 1, "{sally}");
    assert!(sally.contains("sally drew generation 2"), "{sally}");

    let lines = issuer.run(&["events", "--json"]).out;
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["kind"], &first["host"]),
        (&"fetched".into(), &"esme".into())
    );
    assert_eq!(lines.lines().count(), 3);

    let mut command = issuer.command(&["events", "--follow", "--last", "1"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("fritz"), "{line}");
    issuer.known.say(happened("sally", "news from sally"));
    line.clear();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("news from sally"), "{line}");
    // The issuer goes away: that is said, not taken for an end.
    drop(issuer);
    let ended: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, 5, "{ended:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let issuer = Issuer::of(fleet(clock::now()));
    for n in 0..2_000 {
        issuer
            .known
            .say(happened("sally", &format!("event {n} {}", "x".repeat(60))));
    }
    let mut command = issuer.command(&["events", "--last", "0"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended: Ran = child.wait_with_output().unwrap().into();
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}
