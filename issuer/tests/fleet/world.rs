//! A running issuer on a store of its own, with one issued certificate and no CA behind it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use certwell_issuer::{
    acme::csr,
    app::App,
    config::{Config, KeyType},
    init::{self, Options},
    store::{
        Intent, Issued, Store as _,
        keys::Kek,
        sqlite::{DATABASE, SqliteStore},
    },
};
use certwell_proto::{
    CertificateName, Generation, Identifier, JoinToken,
    v1::{Event, EventsRequest, admin_client::AdminClient},
};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, CertificateSigningRequestParams, IsCa, KeyPair};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::{
    client::{self, Identity, Joiner},
    gated::GatedStore,
};

pub(crate) struct World {
    _directory: tempfile::TempDir,
    pub(crate) app: App,
    pub(crate) store: Arc<GatedStore>,
    pub(crate) config: PathBuf,
    pub(crate) ca: Vec<u8>,
    pub(crate) admin: AdminClient<Channel>,
}

pub(crate) const MEDIA: &str = "media.hachyderm.io";

const DECLARED: &str = r#"
[authority.nowhere]
directory = "https://127.0.0.1:1/directory"

[host.sally]
[host.esme]

[certificate."media.hachyderm.io"]
hosts = ["sally"]
"#;

#[expect(
    clippy::disallowed_methods,
    reason = "tests have no clock of their own"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

impl World {
    /// `media.hachyderm.io`, generation 1, is issued and assigned to sally alone.
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let config = at("issuer.toml");
        init::init(
            Options {
                config: config.clone(),
                fleet: "hachyderm".parse().unwrap(),
                endpoints: vec!["127.0.0.1:7443".into()],
                listen: vec![own_address()],
                state_directory: at("state"),
                key_file: None,
                admin_socket: at("admin.sock"),
            },
            |_| Ok(()),
        )
        .await
        .unwrap();
        std::fs::write(at("conf.d").join("fleet.toml"), DECLARED).unwrap();
        let text = std::fs::read_to_string(&config).unwrap();
        let default = "#backup-directory = \"/var/backups/certwell-issuer\"";
        assert!(text.contains(default), "{text}");
        let own = format!("backup-directory = {:?}", at("backups"));
        std::fs::write(&config, text.replace(default, &own)).unwrap();
        let ca = issue(&config).await;
        let (app, store) = run(&config).await;
        let admin = AdminClient::new(admin(&app.admin_socket).await);
        Self {
            _directory: directory,
            app,
            store,
            config,
            ca,
            admin,
        }
    }

    /// Stops the issuer and starts another on what it left.
    pub(crate) async fn restart(self) -> Self {
        self.restart_after("SELECT 1").await
    }

    /// Likewise, with a statement run in the database while nobody uses it.
    pub(crate) async fn restart_after(self, statement: &'static str) -> Self {
        self.app.stop().await;
        beside(&self.config.with_file_name("state"), statement).await;
        let (app, store) = run(&self.config).await;
        let admin = AdminClient::new(admin(&app.admin_socket).await);
        Self {
            app,
            store,
            admin,
            ..self
        }
    }

    /// Likewise, with the store handed to `work` meanwhile, which closes it.
    pub(crate) async fn restart_on<F: Future<Output = ()>>(
        self,
        work: impl FnOnce(SqliteStore) -> F,
    ) -> Self {
        self.app.stop().await;
        work(open(&Config::load(&self.config).unwrap()).await).await;
        let (app, store) = run(&self.config).await;
        let admin = AdminClient::new(admin(&app.admin_socket).await);
        Self {
            app,
            store,
            admin,
            ..self
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.app.addresses[0]
    }

    pub(crate) async fn token(&mut self, host: &str) -> JoinToken {
        let request = certwell_proto::v1::CreateTokenRequest {
            hosts: vec![host.into()],
            ttl_seconds: 900,
        };
        let made = self.admin.create_token(request).await.unwrap().into_inner();
        made.tokens[0].token.parse().unwrap()
    }

    pub(crate) async fn enrolled(&mut self, host: &str) -> (Joiner, Identity) {
        let joiner = Joiner::new();
        let token = self.token(host).await;
        let answer = client::enroll(self.address(), &self.ca, &joiner, &token)
            .await
            .unwrap();
        let identity = (answer.identity_certificate, joiner.identity.serialize_der());
        (joiner, identity)
    }

    pub(crate) async fn connected(&mut self, host: &str) -> bool {
        let request = certwell_proto::v1::ListHostsRequest {};
        let hosts = self
            .admin
            .list_hosts(request)
            .await
            .unwrap()
            .into_inner()
            .hosts;
        hosts
            .iter()
            .any(|known| known.name == host && known.connected)
    }

    /// Waits for an event, past or to come.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let request = EventsRequest {
            follow: true,
            ..Default::default()
        };
        let mut events = self.admin.events(request).await.unwrap().into_inner();
        loop {
            let event = events.message().await.unwrap().unwrap();
            if wanted(&event) {
                return event;
            }
        }
    }

    pub(crate) async fn beside(&self, statement: &'static str) {
        beside(&self.config.with_file_name("state"), statement).await;
    }

    pub(crate) async fn revoke(&mut self, host: &str) {
        let request = certwell_proto::v1::RevokeHostRequest { host: host.into() };
        self.admin.revoke_host(request).await.unwrap();
    }
}

/// An address and port that no other test has: by this process's id, and a count.
fn own_address() -> SocketAddr {
    static COUNT: AtomicU16 = AtomicU16::new(20_000);
    let [.., high, low] = std::process::id().to_be_bytes();
    (
        Ipv4Addr::new(127, 55, high, low),
        COUNT.fetch_add(1, Ordering::Relaxed),
    )
        .into()
}

async fn admin(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    Endpoint::from_static("http://admin")
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await
        .unwrap()
}

/// Runs a statement in the database of a state directory, beside its store.
pub(crate) async fn beside(state_directory: &Path, statement: &'static str) {
    let mut connection = SqliteConnectOptions::new()
        .filename(state_directory.join(DATABASE))
        .connect()
        .await
        .unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

pub(crate) async fn open(config: &Config) -> SqliteStore {
    let issuer = &config.issuer;
    let kek = Kek::load(&issuer.key_encryption_key, None, &issuer.state_directory).unwrap();
    SqliteStore::open(&issuer.state_directory, &kek)
        .await
        .unwrap()
}

async fn run(file: &Path) -> (App, Arc<GatedStore>) {
    let config = Config::load(file).unwrap();
    let store = GatedStore::new(open(&config).await);
    let app = App::start_on(store.clone(), config, file).await.unwrap();
    (app, store)
}

/// Puts generation 1 into the store, as an order would; returns the fleet CA.
async fn issue(config: &Path) -> Vec<u8> {
    let store = open(&Config::load(config).unwrap()).await;
    let name: CertificateName = MEDIA.parse().unwrap();
    let identifiers: Vec<Identifier> = vec![MEDIA.parse().unwrap()];
    let (private_key, request) = csr::make(KeyType::EcdsaP256, &identifiers).unwrap();
    let (fullchain, root) = sign(&request);
    store
        .begin_order(&Intent {
            certificate: name.clone(),
            generation: Generation(1),
            identifiers: identifiers.clone(),
            authority: "nowhere".into(),
            directory: "https://127.0.0.1:1/directory".into(),
            private_key,
            csr: request,
            replaces: None,
            at: now(),
        })
        .await
        .unwrap();
    store
        .finish_order(&Issued {
            certificate: name,
            generation: Generation(1),
            identifiers,
            authority: "nowhere".into(),
            fullchain,
            root,
            not_before: now() - SignedDuration::from_hours(1),
            not_after: now() + SignedDuration::from_hours(90 * 24),
            at: now(),
        })
        .await
        .unwrap();
    let ca = store.fleet_ca().await.unwrap().certificate;
    store.close().await;
    ca
}

fn sign(request: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(root.der(), &key).unwrap();
    let request = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
    (
        vec![request.signed_by(&issuer).unwrap().der().to_vec()],
        root.der().to_vec(),
    )
}
