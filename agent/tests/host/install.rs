//! From what the issuer offers to what nginx serves.

use std::{fs, os::unix::fs::PermissionsExt as _};

use certwell_proto::{Fingerprint, v1};

use super::{
    fleet::Authority,
    host::{Host, NAME},
    issuer::{TestIssuer, eventually},
};

const NAMES: &[&str] = &[NAME, "www.example.org"];

struct World {
    issuer: TestIssuer,
    authority: Authority,
    host: Host,
}

async fn world() -> World {
    let world = World {
        issuer: TestIssuer::start().await,
        authority: Authority::new("test CA"),
        host: Host::new(),
    };
    world.host.enroll(&world.issuer).await;
    world
}

fn leaf(bundle: &v1::Bundle) -> Fingerprint {
    Fingerprint::of(&bundle.key_pairs[0].fullchain[0])
}

impl World {
    fn bundle(&self, generation: u64) -> v1::Bundle {
        self.authority.bundle(NAME, generation, NAMES)
    }

    fn offer(&self, bundle: &v1::Bundle) {
        self.issuer.offer(&self.authority, bundle, NAMES);
    }

    async fn outcome(&self, generation: u64, outcome: v1::Outcome) -> v1::CertificateReport {
        self.issuer
            .told(&format!("{outcome:?} at {generation}"), NAME, |report| {
                report.outcome_generation == generation && report.outcome() == outcome
            })
            .await
    }
}

#[tokio::test]
async fn a_directory_is_exchanged_and_each_renewal_is_served() {
    let mut world = world().await;
    world.host.start_nginx().await;
    let old = fs::read(world.host.live().join("fullchain.pem")).unwrap();
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();

    let report = world.outcome(1, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&first)));
    for fact in [
        &report.fetched,
        &report.installed,
        &report.tested,
        &report.reloaded,
    ] {
        assert_eq!(fact.as_ref().map(|fact| fact.generation), Some(1));
    }
    let served = report.served.unwrap();
    assert_eq!(served.generation, Some(1));
    assert_eq!(served.fingerprint, leaf(&first).0.to_vec());
    assert!(
        served
            .listeners
            .iter()
            .all(|listener| listener.state() == v1::ListenerState::Current)
    );
    assert!(
        served.listeners.len() >= 2,
        "both names: {:?}",
        served.listeners
    );
    assert_eq!(report.problem, "");
    assert_eq!(report.active_fullchain, first.key_pairs[0].fullchain);

    // The operator's directory is kept, byte for byte; the key is for root alone.
    let kept = world
        .host
        .path("live")
        .join(format!(".{NAME}.before-certwell"));
    assert_eq!(fs::read(kept.join("fullchain.pem")).unwrap(), old);
    assert!(
        fs::symlink_metadata(world.host.live())
            .unwrap()
            .is_symlink()
    );
    let mode = |path: &str| {
        fs::metadata(world.host.live().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (mode("privkey.pem"), mode("combined.pem"), mode(".")),
        (0o600, 0o600, 0o700)
    );

    for generation in 2..=5 {
        let bundle = world.bundle(generation);
        world.offer(&bundle);
        world.outcome(generation, v1::Outcome::Converged).await;
        assert_eq!(world.host.served(), Some(leaf(&bundle)));
    }
    // Two older ones are kept.
    let mut left: Vec<String> = fs::read_dir(world.host.path("state/store").join(NAME))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["3", "4", "5"]);
    assert_eq!(world.host.end_agent().await, Some(0));

    // No key is in the log, at trace level.
    let log = world.host.agent_log();
    assert!(log.contains("served on every listener"));
    assert!(!log.contains("PRIVATE KEY"));
    let key = &first.key_pairs[0].private_key;
    let printed = format!("{:?}", &key[40..60]);
    assert!(!log.contains(printed.trim_matches(['[', ']'])));
}

#[tokio::test]
async fn a_bundle_whose_key_does_not_fit_is_rejected_and_nothing_is_touched() {
    let mut world = world().await;
    world.host.start_nginx().await;
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    let workers = world.host.workers();

    let mut wrong = world.bundle(2);
    wrong.key_pairs[0].private_key = world.bundle(9).key_pairs[0].private_key.clone();
    world.offer(&wrong);
    let report = world.outcome(2, v1::Outcome::Rejected).await;
    assert!(
        report.problem.contains("doesn't fit the leaf"),
        "{}",
        report.problem
    );
    assert!(
        report.problem.contains("certificate left at generation 1"),
        "{}",
        report.problem
    );
    assert_eq!(world.host.served(), Some(leaf(&first)));
    assert_eq!(world.host.workers(), workers, "no reload");

    // The next one is taken.
    let third = world.bundle(3);
    world.offer(&third);
    world.outcome(3, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&third)));
    let fetched = world
        .issuer
        .memory
        .lock()
        .unwrap()
        .fetches
        .iter()
        .filter(|(_, generation)| *generation == 2)
        .count();
    assert_eq!(fetched, 1, "a rejected generation is not asked for again");
}

#[tokio::test]
async fn a_broken_host_is_held_with_nginx_words_and_goes_on_when_it_is_mended() {
    let mut world = world().await;
    world.host.start_nginx().await;
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;

    world.host.write_nginx(true, "sssl on;");
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Held).await;
    assert!(
        report.problem.starts_with(
            "nginx -t failed on the host's own config (not ours): unknown directive \"sssl\" in "
        ),
        "{}",
        report.problem
    );
    assert!(report.problem.contains("nginx.conf:"), "{}", report.problem);
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "1"
    );
    assert_eq!(world.host.served(), Some(leaf(&first)));

    world.host.write_nginx(true, "");
    world.host.reload_nginx();
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn an_edit_in_progress_is_waited_for() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    // Worker start times and tolerance are below this.
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    world.host.write_nginx(true, "# half an edit");
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Held).await;
    assert!(
        report.problem.contains("an edit seems to be in progress"),
        "{}",
        report.problem
    );
    world.host.reload_nginx();
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn a_new_host_gets_a_placeholder_that_never_counts_as_served() {
    let mut world = world().await;
    fs::remove_dir_all(world.host.live()).unwrap();
    world.issuer.assign(
        &world.authority,
        v1::DesiredCertificate {
            name: NAME.into(),
            identifiers: vec![NAME.into()],
            ..Default::default()
        },
    );
    world.host.start_agent();
    let live = world.host.live();
    eventually("the placeholder is there", || async {
        live.join("fullchain.pem").exists().then_some(())
    })
    .await;
    world.host.start_nginx().await;
    let placeholder = world.host.served().unwrap();
    let first = world.bundle(1);
    world.offer(&first);
    world.outcome(1, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&first)));
    assert_ne!(world.host.served(), Some(placeholder));
    let reports = world.issuer.memory.lock().unwrap().reports[NAME].clone();
    assert_eq!(reports.served.unwrap().generation, Some(1));
}

#[tokio::test]
async fn a_stopped_nginx_is_not_started_and_serves_at_once_when_it_is() {
    let mut world = world().await;
    let first = world.bundle(1);
    world.offer(&first);
    fs::write(
        world.host.path("conf.d/certwell-acme.conf"),
        "map \"$host $uri\" $certwell_acme_reply { default \"\"; }\n",
    )
    .unwrap();
    world.host.start_agent();
    let report = world.outcome(1, v1::Outcome::Held).await;
    assert!(
        report.problem.contains("nginx is not running"),
        "{}",
        report.problem
    );
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "1"
    );
    assert_eq!(report.served.and_then(|served| served.generation), None);
    world.host.start_nginx().await;
    assert_eq!(world.host.served(), Some(leaf(&first)));
    world.outcome(1, v1::Outcome::Converged).await;
}

#[tokio::test]
async fn an_older_generation_and_other_bytes_are_refused() {
    let mut world = world().await;
    world.host.start_nginx().await;
    let third = world.bundle(3);
    world.offer(&third);
    world.host.start_agent();
    world.outcome(3, v1::Outcome::Converged).await;
    world.offer(&world.bundle(2));
    let report = world
        .issuer
        .told("backwards", NAME, |report| {
            report.problem.contains("this host has had generation 3")
        })
        .await;
    assert_eq!(report.outcome(), v1::Outcome::Held);
    world.offer(&world.bundle(3));
    world
        .issuer
        .told("other bytes", NAME, |report| {
            report.problem.contains("with another certificate")
        })
        .await;
    assert_eq!(world.host.served(), Some(leaf(&third)));
    let asked = world.issuer.memory.lock().unwrap().fetches.len();
    assert_eq!(asked, 1, "neither was fetched");
}

#[tokio::test]
async fn preflight_is_wrong_without_the_include_and_passes_by_itself_when_it_is_there() {
    let mut world = world().await;
    world.host.write_nginx(false, "");
    world.host.start_nginx().await;
    let thumbprint = "A".repeat(43);
    world.issuer.desired.send_modify(|desired| {
        desired.challenges = vec![v1::Challenge {
            thumbprint: thumbprint.clone(),
            names: vec![NAME.into()],
        }];
        desired.preflights = vec![v1::PreflightRequest {
            id: "p1".into(),
            certificate: NAME.into(),
            token: "preflight-token-0123456789".into(),
            thumbprint: thumbprint.clone(),
            names: vec![NAME.into()],
            port: world.host.http.port().into(),
        }];
    });
    world.host.start_agent();
    let verdict = |wanted: v1::PreflightVerdict| {
        let memory = world.issuer.memory.clone();
        async move {
            eventually(&format!("{wanted:?}"), || async {
                memory
                    .lock()
                    .unwrap()
                    .preflights
                    .get("p1")
                    .filter(|result| result.verdict() == wanted)
                    .cloned()
            })
            .await
        }
    };
    let wrong = verdict(v1::PreflightVerdict::Wrong).await;
    assert!(wrong.detail.contains("404"), "{}", wrong.detail);
    world.host.write_nginx(true, "");
    world.host.reload_nginx();
    verdict(v1::PreflightVerdict::Pass).await;

    // It goes on while the agent is down.
    world.host.end_agent().await;
    let reply = get(
        world.host.http,
        "/.well-known/acme-challenge/another-token-0123456789",
    );
    assert!(
        reply.ends_with(&format!("another-token-0123456789.{thumbprint}")),
        "{reply}"
    );
}

fn get(address: std::net::SocketAddr, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut tcp = std::net::TcpStream::connect(address).unwrap();
    write!(
        tcp,
        "GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reply = String::new();
    tcp.read_to_string(&mut reply).unwrap();
    reply
}

#[tokio::test]
async fn a_certificate_that_no_listener_uses_is_said_to_be_so() {
    let mut world = world().await;
    world.host.start_nginx().await;
    let unused = world
        .authority
        .bundle("unused.example.org", 1, &["unused.example.org"]);
    world
        .issuer
        .offer(&world.authority, &unused, &["unused.example.org"]);
    world.host.start_agent();
    let report = world
        .issuer
        .told("installed", "unused.example.org", |report| {
            report.outcome() == v1::Outcome::Converged
        })
        .await;
    assert!(
        report.problem.contains("no server block"),
        "{}",
        report.problem
    );
    assert_eq!(report.served.and_then(|served| served.generation), None);
    assert!(
        world
            .host
            .path("live/unused.example.org/privkey.pem")
            .exists()
    );
}

#[tokio::test]
async fn what_makes_nginx_fail_is_rolled_back_and_given_up_after_three_times() {
    let mut world = world().await;
    world.host.start_nginx().await;
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    // A key of the operator's own, elsewhere: it fits this generation and no other.
    let pinned = world.host.path("pinned.key");
    fs::copy(world.host.live().join("privkey.pem"), &pinned).unwrap();
    world.host.pin_key(&pinned);
    world.host.reload_nginx();

    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Regressed).await;
    assert!(
        report.problem.contains("key values mismatch"),
        "{}",
        report.problem
    );
    assert!(
        report.problem.contains("certificate left at generation 1"),
        "{}",
        report.problem
    );
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "1"
    );
    assert_eq!(world.host.served(), Some(leaf(&first)));

    let report = world.outcome(2, v1::Outcome::Rejected).await;
    assert!(report.problem.contains("3 times"), "{}", report.problem);
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "1"
    );
    assert_eq!(world.host.served(), Some(leaf(&first)));
    let fetched = world.issuer.memory.lock().unwrap().fetches.len();
    assert_eq!(
        fetched, 2,
        "one fetch for each generation, whatever became of it"
    );
}

#[tokio::test]
async fn old_workers_that_stay_are_seen_through_and_the_reload_is_tried_again() {
    let mut world = world().await;
    world.host.set_agent("edit-hold = \"0s\"");
    world.host.start_nginx().await;
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    // The test passes, the reload is asked for, and nginx can't bind: its old workers stay.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    world
        .host
        .write_nginx(true, &format!("server {{ listen {port}; }}"));
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::NotApplied).await;
    assert!(report.problem.contains("old workers"), "{}", report.problem);
    assert_eq!(world.host.served(), Some(leaf(&first)));
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "2",
        "the tested pair stays"
    );
    assert_eq!(report.served.unwrap().generation, Some(1));
    drop(taken);
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn one_bad_certificate_does_not_hold_up_another() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    let pinned = world.host.path("pinned.key");
    fs::copy(world.host.live().join("privkey.pem"), &pinned).unwrap();
    world.host.pin_key(&pinned);
    world.host.reload_nginx();

    // Both become due at once: the joint test fails, and they are tried one by one.
    let other = "other.example.org";
    let bundle = world.authority.bundle(other, 1, &[other]);
    let bad = world.bundle(2);
    world.issuer.hold_offers();
    world.issuer.offer(&world.authority, &bundle, &[other]);
    world.offer(&bad);
    world.issuer.release_offers();
    let report = world
        .issuer
        .told("the good one", other, |report| {
            report.outcome() == v1::Outcome::Converged
        })
        .await;
    assert_eq!(report.installed.unwrap().generation, 1);
    world.outcome(2, v1::Outcome::Regressed).await;
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "1"
    );
}

#[tokio::test]
async fn status_tells_whether_all_is_converged_and_the_state_directory_has_one_agent() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    let status = eventually("status says converged", || async {
        let output = world.host.verb(&["status", "--json"]);
        (output.status.code() == Some(0)).then_some(output)
    })
    .await;
    let json: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(json["host"], "sally");
    assert_eq!(json["running"], true);
    assert_eq!(json["certificates"][0]["served"], 1);
    assert_eq!(json["certificates"][0]["problem"], serde_json::Value::Null);
    let text = String::from_utf8(world.host.verb(&["status"]).stdout).unwrap();
    assert!(
        text.contains("connected since") && text.contains(NAME),
        "{text}"
    );

    let second = world.host.verb(&["run"]);
    assert_eq!(
        second.status.code(),
        Some(8),
        "{}",
        String::from_utf8_lossy(&second.stderr)
    );

    world.host.end_agent().await;
    assert_eq!(
        world.host.verb(&["status"]).status.code(),
        Some(3),
        "not running"
    );
}
