//! Alerts, and the one thing that the page can do about them.

use certwell_proto::v1;

use crate::{
    http::Request,
    world::{Reading, World},
};

/// Nothing is wrong with what it has.
const WELL: &str = "[notifier.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n";

#[tokio::test]
async fn an_alert_is_acknowledged_by_its_form_from_the_page_itself_and_by_nothing_else() {
    let world = World::start(Reading::Free).await;
    let mut admin = world.admin().await;
    let drill = admin.drill(v1::DrillRequest {}).await.unwrap();
    let id = drill.into_inner().alert.unwrap().id;
    let counted = world.get("/metrics").await.body;
    let line = "certwell_alerts{class=\"drill\",severity=\"page\"} 1\n";
    assert!(counted.contains(line), "{counted}");
    let token = world.own_token();
    let without = world.get("/alerts").await.body;
    assert!(without.contains(&format!("id=\"alert-{id}\"")), "{without}");
    assert!(without.contains("Log in to acknowledge"), "{without}");
    assert!(!without.contains("<form"), "no control without the token");

    let (cookie, other) = (world.log_in(&token).await, world.log_in(&token).await);
    let form = async |cookie: &str| {
        let page = Request::get("/alerts").header("cookie", cookie);
        page.send(world.address).await.field("form")
    };
    let (mine, others) = (form(&cookie).await, form(&other).await);
    let target = format!("/alerts/{id}/acknowledge");
    let post = |form: &str, cookie: &str| {
        let fields = [
            ("form", form),
            ("for", "3600"),
            ("note", "<i>mine</i>"),
            ("next", "/alerts"),
        ];
        Request::post(&target, &fields).header("cookie", cookie)
    };
    let own = |request: Request| request.sent_by_page(world.address);
    let bearer = format!("Bearer {token}");
    for (what, request, status) in [
        ("no session", own(post(&mine, "")), 401),
        (
            "the token alone",
            own(post(&mine, "")).header("authorization", &bearer),
            401,
        ),
        (
            "a wrong token",
            own(post(&mine, "certwell-session=AAAA")),
            401,
        ),
        ("another session's form", own(post(&others, &cookie)), 403),
        ("no form token", own(post("", &cookie)), 403),
        ("no origin", post(&mine, &cookie), 403),
        (
            "another origin",
            post(&mine, &cookie).header("origin", "https://evil.example.net"),
            403,
        ),
        (
            "a link",
            own(Request::get(&target)).header("cookie", &cookie),
            405,
        ),
    ] {
        let answer = request.send(world.address).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let told = admin
            .list_alerts(v1::ListAlertsRequest { all: false })
            .await
            .unwrap();
        let alert = told
            .into_inner()
            .alerts
            .into_iter()
            .find(|one| one.id == id)
            .unwrap();
        assert_eq!(alert.acknowledgement, None, "{what}");
    }
    let answer = own(post(&mine, &cookie)).send(world.address).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/alerts")),
        "{answer:?}"
    );
    let shown = world.get("/alerts").await.body;
    assert!(shown.contains("acknowledged by page"), "{shown}");
    assert!(shown.contains("&lt;i&gt;mine&lt;/i&gt;"), "{shown}");
    world.app.stop().await;
}

#[tokio::test]
async fn an_open_alert_that_nobody_has_taken_is_what_the_fleet_s_page_says_first() {
    let world = World::start_of(Reading::Free, WELL).await;
    let headline = async || {
        let shown = world.get("/").await.body;
        let (_, rest) = shown.split_once("id=\"headline\"").unwrap();
        rest.split_once("</p>").unwrap().0.to_owned()
    };
    let before = headline().await;
    let mut admin = world.admin().await;
    let drill = admin.drill(v1::DrillRequest {}).await.unwrap();
    let alert = drill.into_inner().alert.unwrap();
    let told = headline().await;
    assert!(!before.contains(&alert.title), "{before}");
    assert!(told.contains(&alert.title), "{told}");
    let taken = v1::AcknowledgeAlertRequest {
        id: alert.id,
        for_seconds: 3_600,
        ..Default::default()
    };
    admin.acknowledge_alert(taken).await.unwrap();
    assert_eq!(headline().await, before);
    world.app.stop().await;
}
