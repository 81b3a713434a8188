//! The preflight: what this host's nginx would answer the CA.

use certwell_proto::v1;

use super::{
    challenges::get,
    host::{NAME, free_port},
    issuer::eventually,
    world::world,
};

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

#[tokio::test]
async fn a_preflight_that_nginx_cannot_be_asked_about_errs_instead_of_being_wrong() {
    let mut world = world().await;
    world.issuer.desired.send_modify(|desired| {
        desired.preflights = vec![v1::PreflightRequest {
            id: "p1".into(),
            certificate: NAME.into(),
            token: "preflight-token-0123456789".into(),
            thumbprint: "A".repeat(43),
            names: vec![NAME.into()],
            port: world.host.http.port().into(),
        }];
    });
    // Stopped.
    world.host.start_agent();
    let verdict = |holds: fn(&v1::PreflightResult) -> bool| {
        let memory = world.issuer.memory.clone();
        async move {
            eventually("the verdict", || async {
                let memory = memory.lock().unwrap();
                memory.preflights.get("p1").filter(|r| holds(r)).cloned()
            })
            .await
        }
    };
    let first = verdict(|_| true).await;
    assert_eq!(first.verdict(), v1::PreflightVerdict::Erred, "{first:?}");
    assert!(first.detail.contains("isn't running"), "{first:?}");
    // Refused.
    world.host.write_nginx(true, "serwer_tokens off;");
    verdict(|r| r.detail.contains("serwer_tokens") && r.verdict() == v1::PreflightVerdict::Erred)
        .await;
}

#[tokio::test]
async fn a_preflight_that_hangs_holds_up_no_other() {
    let mut world = world().await;
    // It takes connections and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = free_port();
    let extra = format!(
        "server {{ listen {slow}; location / {{ proxy_pass http://{}; }} }}",
        mute.local_addr().unwrap()
    );
    world.host.write_nginx(true, &extra);
    world.host.start_nginx().await;
    let thumbprint = "A".repeat(43);
    let request = |id: &str, port: u16| v1::PreflightRequest {
        id: id.into(),
        certificate: NAME.into(),
        token: "preflight-token-0123456789".into(),
        thumbprint: "A".repeat(43),
        names: vec![NAME.into()],
        port: port.into(),
    };
    world.issuer.desired.send_modify(|desired| {
        desired.challenges = vec![v1::Challenge {
            thumbprint,
            names: vec![NAME.into()],
        }];
        desired.preflights = vec![request("a-slow", slow.port())];
    });
    world.host.start_agent();
    // News while the first is asked.
    let (_held, _) = tokio::task::spawn_blocking(move || (mute.accept().unwrap(), mute))
        .await
        .unwrap();
    world.issuer.desired.send_modify(|desired| {
        desired
            .preflights
            .push(request("b", world.host.http.port()))
    });
    let memory = world.issuer.memory.clone();
    eventually("the other passes", || async {
        let memory = memory.lock().unwrap();
        let passed = memory
            .preflights
            .get("b")
            .is_some_and(|result| result.verdict() == v1::PreflightVerdict::Pass);
        passed.then_some(())
    })
    .await;
    assert!(!memory.lock().unwrap().preflights.contains_key("a-slow"));
}
