//! A private key that is on its way out: what keeps it in until the last moment.

use certwell_proto::v1;
use tonic::Code;

use crate::{
    client::fleet,
    gated::{Gate, GatedStore},
    offers::{next, watch},
    world::{MEDIA, World},
};

const REQUEST: fn() -> v1::FetchRequest = || v1::FetchRequest {
    certificate: MEDIA.into(),
    generation: 1,
};

/// How often a hand-out of a private key was written down.
async fn written_down(world: &mut World) -> usize {
    let request = v1::EventsRequest::default();
    let mut events = world.admin.events(request).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(event) = events.message().await.unwrap() {
        count += usize::from(event.kind() == v1::EventKind::Fetched);
    }
    count
}

#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Revoked,
    Paused,
    TakenAway,
}

impl Meanwhile {
    const ALL: [(Self, Code); 3] = [
        (Self::Revoked, Code::PermissionDenied),
        (Self::Paused, Code::NotFound),
        (Self::TakenAway, Code::NotFound),
    ];

    /// Returns when it is in force.
    async fn happens(self, world: &mut World) {
        match self {
            Self::Revoked => world.revoke("sally").await,
            Self::Paused => {
                let request = v1::PauseRequest {
                    certificate: MEDIA.into(),
                };
                world.admin.pause(request).await.unwrap();
            }
            Self::TakenAway => {
                let (_, esme) = world.enrolled("esme").await;
                let (_client, mut stream) = watch(world, &esme).await;
                let file = world.config.with_file_name("conf.d").join("fleet.toml");
                let text = std::fs::read_to_string(&file).unwrap();
                std::fs::write(&file, text.replace(r#"["sally"]"#, r#"["esme"]"#)).unwrap();
                while next(&mut stream).await.certificates.is_empty() {}
            }
        }
    }
}

/// What a fetch is answered that was held at a gate, and how often it was written down.
async fn fetched_while(gate: fn(&GatedStore) -> &Gate, meanwhile: Meanwhile) -> (Code, usize) {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let mut client = fleet(world.address(), &world.ca, &sally).await;
    // From then on nothing but a hand-out can come to the gate of the events.
    world.event(|event| event.text == "enrolled").await;
    let store = world.store.clone();
    gate(&store).close();
    let fetching = tokio::spawn(async move { client.fetch(REQUEST()).await });
    gate(&store).holds_one().await;
    meanwhile.happens(&mut world).await;
    gate(&store).open();
    let answer = fetching.await.unwrap();
    let code = answer.map_or_else(|refused| refused.code(), |_| Code::Ok);
    (code, written_down(&mut world).await)
}

#[tokio::test]
async fn a_key_stays_when_the_host_loses_it_while_the_bundle_is_read() {
    for (meanwhile, code) in Meanwhile::ALL {
        let got = fetched_while(|store| &store.bundles, meanwhile).await;
        assert_eq!(got, (code, 0), "{meanwhile:?}");
    }
}

#[tokio::test]
async fn a_key_stays_when_the_host_loses_it_while_the_hand_out_is_written_down() {
    for (meanwhile, code) in Meanwhile::ALL {
        let got = fetched_while(|store| &store.events, meanwhile).await;
        assert_eq!(got, (code, 1), "{meanwhile:?}");
    }
}

#[tokio::test]
async fn a_key_whose_hand_out_cannot_be_written_down_stays() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let mut client = fleet(world.address(), &world.ca, &sally).await;
    world
        .beside("CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'full'); END")
        .await;
    let refused = client.fetch(REQUEST()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("audit log"), "{refused}");

    world.beside("DROP TRIGGER full").await;
    assert!(client.fetch(REQUEST()).await.is_ok());
    assert_eq!(written_down(&mut world).await, 1);
}
