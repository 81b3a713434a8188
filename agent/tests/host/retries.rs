//! What didn't work is tried again, by itself, and only that.

use std::{fs, time::Duration};

use certwell_agent::disk::{Ledger, Permissions, Store};
use certwell_proto::{Generation, v1};
use nix::fcntl::{Flock, FlockArg};

use tokio::time::Instant;

use super::{
    faults::gate::Gate,
    fleet::self_signed,
    host::{Host, NAME},
    issuer::eventually,
    quiet::settled,
    recovery::activate_unknown,
    world::{leaf, serving, serving_as, world},
};

fn active(host: &Host) -> String {
    let link = fs::read_link(host.live()).unwrap();
    link.file_name().unwrap().to_str().unwrap().to_owned()
}

async fn served(host: &Host, bundle: &v1::Bundle) {
    eventually("it is served", || async {
        (host.served() == Some(leaf(bundle))).then_some(())
    })
    .await;
}

fn converged(report: &v1::CertificateReport) -> bool {
    report.outcome() == v1::Outcome::Converged
}

#[tokio::test]
async fn a_ledger_that_cannot_be_saved_holds_the_install_and_nothing_is_touched() {
    let (world, first) = serving().await;
    // From here on only time wakes the agent.
    settled(&world.host).await;
    let workers = world.host.settled_workers().await;
    // In the way of the file that it is replaced by, for root as well.
    let in_the_way = world.host.path("state/.ledger.json.new");
    fs::create_dir(&in_the_way).unwrap();
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Held).await;
    assert!(
        report.problem.contains(".ledger.json.new")
            && report.problem.contains("certificate left at generation 1"),
        "{}",
        report.problem
    );
    assert_eq!(active(&world.host), "1");
    assert_eq!(world.host.activations(NAME, 2), 0);
    assert_eq!(world.host.served(), Some(leaf(&first)));
    assert_eq!(world.host.workers(), workers, "no reload");
    fs::remove_dir(&in_the_way).unwrap();
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn what_was_given_up_on_is_not_put_back_where_nothing_is() {
    let (mut world, first) = serving().await;
    eventually("the desired state is kept", || async {
        world.host.path("state/desired.bin").exists().then_some(())
    })
    .await;
    world.host.end_agent().await;
    // As three regressions leave it: whole on disk, and in the ledger as rejected.
    let store = Store::open(world.host.path("state/store"), Permissions::default()).unwrap();
    let second = world.bundle(2);
    let record = store.stage(&second.clone().try_into().unwrap()).unwrap();
    let path = world.host.path("state/ledger.json");
    let mut ledger = Ledger::load(&path).unwrap();
    let lineage = ledger.lineage().map(|lineage| lineage.id.to_string());
    let entry = ledger.entry_mut(&NAME.parse().unwrap());
    entry.record_staged(Generation(2), record, lineage);
    entry.rejected.insert(2, "given up".into());
    ledger.save(&path).unwrap();
    fs::remove_file(world.host.live()).unwrap();
    fs::remove_file(world.host.path("state/desired.bin")).unwrap();
    world.offer(&second);
    world.host.start_agent();
    // nginx refuses its configuration without it, which is no reason to leave it away.
    eventually("something is back", || async {
        fs::read_link(world.host.live()).ok()
    })
    .await;
    assert_eq!(active(&world.host), "1");
    let report = world.outcome(2, v1::Outcome::Rejected).await;
    assert_eq!(report.problem, "given up");
    settled(&world.host).await;
    assert_eq!(active(&world.host), "1");
    assert_eq!(world.host.activations(NAME, 2), 0);
    assert_eq!(world.host.served(), Some(leaf(&first)));
}

#[tokio::test]
async fn a_retry_that_becomes_due_during_a_pass_is_made_after_it() {
    let (mut world, _) = serving().await;
    world.host.end_agent().await;
    // One pass after a start, in which no file that is watched changes, so that only time wakes the agent: one
    // certificate can't be fetched, and is to be tried again within two seconds; then another one is reloaded, and there
    // the agent is held until that time is past.
    let second = world.bundle(2);
    activate_unknown(&world.host, &second);
    world.offer(&second);
    let other = "other.example.org";
    let bundle = world.authority.bundle(other, 1, &[other]);
    world.issuer.offer(&world.authority, &bundle, &[other]);
    // Another hand's that has expired: nothing is put there until ours comes.
    let theirs = world.host.path("live").join(other);
    fs::create_dir(&theirs).unwrap();
    let (expired, _) = self_signed(other, (-7_200, -3_600));
    fs::write(theirs.join("fullchain.pem"), expired).unwrap();
    let bundles = || world.issuer.memory.lock().unwrap();
    let key = (other.to_owned(), 1);
    bundles().bundles.remove(&key);
    let _ = fs::remove_file(world.host.path("state/desired.bin"));
    let asked = || bundles().fetches.iter().filter(|of| **of == key).count();
    let gate = Gate::start_agent_armed(&mut world.host, "Reload ");
    gate.held("Reload ").await;
    assert_eq!(asked(), 1, "it can't be fetched");
    bundles().bundles.insert(key.clone(), bundle);
    let due = Instant::now() + Duration::from_secs(2);
    eventually("its retry is due", || async {
        (Instant::now() > due).then_some(())
    })
    .await;
    gate.open();
    world.outcome(2, v1::Outcome::Converged).await;
    world
        .issuer
        .told("fetched after all", other, converged)
        .await;
}

#[tokio::test]
async fn a_host_that_came_right_by_itself_is_not_reloaded() {
    let world = world().await;
    world.host.set_agent("edit-hold = \"0s\"");
    let (world, _) = serving_as(world).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    world
        .host
        .write_nginx(true, &format!("server {{ listen {port}; }}"));
    let second = world.bundle(2);
    world.offer(&second);
    world.outcome(2, v1::Outcome::NotApplied).await;
    // Nothing of this is seen by the agent before its retry.
    let tests = world.host.tests_of_nginx();
    drop(taken);
    world.host.reload_nginx();
    served(&world.host, &second).await;
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.tests_of_nginx(), tests, "nothing was in doubt");
}

#[tokio::test]
async fn a_listener_that_fails_with_a_new_generation_gets_the_old_one_back() {
    let mut world = world().await;
    // nginx takes an RSA certificate, and no handshake with it comes about.
    let path = world.host.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    let only = " ssl;\n  ssl_conf_command SignatureAlgorithms ecdsa_secp256r1_sha256;";
    fs::write(&path, text.replacen(" ssl;", only, 1)).unwrap();
    world.host.start_nginx().await;
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    let second = world.authority.rsa_bundle(NAME, 2, super::world::NAMES);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Regressed).await;
    assert!(
        report.problem.contains("1 of 3 times") && report.problem.contains(" fails: "),
        "{}",
        report.problem
    );
    assert_eq!(active(&world.host), "1");
    served(&world.host, &first).await;
    assert_eq!(report.installed.unwrap().generation, 1);
    world
        .issuer
        .told("what is served is looked at again", NAME, |report| {
            let served = report.served.as_ref();
            served.is_some_and(|served| served.generation == Some(1))
        })
        .await;
    let third = world.bundle(3);
    world.offer(&third);
    world.outcome(3, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&third)));
}

#[tokio::test]
async fn a_damaged_generation_is_replaced_by_a_newer_one_though_nginx_refuses_it() {
    let (mut world, _) = serving().await;
    world.host.end_agent().await;
    fs::write(world.host.live().join("privkey.pem"), "scribble").unwrap();
    let second = world.bundle(2);
    world.offer(&second);
    let _ = fs::remove_file(world.host.path("state/desired.bin"));
    world.host.start_agent();
    world.outcome(2, v1::Outcome::Converged).await;
    served(&world.host, &second).await;
    let log = world.host.agent_log();
    let (_, later) = log.split_once("stopping").unwrap();
    assert!(!later.contains("not served yet"), "at once");
}

#[tokio::test]
async fn facts_that_a_crash_kept_from_the_ledger_are_known_again_by_what_is_served() {
    let (mut world, _) = serving().await;
    world.host.end_agent().await;
    let path = world.host.path("state/ledger.json");
    let mut ledger = Ledger::load(&path).unwrap();
    ledger.entry_mut(&NAME.parse().unwrap()).facts = Default::default();
    ledger.save(&path).unwrap();
    world.issuer.memory.lock().unwrap().reports.clear();
    world.host.start_agent();
    let report = world.outcome(1, v1::Outcome::Converged).await;
    for fact in [report.installed, report.tested, report.reloaded] {
        assert_eq!(fact.map(|fact| fact.generation), Some(1));
    }
}

#[tokio::test]
async fn a_new_host_has_the_placeholder_while_its_first_certificate_cannot_be_fetched() {
    let mut world = world().await;
    fs::remove_dir_all(world.host.live()).unwrap();
    let first = world.bundle(1);
    world.offer(&first);
    let bundles = || world.issuer.memory.lock().unwrap();
    let key = (NAME.to_owned(), 1);
    bundles().bundles.remove(&key);
    world.host.start_agent();
    eventually("the placeholder is there", || async {
        fs::read_link(world.host.live()).ok()
    })
    .await;
    assert_eq!(active(&world.host), "0");
    world.host.start_nginx().await;
    let bundles = || world.issuer.memory.lock().unwrap();
    bundles().bundles.insert(key, first.clone());
    world.outcome(1, v1::Outcome::Converged).await;
    served(&world.host, &first).await;
}

#[tokio::test]
async fn a_lock_that_a_child_of_a_killed_agent_still_holds_is_waited_for() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world.offer(&world.bundle(1));
    let file = fs::File::create(world.host.path("state/lock")).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    world.host.start_agent();
    eventually("it has been asked for", || async {
        let log = world.host.agent_log();
        log.contains("somebody holds the lock").then_some(())
    })
    .await;
    drop(lock);
    world.outcome(1, v1::Outcome::Converged).await;
}
