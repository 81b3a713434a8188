//! A renewal that a person asks for.

use std::time::Duration;

use certwell_issuer::store::Store as _;
use certwell_proto::v1;
use tokio::{net::TcpListener, time::timeout};

use crate::world::{MEDIA, World};

#[tokio::test]
async fn a_renewal_is_taken_at_once_although_the_ca_never_answers() {
    let mut world = World::start().await;
    // Connections are made by the kernel, and nobody ever says a word on them.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = format!("https://{}/directory", deaf.local_addr().unwrap());
    let file = world.config.with_file_name("conf.d").join("fleet.toml");
    let declared = std::fs::read_to_string(&file).unwrap();
    let declared = declared.replace("https://127.0.0.1:1/directory", &directory);
    std::fs::write(&file, declared).unwrap();
    let read = |event: &v1::Event| event.kind() == v1::EventKind::Config;
    timeout(Duration::from_secs(10), world.event(read))
        .await
        .unwrap();

    let request = v1::RenewCertificateRequest {
        certificate: MEDIA.into(),
    };
    let taken = timeout(Duration::from_secs(4), world.admin.renew(request))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(taken.into_inner().generation, 2);
    let asked = |event: &v1::Event| event.text == "a renewal was asked for";
    let event = timeout(Duration::from_secs(4), world.event(asked))
        .await
        .unwrap();
    assert_eq!(event.certificate, MEDIA);
    let intents = world.store.pending_orders().await.unwrap();
    assert_eq!(intents[0].intent.generation, 2.into());
    world.app.stop().await;
}
