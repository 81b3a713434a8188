//! A server that isn't nginx: HAProxy from Debian, by the `exec` adapter.

use std::fs;

use certwell_proto::v1;

use super::{
    challenges::get,
    haproxy::Haproxy,
    host::{NAME, Observer, free_port},
    issuer::eventually,
    world::{NAMES, World, leaf, world},
};

/// A host with HAProxy, not started yet.
async fn haproxy() -> (World, Haproxy) {
    let world = world().await;
    let haproxy = Haproxy::new(&world.host);
    (world, haproxy)
}

/// The placeholder makes it start, and generation 1 is served.
async fn serving(world: &mut World, haproxy: &mut Haproxy) -> v1::Bundle {
    world.issuer.assign(
        &world.authority,
        v1::DesiredCertificate {
            name: NAME.into(),
            identifiers: vec![NAME.into()],
            ..Default::default()
        },
    );
    world.host.start_agent();
    let combined = world.host.live().join("combined.pem");
    eventually("the placeholder is there", || async {
        combined.exists().then_some(())
    })
    .await;
    haproxy.start().await;
    let first = world.bundle(1);
    world.offer(&first);
    world.outcome(1, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&first)));
    first
}

#[tokio::test]
async fn haproxy_begins_with_the_placeholder_and_serves_each_renewal_without_a_gap() {
    let (mut world, mut haproxy) = haproxy().await;
    serving(&mut world, &mut haproxy).await;
    let report = world.outcome(1, v1::Outcome::Converged).await;
    assert_eq!(report.problem, "");
    let served = report.served.unwrap();
    assert_eq!(served.generation, Some(1));
    assert_eq!(served.listeners.len(), 2, "both names");
    eventually("its certificate is told as served", || async {
        let told = world
            .issuer
            .memory
            .lock()
            .unwrap()
            .inventories
            .last()
            .cloned();
        let told = told
            .filter(|told| told.rows.len() == 1 && told.rows[0].served() == v1::ServedState::Yes)?;
        assert!(told.problem.contains("not nginx"), "{told:?}");
        Some(())
    })
    .await;
    // Leaf, chain and key in one file, the key for root alone.
    let combined = haproxy.combined();
    assert_eq!(combined.matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(combined.matches("PRIVATE KEY").count(), 2);

    let observer = Observer::of(&world.host);
    for generation in 2..=4 {
        let bundle = world.bundle(generation);
        world.offer(&bundle);
        world.outcome(generation, v1::Outcome::Converged).await;
        assert_eq!(world.host.served(), Some(leaf(&bundle)));
    }
    let (good, bad) = observer.end();
    assert!(good > 20 && bad == 0, "{good} good, {bad} bad");
    let log = world.host.agent_log();
    assert_eq!(log.matches("step=Reload").count(), 4, "one for each");
}

#[tokio::test]
async fn the_operator_s_own_look_is_asked_about_each_generation_and_its_no_is_said() {
    let (mut world, mut haproxy) = haproxy().await;
    let seen = world.host.path("run/seen");
    let confirm = format!(
        "confirm = '''echo $CERTWELL_CERTIFICATE $CERTWELL_GENERATION $CERTWELL_DIRECTORY >> {}; \
         test $CERTWELL_GENERATION != 2 || test -e {} || {{ echo the page is blank >&2; false; }}'''\n",
        seen.display(),
        world.host.path("run/mended").display()
    );
    haproxy.write_agent(|text| text + &confirm);
    serving(&mut world, &mut haproxy).await;
    let line = |generation: u64| format!("{NAME} {generation} {}\n", world.host.live().display());
    assert_eq!(fs::read_to_string(&seen).unwrap(), line(1));

    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::NotApplied).await;
    assert!(
        report.problem.contains("exec.confirm")
            && report
                .problem
                .contains("ended with exit code 1: the page is blank"),
        "{}",
        report.problem
    );
    assert_eq!(report.reloaded.unwrap().generation, 1);
    assert_eq!(
        world.host.served(),
        Some(leaf(&second)),
        "what is served stays"
    );
    fs::write(world.host.path("run/mended"), "").unwrap();
    let report = world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(report.problem, "");
    let asked = fs::read_to_string(&seen).unwrap();
    assert!(asked.matches(&line(2)).count() > 1, "asked again: {asked}");
}

#[tokio::test]
async fn a_broken_configuration_is_held_with_haproxy_s_words_and_goes_on_when_it_is_mended() {
    let (mut world, mut haproxy) = haproxy().await;
    let first = serving(&mut world, &mut haproxy).await;
    let workers = haproxy.settled_workers().await;
    haproxy.write(" htpp-request deny\n");
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Held).await;
    let config = world.host.path("haproxy.cfg");
    for words in [
        "exec.test failed on the host's own config (not ours): ",
        "unknown keyword 'htpp-request'",
        &format!("[{}:", config.display()),
        "certificate left at generation 1, will retry",
    ] {
        assert!(
            report.problem.contains(words),
            "{words}: {}",
            report.problem
        );
    }
    assert_eq!(world.host.activations(NAME, 2), 0, "nothing is touched");
    assert_eq!(world.host.served(), Some(leaf(&first)));
    assert_eq!(haproxy.workers(), workers, "no reload");
    haproxy.write("");
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn what_makes_haproxy_s_test_fail_is_rolled_back_and_given_up_after_three_times() {
    let (mut world, mut haproxy) = haproxy().await;
    // 2,048 bits of RSA are too few for it.
    haproxy.set_openssl("CipherString = DEFAULT@SECLEVEL=3");
    let first = serving(&mut world, &mut haproxy).await;
    let workers = haproxy.settled_workers().await;
    let second = world.authority.rsa_bundle(NAME, 2, NAMES);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Regressed).await;
    assert!(
        report.problem.contains("unable to load SSL certificate")
            && report.problem.contains("certificate left at generation 1"),
        "{}",
        report.problem
    );
    assert_eq!(world.host.active(), "1");
    let report = world.outcome(2, v1::Outcome::Rejected).await;
    assert!(report.problem.contains("3 times"), "{}", report.problem);
    assert_eq!(world.host.active(), "1");
    assert_eq!(world.host.served(), Some(leaf(&first)));
    assert_eq!(haproxy.workers(), workers, "no reload");
    let third = world.bundle(3);
    world.offer(&third);
    world.outcome(3, v1::Outcome::Converged).await;
}

#[tokio::test]
async fn an_address_that_fails_with_a_new_generation_gets_the_old_one_back() {
    let (mut world, mut haproxy) = haproxy().await;
    // HAProxy takes an RSA certificate, and no handshake with it comes about.
    haproxy.set_openssl("SignatureAlgorithms = ecdsa_secp256r1_sha256");
    let first = serving(&mut world, &mut haproxy).await;
    let second = world.authority.rsa_bundle(NAME, 2, NAMES);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Regressed).await;
    assert!(
        report.problem.contains("1 of 3 times") && report.problem.contains(" fails: "),
        "{}",
        report.problem
    );
    assert_eq!(world.host.active(), "1");
    eventually("the old one is served", || async {
        (world.host.served() == Some(leaf(&first))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reload_that_does_nothing_is_seen_through_and_asked_for_again() {
    let (mut world, mut haproxy) = haproxy().await;
    let deaf = world.host.path("run/deaf");
    let unless = format!("reload = \"test -e {} || ", deaf.display());
    haproxy.write_agent(|text| text.replace("reload = \"", &unless));
    let first = serving(&mut world, &mut haproxy).await;
    fs::write(&deaf, "").unwrap();
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::NotApplied).await;
    assert!(
        report.problem.contains("serves generation 1"),
        "{}",
        report.problem
    );
    assert_eq!(report.served.unwrap().generation, Some(1));
    assert_eq!(report.reloaded.unwrap().generation, 1);
    assert_eq!(world.host.active(), "2", "the tested pair stays");
    assert_eq!(world.host.served(), Some(leaf(&first)));
    fs::remove_file(&deaf).unwrap();
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn a_stopped_haproxy_is_not_started_and_serves_at_once_when_it_is() {
    let (mut world, mut haproxy) = haproxy().await;
    let reloaded = world.host.path("run/reloaded");
    let noting = format!("reload = \"touch {}; ", reloaded.display());
    haproxy.write_agent(|text| text.replace("reload = \"", &noting));
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    let report = world.outcome(1, v1::Outcome::Held).await;
    assert!(
        report
            .problem
            .contains("the server is not running; generation 1 is installed and tested"),
        "{}",
        report.problem
    );
    assert_eq!(report.tested.unwrap().generation, 1);
    assert_eq!(report.served.and_then(|served| served.generation), None);
    assert_eq!(world.host.active(), "1");
    haproxy.start().await;
    assert_eq!(world.host.served(), Some(leaf(&first)));
    world.outcome(1, v1::Outcome::Converged).await;
    assert!(!reloaded.exists(), "nobody was told anything");
}

#[tokio::test]
async fn a_test_that_hangs_is_ended_with_its_children_and_tried_again() {
    let (mut world, mut haproxy) = haproxy().await;
    let (hang, child) = (world.host.path("run/hang"), world.host.path("run/child"));
    let hanging = format!(
        "limit = \"2s\"\ntest = \"if test -e {}; then sleep 300 & echo $! > {}; wait; fi; ",
        hang.display(),
        child.display()
    );
    haproxy.write_agent(|text| text.replace("test = \"", &hanging));
    serving(&mut world, &mut haproxy).await;
    fs::write(&hang, "").unwrap();
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Held).await;
    assert!(
        report
            .problem
            .contains("was stopped after 2s without an answer"),
        "{}",
        report.problem
    );
    assert_eq!(world.host.activations(NAME, 2), 0, "nothing is touched");
    let pid = fs::read_to_string(&child).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    eventually("its child has ended", || async {
        // A zombie, until whoever inherits it looks.
        let ended = fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
        ended.then_some(())
    })
    .await;
    fs::remove_file(&hang).unwrap();
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn http_01_is_the_operator_s_line_and_the_preflight_says_what_it_has_to_be() {
    let (mut world, mut haproxy) = haproxy().await;
    let map = std::path::Path::new("/etc/nginx/conf.d/certwell-acme.conf");
    let there = map.exists();
    let thumbprint = "A".repeat(43);
    let request = |id: &str, port: u16| v1::PreflightRequest {
        id: id.into(),
        certificate: NAME.into(),
        token: "preflight-token-0123456789".into(),
        thumbprint: thumbprint.clone(),
        names: vec![NAME.into()],
        port: port.into(),
    };
    let silent = free_port().port();
    world.issuer.desired.send_modify(|desired| {
        desired.challenges = vec![v1::Challenge {
            thumbprint: thumbprint.clone(),
            names: vec![NAME.into()],
        }];
        desired.preflights = vec![
            request("at", world.host.http.port()),
            request("silent", silent),
        ];
    });
    serving(&mut world, &mut haproxy).await;
    let verdict = |id: &'static str, wanted: v1::PreflightVerdict| {
        let memory = world.issuer.memory.clone();
        async move {
            eventually(&format!("{id}: {wanted:?}"), || async {
                let memory = memory.lock().unwrap();
                let result = memory.preflights.get(id);
                result.filter(|result| result.verdict() == wanted).cloned()
            })
            .await
        }
    };
    let silent = verdict("silent", v1::PreflightVerdict::Wrong).await.detail;
    assert!(
        silent.starts_with("this host answers no HTTP-01: nothing listens at ")
            && silent.contains("name other challenge-hosts"),
        "{silent}"
    );
    let wrong = verdict("at", v1::PreflightVerdict::Wrong).await.detail;
    assert!(
        wrong.contains("404") && wrong.contains(&format!("with TOKEN.{thumbprint} ")),
        "{wrong}"
    );
    haproxy.answer_challenges(&thumbprint);
    haproxy.reload();
    verdict("at", v1::PreflightVerdict::Pass).await;
    // Nothing but a token is ever reflected.
    let reply = |token: &str| {
        let path = format!("/.well-known/acme-challenge/{token}");
        get(world.host.http, &path)
    };
    let good = "another-token-0123456789";
    assert!(reply(good).ends_with(&format!("{good}.{thumbprint}")));
    for bad in [
        "short",
        "another-token-0123456789<b>",
        "a/another-token-0123456789",
        "another%20token-0123456789",
    ] {
        assert!(
            reply(bad).starts_with("HTTP/1.1 404"),
            "{bad}: {}",
            reply(bad)
        );
    }
    assert_eq!(map.exists(), there, "no map of nginx is kept");
}

#[tokio::test]
async fn check_shows_both_tables_at_once_as_a_mistake() {
    let (world, haproxy) = haproxy().await;
    let output = world.host.verb(&["check"]);
    assert_eq!(output.status.code(), Some(0));
    haproxy.write_agent(|text| text + "[nginx]\n");
    let output = world.host.verb(&["check"]);
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("agent.toml:3:2: an agent sees to one server")
            && said.contains("\n 3 | [exec]\n   |  ^^^^"),
        "{said}"
    );
}
