//! What stays: another hand's better certificate, and what is active where the way back leads to something worse.

use std::fs;

use certwell_proto::{pem, v1};

use super::{
    fleet::now_second,
    host::{Host, NAME, write_program},
    issuer::eventually,
    quiet::settled,
    recovery::activate_unknown,
    world::{NAMES, World, leaf, serving, world},
};

fn active(host: &Host) -> Option<String> {
    let link = fs::read_link(host.live()).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

async fn any_outcome(world: &World, generation: u64) -> v1::CertificateReport {
    world
        .issuer
        .told("how it ended", NAME, |report| {
            report.outcome_generation == generation && report.outcome() != v1::Outcome::Unspecified
        })
        .await
}

#[tokio::test]
async fn a_later_certificate_of_another_hand_stays_until_it_is_moved_away() {
    let mut world = world().await;
    // Of the same authority, and good for longer than what is offered.
    let (chain, key) = world.authority.server(NAMES, (-60, 7_200));
    let theirs = pem::certificates(chain.iter().map(Vec::as_slice));
    fs::write(world.host.live().join("fullchain.pem"), &theirs).unwrap();
    fs::write(
        world.host.live().join("privkey.pem"),
        pem::private_key(&key).as_bytes(),
    )
    .unwrap();
    world.host.start_nginx().await;
    let served = world.host.served();
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    let report = world.outcome(1, v1::Outcome::Held).await;
    assert!(
        report.problem.contains("another hand's certificate"),
        "{}",
        report.problem
    );
    let now = fs::read_to_string(world.host.live().join("fullchain.pem")).unwrap();
    assert_eq!(now, theirs);
    assert_eq!(world.host.served(), served);
    assert!(
        !world.host.agent_log().contains("step="),
        "nothing was done"
    );
    fs::rename(world.host.live(), world.host.path("live/away")).unwrap();
    world.outcome(1, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&first)));
}

#[tokio::test]
async fn an_expired_certificate_is_not_gone_back_to() {
    let mut world = world().await;
    // The operator's own key fits the expired certificate alone.
    let pinned = world.host.path("pinned.key");
    fs::copy(world.host.live().join("privkey.pem"), &pinned).unwrap();
    world.host.pin_key(&pinned);
    world.host.start_nginx().await;
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    let report = any_outcome(&world, 1).await;
    assert_eq!(report.outcome(), v1::Outcome::Held, "{}", report.problem);
    assert_eq!(active(&world.host).as_deref(), Some("1"));
    world.host.write_nginx(true, "");
    world.host.reload_nginx();
    world.outcome(1, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&first)));
}

#[tokio::test]
async fn what_a_crash_left_untested_is_not_rolled_back_to_the_placeholder() {
    let mut world = world().await;
    fs::remove_dir_all(world.host.live()).unwrap();
    let nothing = v1::DesiredCertificate {
        name: NAME.into(),
        identifiers: NAMES.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    world.issuer.assign(&world.authority, nothing);
    world.host.start_agent();
    eventually("the placeholder is there", || async {
        (active(&world.host).as_deref() == Some("0")).then_some(())
    })
    .await;
    world.host.end_agent().await;
    let pinned = world.host.path("pinned.key");
    fs::copy(world.host.live().join("privkey.pem"), &pinned).unwrap();
    world.host.pin_key(&pinned);
    world.host.start_nginx().await;
    let first = world.bundle(1);
    activate_unknown(&world.host, &first);
    world.offer(&first);
    world.host.start_agent();
    any_outcome(&world, 1).await;
    assert_eq!(active(&world.host).as_deref(), Some("1"));
    world.host.write_nginx(true, "");
    world.host.reload_nginx();
    world.outcome(1, v1::Outcome::Converged).await;
    assert!(!world.host.agent_log().contains("rolled back"));
}

#[tokio::test]
async fn what_a_crash_left_untested_is_not_rolled_back_to_what_expired_since() {
    let mut world = world().await;
    world.host.start_nginx().await;
    let until = now_second() + 5;
    let first = world.authority.bundle_living(NAME, 1, NAMES, (-60, 5));
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    world.host.end_agent().await;
    let pinned = world.host.path("pinned.key");
    fs::copy(world.host.live().join("privkey.pem"), &pinned).unwrap();
    world.host.pin_key(&pinned);
    world.host.reload_nginx();
    let second = world.bundle(2);
    activate_unknown(&world.host, &second);
    eventually("the first has expired", || async {
        (now_second() > until).then_some(())
    })
    .await;
    world.issuer.memory.lock().unwrap().reports.clear();
    world.offer(&second);
    world.host.start_agent();
    any_outcome(&world, 2).await;
    assert_eq!(active(&world.host).as_deref(), Some("2"));
    world.host.write_nginx(true, "");
    world.host.reload_nginx();
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
    assert!(!world.host.agent_log().contains("rolled back"));
}

#[tokio::test]
async fn another_bundle_than_was_announced_is_not_taken() {
    let (world, first) = serving().await;
    let second = world.bundle(2);
    let key = (NAME.to_owned(), 2);
    let set = |bundle: v1::Bundle| {
        let mut memory = world.issuer.memory.lock().unwrap();
        memory.bundles.insert(key.clone(), bundle);
    };
    world.issuer.hold_offers();
    world.offer(&second);
    set(world.bundle(2));
    world.issuer.release_offers();
    let report = world.outcome(2, v1::Outcome::Held).await;
    assert!(
        report.problem.contains("another bundle than it announced"),
        "{}",
        report.problem
    );
    assert_eq!(active(&world.host).as_deref(), Some("1"));
    assert_eq!(world.host.served(), Some(leaf(&first)));
    set(second.clone());
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn dates_that_this_host_s_clock_does_not_believe_reject_nothing() {
    let (world, first) = serving().await;
    let early = world.authority.bundle_living(NAME, 2, NAMES, (5, 3_600));
    world.offer(&early);
    let report = world.outcome(2, v1::Outcome::Held).await;
    assert!(report.problem.contains("valid"), "{}", report.problem);
    assert_eq!(active(&world.host).as_deref(), Some("1"));
    assert_eq!(world.host.served(), Some(leaf(&first)));
    // Tried again by itself, when the clock has come so far.
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&early)));
}

#[tokio::test]
async fn what_nginx_refuses_by_itself_is_rejected_before_anything_is_touched() {
    let mut world = world().await;
    // Stands for an nginx that doesn't take this certificate in a configuration of its own.
    let refuses = world.host.path("refuses");
    let text = r#"for argument in "$@"; do
  case "$argument" in
  *.candidate-*/nginx.conf)
    echo "nginx: [emerg] $(grep -o '[^ "]*fullchain.pem' "$argument" | head -n 1): ee key too small" >&2
    exit 1
  esac
done
exec /usr/sbin/nginx "$@"
"#;
    write_program(&refuses, text);
    world.host.set_agent("binary = \"refuses\"");
    world.host.begin_map();
    let before = fs::read(world.host.live().join("fullchain.pem")).unwrap();
    world.offer(&world.bundle(1));
    world.host.start_agent();
    let report = world.outcome(1, v1::Outcome::Rejected).await;
    assert!(
        report
            .problem
            .contains("nginx refuses generation 1 by itself: ")
            && report.problem.contains("ee key too small"),
        "{}",
        report.problem
    );
    let after = fs::read(world.host.live().join("fullchain.pem")).unwrap();
    assert_eq!(after, before);
    assert!(!world.host.agent_log().contains("step=Activate"));
    settled(&world.host).await;
    let log = world.host.agent_log();
    assert_eq!(log.matches("step=TestCandidate").count(), 1, "not again");
}
