//! The issuer's own identity: renewed and served without a restart.

use std::{sync::Arc, time::Duration};

use certwell_issuer::{
    fleet::{
        ca::{Ca, SERVER_LIFE},
        listener::{keep_identity, server_config},
    },
    store::FleetCa,
};
use certwell_proto::{Fingerprint, Secret, identity::SERVER_NAME};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::ServerName};
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::client::tls;

fn ca() -> Ca {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let certificate = params.self_signed(&key).unwrap();
    Ca::new(FleetCa {
        fleet: "hachyderm".parse().unwrap(),
        certificate: certificate.der().to_vec(),
        key: Secret::new(key.serialize_der()),
    })
    .unwrap()
}

/// The leaf that a client gets, which it verified against the fleet CA.
async fn served(config: &Arc<ServerConfig>, ca: &Ca) -> Fingerprint {
    let (near, far) = duplex(16 * 1024);
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let client = TlsConnector::from(Arc::new(tls(ca.certificate(), None)));
    let server = TlsAcceptor::from(config.clone());
    let (client, server) = tokio::join!(client.connect(name, near), server.accept(far));
    server.unwrap();
    let client = client.unwrap();
    let chain = client.get_ref().1.peer_certificates().unwrap();
    Fingerprint::of(&chain[0])
}

#[tokio::test(start_paused = true)]
async fn the_identity_is_served_until_half_of_its_life_and_then_another_without_a_restart() {
    let ca = ca();
    let mut identity = keep_identity(ca.clone()).unwrap();
    let config = server_config(&ca, identity.clone()).unwrap();
    let first = served(&config, &ca).await;
    let half = Duration::try_from(SERVER_LIFE / 2).unwrap();
    let minute = Duration::from_secs(60);
    tokio::time::sleep(half - minute).await;
    assert_eq!(served(&config, &ca).await, first);

    let mut last = first;
    for _ in 0..3 {
        identity.mark_unchanged();
        let renewed = tokio::time::timeout(half + minute, identity.changed());
        renewed.await.unwrap().unwrap();
        let next = served(&config, &ca).await;
        assert_ne!(next, last);
        last = next;
    }
}
