//! Browsers are told of a change, and asked to come again.

use std::time::Duration;

use certwell_proto::v1;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    http::Request,
    world::{Reading, World},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A stream of events that is open.
struct Live {
    stream: TcpStream,
    text: String,
}

impl Live {
    async fn open(world: &World) -> Self {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let request = Request::get("/live").text(world.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        Self {
            stream,
            text: String::new(),
        }
    }

    /// Reads until so many changes were told.
    async fn changes(&mut self, count: usize) {
        let read = async {
            while self.text.matches("event: changed").count() < count {
                let mut bytes = [0; 1024];
                let length = self.stream.read(&mut bytes).await.unwrap();
                assert!(length > 0, "the stream ended: {}", self.text);
                self.text += std::str::from_utf8(&bytes[..length]).unwrap();
            }
        };
        timeout(PATIENCE, read).await.expect("a change is told");
    }
}

#[tokio::test]
async fn a_change_is_told_to_whoever_listens_and_shown_to_whoever_asks_then() {
    let world = World::start(Reading::Free).await;
    let mut live = Live::open(&world).await;
    live.changes(1).await;
    assert!(live.text.contains("text/event-stream"), "{}", live.text);
    assert!(
        !world
            .get("/")
            .await
            .body
            .contains("the whole fleet is paused")
    );
    let before = live.text.matches("event: changed").count();
    let mut admin = world.admin().await;
    admin.pause(v1::PauseRequest::default()).await.unwrap();
    live.changes(before + 1).await;
    // It may have been another change: this one is told in any case.
    let shown = async {
        let mut told = before + 1;
        while !world
            .get("/")
            .await
            .body
            .contains("the whole fleet is paused")
        {
            told += 1;
            live.changes(told).await;
        }
    };
    timeout(PATIENCE, shown).await.unwrap();
    world.app.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_looked_at_where_dns_leads_is_shown_with_that() {
    let world = World::start(Reading::Free).await;
    let media = async || world.get("/certificates/media.hachyderm.io").await.body;
    assert!(!media().await.contains("probe-dns"));
    let mut live = Live::open(&world).await;
    live.changes(1).await;
    let file = world.path("conf.d/fleet.toml");
    let declared = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, declared + "probe-dns = false\n").unwrap();
    let shown = async {
        let mut told = 1;
        while !media().await.contains("probe-dns = false") {
            told += 1;
            live.changes(told).await;
        }
    };
    timeout(PATIENCE, shown).await.unwrap();
    let media = media().await;
    assert!(
        media.contains("<dt>Public DNS</dt><dd>not looked at: <code>probe-dns = false</code></dd>"),
        "{media}"
    );
    world.app.stop().await;
}

#[tokio::test]
async fn no_more_browsers_are_told_than_the_issuer_bears() {
    let world = World::start(Reading::Free).await;
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut live = Live::open(&world).await;
        live.changes(1).await;
        open.push(live);
    }
    assert_eq!(world.get("/live").await.status, 429);
    assert_eq!(world.get("/").await.status, 200, "the page itself goes on");
    open.clear();
    let again = async {
        loop {
            let mut live = Live::open(&world).await;
            let mut bytes = [0; 64];
            let length = live.stream.read(&mut bytes).await.unwrap();
            if bytes[..length].starts_with(b"HTTP/1.1 200") {
                return;
            }
        }
    };
    timeout(PATIENCE, again)
        .await
        .expect("places are free again");
    world.app.stop().await;
}

#[tokio::test]
async fn the_issuer_stops_though_browsers_listen() {
    let world = World::start(Reading::Free).await;
    let mut live = Live::open(&world).await;
    live.changes(1).await;
    world.app.stop().await;
    let mut rest = Vec::new();
    live.stream.read_to_end(&mut rest).await.unwrap();
    // It heard the farewell: one that is cut off ends without the last chunk.
    assert!(rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    let refused = TcpStream::connect(world.address).await;
    assert!(refused.is_err(), "nobody listens any more");
}
