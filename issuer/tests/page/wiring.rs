//! Where the page is served, and where it isn't.

use std::{net::TcpListener, os::unix::fs::PermissionsExt as _, time::Duration};

use certwell_issuer::config::Page;
use certwell_proto::v1;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::world::{Reading, TOKEN, World, made, run};

#[tokio::test]
async fn an_address_that_was_asked_for_and_is_taken_is_an_error_before_anything_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let directory = made().await;
    let page = |is_default| Page {
        listen: Some(address),
        is_default,
        ..Page::default()
    };
    let refused = run(&directory, page(false))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains(&address.to_string()) && refused.contains("[page]"),
        "{refused}"
    );
    // Nobody asked for the default one: certificates matter more.
    let app = run(&directory, page(true)).await.unwrap();
    assert_eq!(app.page, None);
    app.stop().await;
    let app = run(
        &directory,
        Page {
            listen: None,
            ..Page::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(app.page, None);
    app.stop().await;
}

#[tokio::test]
async fn a_browser_that_keeps_its_connection_does_not_hold_up_the_stop() {
    let world = World::start(Reading::Free).await;
    let mut kept = TcpStream::connect(world.address).await.unwrap();
    let request = format!("GET /login HTTP/1.1\r\nhost: {}\r\n\r\n", world.address);
    kept.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // By itself it would be closed after twenty seconds.
    tokio::time::timeout(Duration::from_secs(12), world.app.stop())
        .await
        .expect("the issuer stops");
}

#[tokio::test]
async fn a_token_file_that_others_can_read_is_an_error() {
    let directory = made().await;
    let path = directory.path().join("page.token");
    std::fs::write(&path, TOKEN).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let page = Page {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        is_default: false,
        token_file: Some(path.clone()),
        origin: None,
    };
    let refused = run(&directory, page).await.err().unwrap().to_string();
    assert!(refused.contains("chmod 600"), "{refused}");
}

#[tokio::test]
async fn certwell_page_tells_where_it_is_and_the_token_to_whoever_asks_for_it() {
    let world = World::start(Reading::Free).await;
    let mut admin = world.admin().await;
    let told = admin.page(v1::PageRequest { token: false }).await.unwrap();
    let told = told.into_inner();
    assert_eq!(told.url, format!("http://{}/", world.address));
    assert_eq!(told.token, "");
    assert!(!told.reading_needs_token);
    let with = admin.page(v1::PageRequest { token: true }).await.unwrap();
    assert_eq!(with.into_inner().token, world.own_token());
    let told = async {
        loop {
            let text = world.get("/events").await.body;
            assert!(!text.contains(&world.own_token()));
            if text.contains("the page's token was shown") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told)
        .await
        .expect("it is among the events");
    world.app.stop().await;
}
