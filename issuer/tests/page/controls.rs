//! What changes something: from the page itself alone, by whoever has logged in.

use crate::{
    http::Request,
    world::{Reading, World},
};

#[tokio::test]
async fn logging_out_needs_the_session_its_form_and_the_page_itself() {
    let world = World::start(Reading::Free).await;
    let token = world.own_token();
    let (cookie, other) = (world.log_in(&token).await, world.log_in(&token).await);
    let form = async |cookie: &str| {
        let page = Request::get("/").header("cookie", cookie);
        page.send(world.address).await.field("form")
    };
    let (mine, others) = (form(&cookie).await, form(&other).await);
    let post = |form: &str, cookie: &str| {
        Request::post("/logout", &[("form", form)]).header("cookie", cookie)
    };
    let own = |request: Request| request.sent_by_page(world.address);
    for (what, request, status) in [
        ("no session", own(post(&mine, "")), 401),
        ("another session's form", own(post(&others, &cookie)), 403),
        ("no form token", own(post("", &cookie)), 403),
        ("no origin", post(&mine, &cookie), 403),
        (
            "another origin",
            post(&mine, &cookie).header("origin", "https://evil.example.net"),
            403,
        ),
        (
            "another site, by the browser's word",
            post(&mine, &cookie)
                .header("origin", &format!("http://{}", world.address))
                .header("sec-fetch-site", "cross-site"),
            403,
        ),
        (
            "the token alone",
            own(Request::post("/logout", &[("form", &mine)]))
                .header("authorization", &format!("Bearer {token}")),
            401,
        ),
        (
            "a link",
            own(Request::get("/logout")).header("cookie", &cookie),
            405,
        ),
    ] {
        let answer = request.send(world.address).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(answer.header("set-cookie"), None, "{what}");
    }
    let answer = own(post(&mine, &cookie)).send(world.address).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    let gone = answer.header("set-cookie").unwrap();
    assert!(gone.contains("Max-Age=0"), "{gone}");
    world.app.stop().await;
}
