//! `certwell-agent hold`: a person's hands are on it, so the agent's are off.

use std::fs;

use certwell_proto::v1;

use crate::{
    faults::{is_pair, serves, status_says},
    host::{Host, NAME},
    issuer::eventually,
    quiet::settled,
    world::{World, leaf, serving},
};

const OTHER: &str = "other.example.org";

fn said(output: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub(crate) fn hold(host: &Host, arguments: &[&str]) -> String {
    let output = host.verb(&[&["hold"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    said(&output)
}

pub(crate) async fn held(world: &World, generation: u64, words: &str) -> v1::CertificateReport {
    let told = |report: &v1::CertificateReport| {
        report.outcome() == v1::Outcome::Held
            && report.outcome_generation == generation
            && report.problem.contains(words)
    };
    world.issuer.told("held", NAME, told).await
}

fn fetched(world: &World, generation: u64) -> usize {
    let fetches = world.issuer.memory.lock().unwrap().fetches.clone();
    let wanted = (NAME.to_owned(), generation);
    fetches.iter().filter(|fetch| **fetch == wanted).count()
}

#[tokio::test]
async fn while_it_is_held_nothing_of_it_is_touched_and_others_go_on() {
    let (world, first) = serving().await;
    let host = &world.host;
    hold(host, &[NAME, "--for", "4h", "--note", "moving disks"]);
    held(&world, 1, "held by hand until ").await;
    let said = status_says(host, &["(moving disks): certwell-agent hold", "--release"]).await;
    assert!(said.contains(NAME), "{said}");
    // A renewal comes, and another certificate beside it.
    let second = world.bundle(2);
    world.offer(&second);
    held(&world, 2, "held by hand until ").await;
    let other = world.authority.bundle(OTHER, 1, &[OTHER]);
    world.issuer.offer(&world.authority, &other, &[OTHER]);
    let converged = |report: &v1::CertificateReport| report.outcome() == v1::Outcome::Converged;
    world.issuer.told("the other one", OTHER, converged).await;
    serves(&world, &first).await;
    // What its owner does with it stays done.
    fs::remove_file(host.live()).unwrap();
    let workers = host.settled_workers().await;
    settled(host).await;
    assert!(fs::symlink_metadata(host.live()).is_err(), "put back");
    fs::create_dir(host.live()).unwrap();
    fs::write(host.live().join("fullchain.pem"), "half a file").unwrap();
    settled(host).await;
    let text = fs::read_to_string(host.live().join("fullchain.pem")).unwrap();
    assert_eq!(text, "half a file");
    assert_eq!(host.workers(), workers, "no reload");
    assert_eq!(host.served(), Some(leaf(&first)));
    assert_eq!(fetched(&world, 2), 0);
    fs::remove_dir_all(host.live()).unwrap();
    hold(host, &[NAME, "--release"]);
    world.outcome(2, v1::Outcome::Converged).await;
    serves(&world, &second).await;
}

#[tokio::test]
async fn a_hold_lapses_by_itself_and_the_agent_goes_on_at_once() {
    let (world, first) = serving().await;
    hold(&world.host, &[NAME, "--for", "6s"]);
    let second = world.bundle(2);
    world.offer(&second);
    held(&world, 2, "held by hand until ").await;
    serves(&world, &first).await;
    world.outcome(2, v1::Outcome::Converged).await;
    serves(&world, &second).await;
    let listed = hold(&world.host, &[]);
    assert_eq!(listed.trim(), "nothing is held by hand");
}

#[tokio::test]
async fn a_hold_that_comes_while_a_bundle_is_drawn_keeps_it_from_being_activated() {
    let (world, first) = serving().await;
    world.issuer.memory.lock().unwrap().hold_fetches = true;
    let second = world.bundle(2);
    world.offer(&second);
    eventually("it is being drawn", || async {
        (fetched(&world, 2) > 0).then_some(())
    })
    .await;
    hold(&world.host, &[NAME, "--for", "1h"]);
    world.issuer.memory.lock().unwrap().hold_fetches = false;
    held(&world, 2, "held by hand until ").await;
    settled(&world.host).await;
    assert_eq!(world.host.activations(NAME, 2), 0);
    serves(&world, &first).await;
    hold(&world.host, &[NAME, "--release"]);
    world.outcome(2, v1::Outcome::Converged).await;
    serves(&world, &second).await;
}

#[tokio::test]
async fn a_hold_outlives_the_agent_and_what_a_crash_left_half_done_is_left_too() {
    let (mut world, first) = serving().await;
    world.host.kill_agent();
    let output = hold(&world.host, &[NAME, "--for", "1h"]);
    assert!(output.contains("the agent is not running"), "{output}");
    // As a kill between an exchange and its end leaves it.
    let half = world.host.path("live").join(format!(".{NAME}.new"));
    fs::create_dir(&half).unwrap();
    let second = world.bundle(2);
    world.offer(&second);
    world.host.start_agent();
    held(&world, 2, "held by hand until ").await;
    settled(&world.host).await;
    assert!(half.exists());
    assert_eq!(fetched(&world, 2), 0);
    serves(&world, &first).await;
    hold(&world.host, &[NAME, "--release"]);
    world.outcome(2, v1::Outcome::Converged).await;
    serves(&world, &second).await;
    assert!(!half.exists());
}

#[tokio::test]
async fn holds_that_cannot_be_read_hold_all_until_they_are_mended() {
    let (world, first) = serving().await;
    let file = world.host.path("state/holds.json");
    fs::write(&file, "{\"version\":1,\"certif").unwrap();
    let second = world.bundle(2);
    world.offer(&second);
    held(&world, 2, "holds.json can't be used").await;
    status_says(&world.host, &["holds.json can't be used", "remove it"]).await;
    serves(&world, &first).await;
    for verb in [
        &["hold"][..],
        &["hold", NAME, "--for", "1h"],
        &["hold", NAME, "--release"],
    ] {
        let output = world.host.verb(verb);
        assert_eq!(output.status.code(), Some(1), "{verb:?}");
        assert!(said(&output).contains("remove it"), "{}", said(&output));
    }
    fs::remove_file(&file).unwrap();
    world.outcome(2, v1::Outcome::Converged).await;
    serves(&world, &second).await;
}

#[tokio::test]
async fn what_expires_while_it_is_held_is_told_with_the_hold() {
    let (world, _) = serving().await;
    let second = world
        .authority
        .bundle_living(NAME, 2, crate::world::NAMES, (-60, 12));
    world.offer(&second);
    world.outcome(2, v1::Outcome::Converged).await;
    hold(&world.host, &[NAME, "--for", "1h"]);
    held(&world, 2, "less than a quarter of its life is left").await;
    held(&world, 2, "what is active expired at").await;
    assert!(is_pair(&world.host.live(), &second));
}

#[tokio::test]
async fn the_verb_lists_what_is_held_and_names_what_it_cannot_hold() {
    let (world, _) = serving().await;
    let host = &world.host;
    for (arguments, exit, words) in [
        (&[NAME][..], 2, "--for"),
        (&[NAME, "--for", "soon"], 2, "such as 30m, 4h or 2d"),
        (&[NAME, "--for", "60d"], 2, "30 days"),
        (&[NAME, "--for", "1h", "--release"], 2, "--release"),
        (&["--release"], 2, "NAME"),
        (&[NAME, "--for", "1h", "--note", "a\nb"], 2, "one line"),
        (&["../escape", "--for", "1h"], 2, "../escape"),
        (
            &["no.example.org", "--for", "1h"],
            7,
            "no certificate of this host",
        ),
        (
            &["no.example.org", "--release"],
            7,
            "no certificate of this host",
        ),
        (&[NAME, "--release"], 0, "was not held"),
    ] {
        let output = host.verb(&[&["hold"], arguments].concat());
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}");
        assert!(
            said(&output).contains(words),
            "{arguments:?}: {}",
            said(&output)
        );
    }
    assert!(!host.path("state/holds.json").exists());
    hold(host, &[NAME, "--for", "1h", "--note", "moving disks"]);
    let listed = hold(host, &[]);
    assert!(
        listed.contains(NAME) && listed.contains("moving disks"),
        "{listed}"
    );
    let listed: serde_json::Value = serde_json::from_str(&hold(host, &["--json"])).unwrap();
    assert_eq!(listed["version"], 1);
    let row = &listed["holds"][0];
    assert_eq!(
        (&row["certificate"], &row["note"]),
        (&NAME.into(), &"moving disks".into())
    );
    let at = |field: &str| {
        row[field]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    assert_eq!(at("until").as_second() - at("since").as_second(), 3_600);
    // Held anew: the later word counts.
    hold(host, &[NAME, "--for", "2h"]);
    let listed: serde_json::Value = serde_json::from_str(&hold(host, &["--json"])).unwrap();
    assert_eq!(listed["holds"].as_array().unwrap().len(), 1);
    assert_eq!(listed["holds"][0]["note"], serde_json::Value::Null);
    assert!(hold(host, &[NAME, "--release"]).contains("is released"));
    assert!(hold(host, &[]).contains("nothing is held"));
}
