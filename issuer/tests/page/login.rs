//! In by the token, and what that is worth.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

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
    // One a second.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1900), "{took:?}");
    world.log_in(TOKEN).await;
    world.app.stop().await;
}

#[tokio::test]
async fn whoever_floods_the_login_waits_or_is_sent_away_and_keeps_nobody_out() {
    let world = World::start(Reading::NeedsToken).await;
    let address = world.address;
    let (said, mut heard) = mpsc::unbounded_channel();
    let began = Instant::now();
    let mut flood = JoinSet::new();
    for _ in 0..12 {
        let said = said.clone();
        flood.spawn(async move {
            loop {
                let answer = Request::post("/login", &[("token", "wrong")])
                    .sent_by_page(address)
                    .send(address)
                    .await;
                let _ = said.send(answer.status);
            }
        });
    }
    // More of them wait by then than have their turn in time.
    let mut answered = 0;
    let sent_away = async {
        loop {
            match heard.recv().await.unwrap() {
                401 => answered += 1,
                429 => break,
                other => panic!("{other}"),
            }
        }
    };
    timeout(Duration::from_secs(60), sent_away).await.unwrap();
    world.log_in(TOKEN).await;
    while let Ok(status) = heard.try_recv() {
        answered += u64::from(status == 401);
    }
    let seconds = began.elapsed().as_secs();
    assert!(answered <= seconds + 1, "{answered} in {seconds} s");
    flood.shutdown().await;
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

#[tokio::test]
async fn a_form_that_never_comes_whole_is_answered_without_it() {
    let world = World::start(Reading::Free).await;
    let whole = Request::post("/login", &[("token", "half of it")]).text(world.address);
    let began = Instant::now();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let half = &whole.as_bytes()[..whole.len() - 4];
    stream.write_all(half).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    let came = timeout(Duration::from_secs(40), reading).await;
    came.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(began.elapsed() >= Duration::from_secs(20));
    world.app.stop().await;
}
