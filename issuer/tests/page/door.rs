//! Who is let in, under which name, and what every answer carries.

use crate::{
    http::Request,
    world::{PROXY, Reading, TOKEN, World},
};

const PAGES: &[&str] = &[
    "/",
    "/hosts",
    "/hosts/sally",
    "/certificates/media.hachyderm.io",
    "/events",
    "/inventory",
    "/alerts",
];

#[tokio::test]
async fn on_loopback_without_a_token_file_whoever_comes_may_look() {
    let world = World::start(Reading::Free).await;
    for page in PAGES {
        let answer = world.get(page).await;
        assert_eq!(answer.status, 200, "{page}: {answer:?}");
        assert!(answer.body.contains("hachyderm"), "{page}");
    }
    for (page, status) in [
        ("/nowhere", 404),
        ("/hosts/nobody", 404),
        ("/certificates/nothing", 404),
    ] {
        assert_eq!(world.get(page).await.status, status, "{page}");
    }
    world.app.stop().await;
}

#[tokio::test]
async fn with_a_token_file_nothing_is_told_without_the_token() {
    let world = World::start(Reading::NeedsToken).await;
    let gated = ["/live", "/nowhere", "/metrics"];
    // What the session is called elsewhere is no session here.
    let session = world.log_in(TOKEN).await;
    let (_, value) = session.split_once('=').unwrap();
    let another = format!("another-session={value}");
    for page in PAGES.iter().chain(&gated) {
        for request in [
            Request::get(page),
            Request::get(page).header("authorization", "Bearer wrong"),
            Request::get(page).header("authorization", "Bearer "),
            Request::get(page).header("authorization", &format!("Basic {TOKEN}")),
            Request::get(page).header("cookie", "certwell-session=AAAA"),
            Request::get(page).header("cookie", &another),
            Request::get(page).method("HEAD"),
        ] {
            let answer = request.send(world.address).await;
            assert_eq!(answer.status, 401, "{page}: {answer:?}");
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Bearer realm=\"certwell\"")
            );
            // But for the path, to come back to.
            let told = answer.body.replace(page, "");
            assert!(
                !told.contains("hachyderm") && !told.contains("sally"),
                "{page}"
            );
        }
    }
    let cookie = world.log_in(TOKEN).await;
    for page in PAGES {
        let bearer = Request::get(page).header("authorization", &format!("Bearer {TOKEN}"));
        assert_eq!(bearer.send(world.address).await.status, 200, "{page}");
        let session = Request::get(page).header("cookie", &format!("other=1; {cookie}"));
        assert_eq!(session.send(world.address).await.status, 200, "{page}");
    }
    for page in ["/login", "/page.css", "/page.js", "/favicon.svg"] {
        assert_eq!(world.get(page).await.status, 200, "{page}");
    }
    world.app.stop().await;
}

#[tokio::test]
async fn a_name_that_is_not_the_pages_is_refused_whatever_is_asked() {
    let world = World::start(Reading::NeedsToken).await;
    let port = world.address.port();
    for host in [
        "evil.example.net".to_owned(),
        format!("evil.example.net:{port}"),
        format!("127.0.0.1.evil.example.net:{port}"),
        String::new(),
    ] {
        for page in ["/", "/login", "/page.css", "/live"] {
            let answer = Request::get(page)
                .header("host", &host)
                .header("authorization", &format!("Bearer {TOKEN}"))
                .send(world.address)
                .await;
            assert_eq!(answer.status, 421, "{host} {page}: {answer:?}");
            assert!(!answer.body.contains("hachyderm"));
        }
    }
    let (_, name) = PROXY.split_once("://").unwrap();
    for host in [name.to_owned(), format!("localhost:{port}"), "[::1]".into()] {
        let answer = Request::get("/")
            .header("host", &host)
            .header("authorization", &format!("Bearer {TOKEN}"))
            .send(world.address)
            .await;
        assert_eq!(answer.status, 200, "{host}");
    }
    // The target of a request line goes before the header.
    let answer = Request::get("http://evil.example.net/")
        .send(world.address)
        .await;
    assert_eq!(answer.status, 421, "{answer:?}");
    world.app.stop().await;
}

#[tokio::test]
async fn every_answer_keeps_browsers_from_being_used_against_it() {
    let world = World::start(Reading::Free).await;
    let requests = [
        Request::get("/"),
        Request::get("/page.css"),
        Request::get("/nowhere"),
        Request::get("/login"),
        Request::get("/").header("host", "evil.example.net"),
        Request::get("/").method("DELETE"),
        Request::post("/login", &[("token", "wrong")]),
        Request::post("/logout", &[]),
    ];
    for request in requests {
        let answer = request.send(world.address).await;
        let policy = answer.header("content-security-policy").expect("a policy");
        for words in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        ] {
            assert!(policy.contains(words), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
        let cache = answer.header("cache-control").unwrap();
        assert!(["no-store", "max-age=60"].contains(&cache), "{cache}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        // The policy would switch them off: they must not be needed.
        for inside in ["<style", " style=", "<script>", " onclick="] {
            assert!(!answer.body.contains(inside), "{inside}");
        }
    }
    world.app.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let world = World::start(Reading::Free).await;
    let long = "a".repeat(20_000);
    let answer = Request::post("/login", &[("token", &long)])
        .sent_by_page(world.address)
        .send(world.address)
        .await;
    assert_eq!(answer.status, 413, "{answer:?}");
    world.app.stop().await;
}
