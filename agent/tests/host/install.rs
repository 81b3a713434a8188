//! From what the issuer offers to what nginx serves.

use std::{fs, os::unix::fs::PermissionsExt as _};

use certwell_proto::v1;

use super::{
    host::NAME,
    issuer::{REFUSED, eventually},
    world::{NAMES, leaf, serving, world},
};

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
    assert_eq!(
        world.host.staged(),
        ["3", "4", "5"],
        "two older ones are kept"
    );
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
    world.host.begin_map();
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
    // From then on it is something that can be made worse.
    world.host.write_nginx(true, "sssl on;");
    world.offer(&world.bundle(2));
    let report = world.outcome(2, v1::Outcome::Held).await;
    assert!(report.problem.contains("not ours"), "{}", report.problem);
    assert_eq!(world.host.activations(NAME, 2), 0, "nothing is touched");
}

#[tokio::test]
async fn a_host_whose_nginx_is_stopped_keeps_no_more_generations_than_others() {
    let mut world = world().await;
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Held).await;
    for generation in 2..=5 {
        world.offer(&world.bundle(generation));
        world.outcome(generation, v1::Outcome::Held).await;
    }
    assert_eq!(world.host.staged(), ["3", "4", "5"]);
}

#[tokio::test]
async fn an_nginx_that_ends_after_all_was_served_is_told_at_once_with_and_without_a_listener() {
    let mut world = world().await;
    world.host.start_nginx().await;
    let unused = "unused.example.org";
    let bundle = world.authority.bundle(unused, 1, &[unused]);
    world.issuer.offer(&world.authority, &bundle, &[unused]);
    world.offer(&world.bundle(1));
    world.host.start_agent();
    let converged = |report: &v1::CertificateReport| report.outcome() == v1::Outcome::Converged;
    let ended = |report: &v1::CertificateReport| {
        report.outcome() == v1::Outcome::Held
            && report.problem.contains("nginx is not running")
            && report
                .served
                .as_ref()
                .is_none_or(|served| served.generation.is_none())
    };
    for killed in [false, true] {
        for name in [NAME, unused] {
            world.issuer.told("served", name, converged).await;
        }
        if killed {
            // Its pid file stays behind.
            world.host.kill_nginx();
        } else {
            world.host.stop_nginx();
        }
        for name in [NAME, unused] {
            world.issuer.told("it ended", name, ended).await;
        }
        let tests = world.host.tests_of_nginx();
        assert_eq!(world.host.activations(NAME, 1), 1);
        world.host.start_nginx().await;
        for name in [NAME, unused] {
            world.issuer.told("served again", name, converged).await;
        }
        assert_eq!(world.host.tests_of_nginx(), tests, "nothing was in doubt");
    }
}

#[tokio::test]
async fn an_agent_that_is_asked_to_stop_ends_the_install_that_it_began() {
    let (mut world, _) = serving().await;
    let second = world.bundle(2);
    world.offer(&second);
    eventually("it is activated", || async {
        (world.host.activations(NAME, 2) > 0).then_some(())
    })
    .await;
    assert_eq!(world.host.end_agent().await, Some(0));
    assert_eq!(world.host.served(), Some(leaf(&second)));
    let log = world.host.agent_log();
    let ended = |line: &str| line.contains("served on every") && line.contains("generation=2");
    assert!(log.lines().any(ended));
}

#[tokio::test]
async fn a_report_that_is_refused_as_malformed_does_not_hold_up_the_next() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world.issuer.desired.send_modify(|desired| {
        desired.preflights = vec![v1::PreflightRequest {
            id: REFUSED.into(),
            certificate: NAME.into(),
            token: "preflight-token-0123456789".into(),
            thumbprint: "A".repeat(43),
            names: vec![NAME.into()],
            port: world.host.http.port().into(),
        }];
    });
    world.host.start_agent();
    eventually("a refused report", || async {
        (world.issuer.memory.lock().unwrap().refused > 0).then_some(())
    })
    .await;
    world.offer(&world.bundle(1));
    world.outcome(1, v1::Outcome::Converged).await;
}

#[tokio::test]
async fn an_ecdsa_and_an_rsa_certificate_of_one_server_block_are_proven_apart() {
    let mut world = world().await;
    let rsa = "media-rsa";
    let directory = world.host.path("live").join(rsa);
    fs::create_dir(&directory).unwrap();
    for file in ["fullchain.pem", "privkey.pem"] {
        fs::copy(world.host.live().join(file), directory.join(file)).unwrap();
    }
    let path = world.host.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    let own = format!(
        "ssl_certificate_key {}/privkey.pem;",
        world.host.live().display()
    );
    let twin = own.replace(NAME, rsa);
    let twins = format!(
        "{own}\n {}\n {twin}",
        twin.replace("_key", "").replace("privkey", "fullchain")
    );
    fs::write(&path, text.replace(&own, &twins)).unwrap();
    world.host.start_nginx().await;
    world.issuer.hold_offers();
    world.offer(&world.bundle(1));
    let bundle = world.authority.rsa_bundle(rsa, 1, NAMES);
    world.issuer.offer(&world.authority, &bundle, NAMES);
    world.issuer.release_offers();
    world.host.start_agent();
    for name in [NAME, rsa] {
        let report = world
            .issuer
            .told("both are served", name, |report| {
                report.outcome() == v1::Outcome::Converged
            })
            .await;
        assert_eq!(report.served.unwrap().generation, Some(1));
    }
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
async fn status_tells_whether_all_is_converged_and_the_state_directory_has_one_agent() {
    let (mut world, _) = serving().await;
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
    let state = fs::read(world.host.path("state/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["connected"], false);
    assert!(state["last_contact"].is_string(), "{state}");
    assert_eq!(
        world.host.verb(&["status"]).status.code(),
        Some(3),
        "not running"
    );
}
