//! In by the token, and what that is worth.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    http::Request,
    world::{PROXY, Reading, TOKEN, World},
};

#[tokio::test]
async fn the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
    let world = World::start(Reading::NeedsToken).await;
    let login = |origin: String, host: String| {
        Request::post("/login", &[("token", TOKEN), ("next", "/hosts?a=b")])
            .header("origin", &origin)
            .header("host", &host)
    };
    let own = world.address.to_string();
    let answer = login(format!("http://{own}"), own)
        .send(world.address)
        .await;
    assert_eq!(answer.header("location"), Some("/hosts?a=b"), "{answer:?}");
    let cookie = answer.header("set-cookie").unwrap();
    for words in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(words), "{cookie}");
    }
    assert!(
        !cookie.contains("Secure"),
        "plain HTTP on loopback: {cookie}"
    );
    assert!(!cookie.contains(TOKEN));
    // Behind the proxy browsers must never send it in the clear.
    let (_, name) = PROXY.split_once("://").unwrap();
    let answer = login(PROXY.into(), name.into()).send(world.address).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("; Secure"), "{cookie}");
    world.app.stop().await;
}

#[tokio::test]
async fn a_wrong_token_lets_nobody_in_and_slows_whoever_guesses() {
    let world = World::start(Reading::NeedsToken).await;
    let began = Instant::now();
    for token in ["", "wrong", &TOKEN[..TOKEN.len() - 1]] {
        let answer = Request::post("/login", &[("token", token), ("next", "/events")])
            .sent_by_page(world.address)
            .send(world.address)
            .await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.header("set-cookie"), None);
        assert!(answer.body.contains("That isn’t the token"));
        assert_eq!(answer.field("next"), "/events");
    }
    // The right one waits for its turn behind three wrong ones.
    world.log_in(TOKEN).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2900), "{took:?}");
    world.app.stop().await;
}

#[tokio::test]
async fn whoever_floods_the_login_waits_or_is_sent_away() {
    let world = World::start(Reading::NeedsToken).await;
    let address = world.address;
    let tries: Vec<_> = (0..12)
        .map(|_| {
            tokio::spawn(async move {
                Request::post("/login", &[("token", "wrong")])
                    .sent_by_page(address)
                    .send(address)
                    .await
                    .status
            })
        })
        .collect();
    let mut refused = 0;
    for one in tries {
        match one.await.unwrap() {
            401 => {}
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    // One a second for as long as one waits: the rest isn't even compared.
    assert!((5..=8).contains(&refused), "{refused}");
    world.app.stop().await;
}

#[tokio::test]
async fn a_login_from_another_site_is_refused() {
    let world = World::start(Reading::NeedsToken).await;
    for origin in ["https://evil.example.net", "null", "http://127.0.0.1:1"] {
        let answer = Request::post("/login", &[("token", TOKEN)])
            .header("origin", origin)
            .send(world.address)
            .await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert_eq!(answer.header("set-cookie"), None);
    }
    world.app.stop().await;
}

#[tokio::test]
async fn a_session_outlives_the_issuer_but_not_its_token() {
    let world = World::start(Reading::Free).await;
    let token = world.own_token();
    let cookie = world.log_in(&token).await;
    let shown = Request::get("/").header("cookie", &cookie);
    assert!(shown.send(world.address).await.body.contains("Log out"));
    let anew = World::start(Reading::Free).await;
    let shown = Request::get("/").header("cookie", &cookie);
    assert!(
        !shown.send(anew.address).await.body.contains("Log out"),
        "the session of another issuer, by another token"
    );
    world.app.stop().await;
    anew.app.stop().await;
}
