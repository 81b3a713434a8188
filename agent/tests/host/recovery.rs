//! Crashes, drift, and life without the issuer.

use std::fs;

use certwell_agent::disk::{Ledger, LiveDirectory, Permissions, Store};
use certwell_proto::{Fingerprint, Generation, v1};
use prost::Message as _;

use super::{
    faults::{gate::Gate, reloaded},
    fleet::{Authority, self_signed},
    host::{Host, NAME},
    issuer::{TestIssuer, eventually},
};

const NAMES: &[&str] = &[NAME];

async fn converged() -> (TestIssuer, Authority, Host, v1::Bundle) {
    let issuer = TestIssuer::start().await;
    let authority = Authority::new("test CA");
    let mut host = Host::new();
    host.enroll(&issuer).await;
    host.start_nginx().await;
    let bundle = authority.bundle(NAME, 1, NAMES);
    issuer.offer(&authority, &bundle, NAMES);
    host.start_agent();
    converged_at(&issuer, 1).await;
    (issuer, authority, host, bundle)
}

async fn converged_at(issuer: &TestIssuer, generation: u64) -> v1::CertificateReport {
    issuer
        .told(&format!("converged at {generation}"), NAME, |report| {
            report.outcome() == v1::Outcome::Converged && report.outcome_generation == generation
        })
        .await
}

fn leaf(bundle: &v1::Bundle) -> Fingerprint {
    Fingerprint::of(&bundle.key_pairs[0].fullchain[0])
}

#[tokio::test]
async fn a_killed_agent_goes_on_without_fetching_or_reloading_again() {
    let (issuer, _, mut host, bundle) = converged().await;
    host.kill_agent();
    // As a kill during a candidate test leaves it.
    let leftover = host.path("state/.candidate-0");
    fs::create_dir(&leftover).unwrap();
    fs::write(leftover.join("nginx.conf"), "").unwrap();
    let workers = host.settled_workers().await;
    issuer.memory.lock().unwrap().reports.clear();
    let watches = issuer.memory.lock().unwrap().watches;
    host.start_agent();
    let report = converged_at(&issuer, 1).await;
    assert_eq!(report.served.unwrap().generation, Some(1));
    assert!(issuer.memory.lock().unwrap().watches > watches);
    assert_eq!(host.workers(), workers, "no reload");
    assert!(!leftover.exists());
    assert_eq!(issuer.memory.lock().unwrap().fetches.len(), 1);
    assert_eq!(host.served(), Some(leaf(&bundle)));
}

#[tokio::test]
async fn a_certificate_without_listeners_costs_no_reload_at_a_start() {
    let (issuer, authority, mut host, _) = converged().await;
    let other = "other.example.org";
    let bundle = authority.bundle(other, 1, &[other]);
    issuer.offer(&authority, &bundle, &[other]);
    let settled = |report: &v1::CertificateReport| report.outcome() == v1::Outcome::Converged;
    issuer.told("without a listener", other, settled).await;
    let workers = host.settled_workers().await;
    host.kill_agent();
    let tests = host.tests_of_nginx();
    issuer.memory.lock().unwrap().reports.clear();
    host.start_agent();
    issuer.told("after the restart", other, settled).await;
    assert_eq!(host.workers(), workers, "no reload");
    assert_eq!(host.tests_of_nginx(), tests, "no test");
}

#[tokio::test]
async fn a_crash_between_activate_and_reload_is_made_good() {
    let (issuer, authority, mut host, _) = converged().await;
    let second = authority.bundle(NAME, 2, NAMES);
    issuer.offer(&authority, &second, NAMES);
    // Each kill comes as soon as the agent has said so much; wherever that is, the next start goes on.
    for said in ["step=Stage", "step=Activate", "step=Test", "activated"] {
        host.kill_agent();
        issuer.memory.lock().unwrap().reports.clear();
        let before = host.agent_log().len();
        host.start_agent();
        eventually(said, || async {
            let log = host.agent_log();
            let later = &log[before..];
            // Past this point already, at an earlier start.
            (later.contains(said)
                || later.contains("served on every listener")
                || host.served() == Some(leaf(&second)))
            .then_some(())
        })
        .await;
    }
    converged_at(&issuer, 2).await;
    assert_eq!(host.served(), Some(leaf(&second)));
}

/// As it is when a kill falls right after the rename: active on disk, and neither nginx nor the ledger knows.
pub(crate) fn activate_unknown(host: &Host, bundle: &v1::Bundle) {
    let name = NAME.parse().unwrap();
    let generation = Generation(bundle.generation);
    let store = Store::open(host.path("state/store"), Permissions::default()).unwrap();
    let record = store.stage(&bundle.clone().try_into().unwrap()).unwrap();
    let path = host.path("state/ledger.json");
    let mut ledger = Ledger::load(&path).unwrap();
    let lineage = ledger.lineage().map(|lineage| lineage.id.to_string());
    ledger
        .entry_mut(&name)
        .record_staged(generation, record, lineage);
    ledger.save(&path).unwrap();
    let live = LiveDirectory::open(host.path("live")).unwrap();
    live.activate(&name, generation, &store).unwrap();
}

#[tokio::test]
async fn what_a_crash_left_active_but_not_loaded_is_reloaded() {
    let (issuer, authority, mut host, first) = converged().await;
    host.kill_agent();
    let second = authority.bundle(NAME, 2, NAMES);
    activate_unknown(&host, &second);
    assert_eq!(host.served(), Some(leaf(&first)));

    issuer.offer(&authority, &second, NAMES);
    host.start_agent();
    let report = converged_at(&issuer, 2).await;
    assert_eq!(host.served(), Some(leaf(&second)));
    assert_eq!(report.reloaded.unwrap().generation, 2);
    let fetches = issuer.memory.lock().unwrap().fetches.clone();
    assert_eq!(
        fetches,
        [(NAME.to_owned(), 1)],
        "what is whole on disk isn't fetched"
    );
}

#[tokio::test]
async fn what_a_crash_left_active_and_untested_is_rolled_back_when_nginx_refuses_it() {
    let (issuer, authority, mut host, first) = converged().await;
    host.kill_agent();
    // A key of the operator's own fits the first generation alone.
    let pinned = host.path("pinned.key");
    fs::copy(host.live().join("privkey.pem"), &pinned).unwrap();
    host.pin_key(&pinned);
    // With the first generation: what lies there a moment later it would refuse, and the edit would never be in use.
    reloaded(&host).await;
    let second = authority.bundle(NAME, 2, NAMES);
    activate_unknown(&host, &second);

    issuer.memory.lock().unwrap().reports.clear();
    issuer.offer(&authority, &second, NAMES);
    host.start_agent();
    eventually("it is rolled back", || async {
        (host.active() == "1").then_some(())
    })
    .await;
    let report = issuer
        .told("given up", NAME, |report| {
            report.outcome() == v1::Outcome::Rejected
        })
        .await;
    assert!(
        report.problem.contains("key values mismatch"),
        "{}",
        report.problem
    );
    assert_eq!(
        host.activations(NAME, 2),
        2,
        "the crash's own was the first of three"
    );
    assert_eq!(host.active(), "1");
    assert_eq!(host.served(), Some(leaf(&first)));
}

#[tokio::test]
async fn a_directory_that_a_crash_left_exchanged_for_what_nginx_refuses_is_put_back() {
    let issuer = TestIssuer::start().await;
    let authority = Authority::new("test CA");
    let mut host = Host::new();
    host.enroll(&issuer).await;
    // The operator's own certificate is good, and its key is named where it was moved to.
    let (certificate, key) = self_signed(NAME, (-60, 3_600));
    let operator_s = host.live();
    fs::write(operator_s.join("fullchain.pem"), &certificate).unwrap();
    fs::write(host.path("pinned.key"), key).unwrap();
    host.pin_key(&host.path("pinned.key"));
    host.start_nginx().await;
    let served = host.served();
    let bundle = authority.bundle(NAME, 1, NAMES);
    activate_unknown(&host, &bundle);

    issuer.offer(&authority, &bundle, NAMES);
    host.start_agent();
    eventually("it is put back", || async {
        fs::read_to_string(operator_s.join("fullchain.pem"))
            .is_ok_and(|text| text == certificate)
            .then_some(())
    })
    .await;
    issuer
        .told("given up", NAME, |report| {
            report.outcome() == v1::Outcome::Rejected
        })
        .await;
    assert!(fs::symlink_metadata(&operator_s).unwrap().is_dir());
    assert_eq!(host.served(), served);
}

#[tokio::test]
async fn drift_is_put_back_and_damage_is_drawn_again() {
    let (issuer, _, host, bundle) = converged().await;
    let key = fs::read(host.live().join("privkey.pem")).unwrap();
    // The link is gone.
    fs::remove_file(host.live()).unwrap();
    eventually("the link is back", || async {
        fs::read(host.live().join("privkey.pem")).ok()
    })
    .await;
    // A file is altered in place.
    fs::write(host.live().join("privkey.pem"), "scribble").unwrap();
    eventually("the key is back", || async {
        fs::read(host.live().join("privkey.pem"))
            .ok()
            .filter(|now| *now == key)
    })
    .await;
    assert_eq!(
        issuer.memory.lock().unwrap().fetches.len(),
        2,
        "drawn again once"
    );
    eventually("served as before", || async {
        (host.served() == Some(leaf(&bundle))).then_some(())
    })
    .await;
    converged_at(&issuer, 1).await;
}

#[tokio::test]
async fn without_the_issuer_a_restarted_agent_still_puts_back_what_is_missing() {
    let (mut issuer, _, mut host, bundle) = converged().await;
    // The state that a start without the issuer needs is written a moment after.
    let kept = host.path("state/desired.bin");
    eventually("the desired state is kept", || async {
        kept.exists().then_some(())
    })
    .await;
    issuer.stop();
    host.kill_agent();
    fs::remove_file(host.live()).unwrap();
    host.start_agent();
    eventually("the link is back", || async {
        host.live().join("privkey.pem").exists().then_some(())
    })
    .await;
    assert_eq!(host.served(), Some(leaf(&bundle)));
    issuer.memory.lock().unwrap().reports.clear();
    issuer.restart().await;
    converged_at(&issuer, 1).await;
}

#[tokio::test]
async fn what_is_wanted_is_written_before_it_is_installed_and_a_start_without_the_issuer_knows_it()
{
    let (mut issuer, authority, mut host, _) = converged().await;
    host.kill_agent();
    issuer.memory.lock().unwrap().reports.clear();
    let gate = Gate::start_agent(&mut host);
    converged_at(&issuer, 1).await;
    let second = authority.bundle(NAME, 2, NAMES);
    gate.arm("Fetch(");
    issuer.offer(&authority, &second, NAMES);
    gate.held("Fetch(").await;
    let written = fs::read(host.path("state/desired.bin")).unwrap();
    let written = v1::DesiredState::decode(written.as_slice()).unwrap();
    assert_eq!(written.certificates[0].generation, 2);

    gate.arm("Activate(");
    gate.held("Activate(").await;
    issuer.stop();
    host.kill_agent();
    drop(gate);
    let before = host.agent_log().len();
    host.start_agent();
    eventually("what was activated is served", || async {
        (host.served() == Some(leaf(&second))).then_some(())
    })
    .await;
    let log = host.agent_log();
    // What was wanted before would be taken for an offer of something older.
    assert!(!log[before..].contains("what is served stays"), "{log}");
    issuer.memory.lock().unwrap().reports.clear();
    issuer.restart().await;
    converged_at(&issuer, 2).await;
}

#[tokio::test]
async fn a_lost_stream_is_dialled_again_and_what_was_missed_arrives() {
    let (mut issuer, authority, host, _) = converged().await;
    issuer.stop();
    let second = authority.bundle(NAME, 2, NAMES);
    issuer.offer(&authority, &second, NAMES);
    issuer.restart().await;
    converged_at(&issuer, 2).await;
    assert_eq!(host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn an_older_lineage_is_not_believed() {
    let (issuer, authority, mut host, bundle) = converged().await;
    let second = authority.bundle(NAME, 2, NAMES);
    issuer.desired.send_modify(|desired| {
        desired.lineage = Some(v1::Lineage {
            id: vec![9; 16],
            started_ms: 999,
        });
    });
    issuer.offer(&authority, &second, NAMES);
    eventually("the agent says so", || async {
        host.agent_log()
            .contains("an old copy of the issuer")
            .then_some(())
    })
    .await;
    assert_eq!(issuer.memory.lock().unwrap().fetches.len(), 1);
    // Not after a restart either.
    host.kill_agent();
    host.start_agent();
    eventually("the agent says so again", || async {
        (host
            .agent_log()
            .matches("an old copy of the issuer")
            .count()
            > 2)
        .then_some(())
    })
    .await;
    assert_eq!(host.served(), Some(leaf(&bundle)));
    assert_eq!(issuer.memory.lock().unwrap().fetches.len(), 1);
}

#[tokio::test]
async fn a_kept_state_of_an_older_lineage_is_dropped() {
    let (mut issuer, _, mut host, bundle) = converged().await;
    let kept = host.path("state/desired.bin");
    eventually("the desired state is kept", || async {
        kept.exists().then_some(())
    })
    .await;
    issuer.stop();
    host.kill_agent();
    let path = host.path("state/ledger.json");
    let mut ledger = Ledger::load(&path).unwrap();
    let newer = certwell_proto::Lineage {
        id: "00000000-0000-0000-0000-000000000009".parse().unwrap(),
        started_ms: 2_000,
    };
    ledger.set_lineage(newer);
    ledger.save(&path).unwrap();
    host.start_agent();
    eventually("it is dropped", || async {
        host.agent_log()
            .contains("the desired state is dropped")
            .then_some(())
    })
    .await;
    assert_ne!(host.end_agent().await, None);
    assert_eq!(Ledger::load(&path).unwrap().lineage(), Some(newer));
    assert_eq!(host.served(), Some(leaf(&bundle)));
}
