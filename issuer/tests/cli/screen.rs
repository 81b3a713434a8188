//! What people see: 80 columns, colours, help, completions, man pages.

use std::{fs, process::Command};

use certwell_issuer::{cli::args::Cli, clock};
use clap::CommandFactory as _;

use crate::{
    fleet::{certificate, configure, days, declare, fleet, host, issue, observe},
    run::{certwell, ran},
    server::Issuer,
};

#[test]
fn everything_for_people_fits_80_columns_whatever_the_names() {
    let now = clock::now();
    let mut facts = fleet(now);
    let long_host = "h".repeat(63);
    let long_name = format!("{}.example.org", "c".repeat(115));
    configure(&mut facts, |config| {
        config.hosts.insert(host(&long_host), Default::default());
        config.hosts.get_mut(&host(&long_host)).unwrap().labels =
            vec!["l".repeat(90), "cdn".into()];
    });
    declare(&mut facts, "short.example", &["sally", &long_host]);
    let short = facts.certificates[&certificate("short.example")].clone();
    facts.certificates.insert(certificate(&long_name), short);
    configure(&mut facts, |config| {
        let mut declared = config.certificates.values().last().unwrap().clone();
        let long = format!("{0}.{0}.{0}.example.org", "i".repeat(63));
        declared.identifiers = vec![long.parse().unwrap(), "a.example.org".parse().unwrap()];
        config
            .certificates
            .insert(certificate(&long_name), declared);
    });
    issue(&mut facts, "short.example", 1_234_567, now, now + days(90));
    observe(&mut facts, "short.example", &long_host, 1_234_567, now);
    let issuer = Issuer::of(facts);
    for arguments in [
        &["status"][..],
        &["explain", &long_name],
        &["explain", "short.example"],
        &["certificates", "list"],
        &["certificates", "show", &long_name],
        &["certificates", "show", "short.example"],
        &["hosts", "list"],
        &["hosts", "show", &long_host],
        &["pause", &long_name],
        &["hosts", "revoke", &long_host],
        &[
            "explain",
            "nobody-has-this-name-that-is-so-very-long-that-it-does-not-fit-into-a-line-of-the-screen",
        ],
    ] {
        let ran = issuer.run(arguments);
        assert!(matches!(ran.code, 0 | 3 | 7), "{ran:?}");
        for line in ran.out.lines().chain(ran.err.lines()) {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line:?}");
        }
    }
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let issuer = Issuer::of(fleet(clock::now()));
    let escape = |text: &str| text.contains('\u{1b}');
    assert!(!escape(&issuer.run(&["status"]).out));
    let shown = issuer.run_on_terminal(&["status"], "", &[]);
    assert!(escape(&shown.out), "{}", shown.out);
    for set in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = issuer.run_on_terminal(&["status"], "", &[set]);
        assert!(
            !escape(&shown.out) && shown.out.contains("converged"),
            "{set:?}: {}",
            shown.out
        );
    }
    // An empty NO_COLOR asks for nothing.
    assert!(escape(
        &issuer
            .run_on_terminal(&["status"], "", &[("NO_COLOR", "")])
            .out
    ));
}

/// Every command and subcommand, as words after the program's name.
fn verbs(command: &clap::Command, before: &[String]) -> Vec<Vec<String>> {
    let mut all = vec![before.to_vec()];
    for sub in command.get_subcommands() {
        all.extend(verbs(sub, &[before, &[sub.get_name().to_owned()]].concat()));
    }
    all
}

#[test]
fn every_verb_has_help_with_examples_and_exit_codes_in_80_columns() {
    for verb in verbs(&Cli::command(), &[]) {
        let help = ran(certwell("/nowhere".as_ref()).args(&verb).arg("--help"));
        assert_eq!(help.code, 0);
        for line in help.out.lines() {
            assert!(line.chars().count() <= 80, "{verb:?}: {line}");
        }
        let group = matches!(verb.as_slice(), [one] if ["alerts", "certificates", "hosts", "token"].contains(&one.as_str()));
        if !group {
            assert!(help.out.contains("Examples:\n"), "{verb:?}");
            assert!(help.out.contains("Exit codes:"), "{verb:?}");
        }
        let takes_json =
            !group && !verb.is_empty() && !["completions", "man"].contains(&verb[0].as_str());
        assert_eq!(
            help.out.contains("--json"),
            takes_json || help.out.contains("jq"),
            "{verb:?}"
        );
    }
}

#[test]
fn completions_and_man_pages_come_from_the_same_definitions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ran(certwell("/nowhere".as_ref()).args(["completions", shell]));
        assert!(
            script.code == 0 && script.out.contains("certificates"),
            "{shell}"
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let bash = directory.path().join("certwell.bash");
    fs::write(
        &bash,
        ran(certwell("/nowhere".as_ref()).args(["completions", "bash"])).out,
    )
    .unwrap();
    assert!(
        Command::new("bash")
            .arg("-n")
            .arg(&bash)
            .status()
            .unwrap()
            .success()
    );

    let page = ran(certwell("/nowhere".as_ref()).arg("man"));
    assert!(
        page.code == 0 && page.out.contains(".TH certwell 1"),
        "{}",
        page.out
    );
    let man = ran(certwell("/nowhere".as_ref())
        .arg("man")
        .arg(directory.path()));
    assert_eq!(man.code, 0);
    for verb in verbs(&Cli::command(), &["certwell".into()]) {
        let page = directory.path().join(format!("{}.1", verb.join("-")));
        assert!(page.exists(), "{}", page.display());
    }
    let missing = ran(certwell("/nowhere".as_ref()).args(["man", "/nowhere/at/all"]));
    assert_eq!(missing.code, 7, "{missing:?}");
}
