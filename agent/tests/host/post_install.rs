//! The operator's post-install hook: told of what is served, and in nobody's way.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use certwell_proto::v1;

use super::{
    host::{Host, NAME, write_program},
    issuer::eventually,
    world::{World, leaf, serving_as, world},
};

/// A program of these lines of shell in the place of the hook.
fn write_hook(host: &Host, lines: &str) -> PathBuf {
    let path = host.path("hook");
    let new = host.path("hook.new");
    write_program(&new, lines);
    fs::rename(&new, &path).unwrap();
    path
}

/// A world whose hook is this, before its agent starts.
async fn hooked(lines: &str) -> World {
    let world = world().await;
    write_hook(&world.host, lines);
    let path = world.host.path("agent.toml");
    let text = fs::read_to_string(&path).unwrap();
    let hook = world.host.path("hook");
    fs::write(&path, format!("post-install = {hook:?}\n{text}")).unwrap();
    world
}

/// What the hook wrote, once it holds so many lines.
async fn lines(host: &Host, count: usize) -> Vec<String> {
    let path = host.path("run/told");
    eventually("the hook was told", || async {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

/// The sentence that the issuer and `status` have, once it holds these words.
async fn told(world: &World, generation: u64, words: &str) {
    let report = world
        .issuer
        .told(words, NAME, |report| report.problem.contains(words))
        .await;
    assert_eq!(
        (report.outcome(), report.outcome_generation),
        (v1::Outcome::Converged, generation),
        "the outcome is the install's"
    );
    eventually("status says so", || async {
        let status = world.host.verb(&["status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        (text.contains(words) && status.status.code() == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_hook_is_told_of_each_generation_once_also_across_restarts() {
    let mut world = hooked("").await;
    let told = world.host.path("run/told");
    let link = world.host.live();
    write_hook(
        &world.host,
        &format!(
            "echo $CERTWELL_CERTIFICATE $CERTWELL_GENERATION $CERTWELL_DIRECTORY $(readlink {}) >> {}",
            link.display(),
            told.display()
        ),
    );
    let line = |generation: u64| {
        let store = world.host.path("state/store").join(NAME);
        let store = store.join(generation.to_string());
        let link = world.host.live();
        format!("{NAME} {generation} {} {}", link.display(), store.display())
    };
    let expected: Vec<String> = (1..=3).map(line).collect();
    (world, _) = serving_as(world).await;
    assert_eq!(lines(&world.host, 1).await, expected[..1]);

    assert_eq!(world.host.end_agent().await, Some(0));
    world.host.start_agent();
    let second = world.bundle(2);
    world.offer(&second);
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(
        lines(&world.host, 2).await,
        expected[..2],
        "once for the first"
    );
    let third = world.bundle(3);
    world.offer(&third);
    world.outcome(3, v1::Outcome::Converged).await;
    assert_eq!(lines(&world.host, 3).await, expected);
}

#[tokio::test]
async fn a_hook_that_fails_is_quoted_and_runs_again_when_it_was_mended() {
    let world = hooked("echo postfix is not installed >&2; exit 3").await;
    let (world, first) = serving_as(world).await;
    told(
        &world,
        1,
        "ended with exit code 3: postfix is not installed",
    )
    .await;
    assert_eq!(world.host.served(), Some(leaf(&first)));
    let told = world.host.path("run/told");
    write_hook(
        &world.host,
        &format!("echo $CERTWELL_GENERATION >> {}", told.display()),
    );
    let second = world.bundle(2);
    world.offer(&second);
    world.outcome(2, v1::Outcome::Converged).await;
    let report = world
        .issuer
        .told("nothing is in the way", NAME, |report| {
            report.outcome_generation == 2 && report.problem.is_empty()
        })
        .await;
    assert_eq!(report.outcome(), v1::Outcome::Converged);
    let lines = lines(&world.host, 1).await;
    assert_eq!(lines.last().map(String::as_str), Some("2"));
}

#[tokio::test]
async fn a_hook_that_hangs_stops_no_renewal_and_ends_with_the_agent() {
    let world = hooked("").await;
    let pid = world.host.path("run/pid");
    write_hook(
        &world.host,
        &format!(
            "echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600",
            pid = pid.display()
        ),
    );
    let (mut world, _) = serving_as(world).await;
    let running = eventually("the hook hangs", || async {
        fs::read_to_string(&pid).ok()?.trim().parse::<u32>().ok()
    })
    .await;
    for generation in 2..=3 {
        let next = world.bundle(generation);
        world.offer(&next);
        world.outcome(generation, v1::Outcome::Converged).await;
        assert_eq!(world.host.served(), Some(leaf(&next)));
    }
    let stat = format!("/proc/{running}/stat");
    assert!(fs::read_to_string(&stat).is_ok(), "it hangs all the while");
    assert_eq!(world.host.end_agent().await, Some(0));
    eventually("it is gone", || async {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hook_that_takes_longer_than_its_limit_is_ended_and_told_of() {
    let world = hooked("exec sleep 600").await;
    let path = world.host.path("agent.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("post-install-limit = \"1s\"\n{text}")).unwrap();
    let (world, _) = serving_as(world).await;
    told(&world, 1, "was stopped after 1s without an answer").await;
}

#[tokio::test]
async fn a_hook_that_another_user_could_change_is_not_run() {
    let world = hooked("").await;
    let told_file = world.host.path("run/told");
    let hook = write_hook(&world.host, &format!("echo run >> {}", told_file.display()));
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o777)).unwrap();
    let (world, _) = serving_as(world).await;
    told(&world, 1, "could change what root runs; chmod o-w").await;
    assert!(!told_file.exists());
}
