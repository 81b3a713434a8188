//! A running issuer with a page on a port of its own, two hosts that nobody joined, and nothing issued.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use certwell_issuer::{
    app::App,
    config::{Config, Page},
    init::{self, Options},
    store::{keys::Kek, sqlite::SqliteStore},
};
use certwell_proto::v1::admin_client::AdminClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::http::{Answer, Request};

pub(crate) const TOKEN: &str = "correct-horse-battery-staple";
pub(crate) const PROXY: &str = "https://certwell.example.org";

const DECLARED: &str = r#"
[notifier.hook]
type = "webhook"
url = "http://127.0.0.1:9/"

[authority.nowhere]
directory = "https://127.0.0.1:1/directory"

[host.sally]
[host.esme]

[certificate."media.hachyderm.io"]
hosts = ["sally", "esme"]
"#;

pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) app: App,
    pub(crate) address: SocketAddr,
}

/// Who may look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Free,
    NeedsToken,
}

impl World {
    pub(crate) async fn start(reading: Reading) -> Self {
        Self::start_of(reading, DECLARED).await
    }

    /// With this in its `conf.d`.
    pub(crate) async fn start_of(reading: Reading, declared: &str) -> Self {
        let made = made().await;
        std::fs::write(made.path().join("conf.d/fleet.toml"), declared).unwrap();
        let token_file = (reading == Reading::NeedsToken).then(|| {
            let path = made.path().join("page.token");
            std::fs::write(&path, TOKEN).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        });
        let page = Page {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            is_default: false,
            origin: token_file.as_ref().map(|_| PROXY.to_owned()),
            token_file,
        };
        let app = run(&made, page).await.unwrap();
        let address = app.page.unwrap();
        Self {
            directory: made,
            app,
            address,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        Request::get(target).send(self.address).await
    }

    /// The cookie of a new session.
    pub(crate) async fn log_in(&self, token: &str) -> String {
        let answer = Request::post("/login", &[("token", token), ("next", "/")])
            .sent_by_page(self.address)
            .send(self.address)
            .await;
        assert_eq!(answer.status, 303, "{answer:?}");
        let cookie = answer.header("set-cookie").unwrap();
        cookie.split_once(';').unwrap().0.into()
    }

    /// The token that the issuer made for itself.
    pub(crate) fn own_token(&self) -> String {
        let text = std::fs::read_to_string(self.path("state/page.token")).unwrap();
        text.trim().into()
    }

    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        let path = self.app.admin_socket.clone();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://issuer.certwell.internal")
            .connect_with_connector(connector)
            .await
            .unwrap();
        AdminClient::new(channel)
    }
}

/// A new fleet in a directory.
pub(crate) async fn made() -> tempfile::TempDir {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    init::init(
        Options {
            config: at("issuer.toml"),
            fleet: "hachyderm".parse().unwrap(),
            endpoints: vec!["127.0.0.1:7443".into()],
            listen: vec!["127.0.0.1:7443".parse().unwrap()],
            state_directory: at("state"),
            key_file: None,
            admin_socket: at("admin.sock"),
        },
        |_| Ok(()),
    )
    .await
    .unwrap();
    std::fs::write(at("conf.d").join("fleet.toml"), DECLARED).unwrap();
    directory
}

/// Starts the issuer of a directory with this page.
pub(crate) async fn run(directory: &tempfile::TempDir, page: Page) -> anyhow::Result<App> {
    let file = directory.path().join("issuer.toml");
    let mut config = Config::load(&file).unwrap();
    config.issuer.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.page = page;
    let issuer = &config.issuer;
    let kek = Kek::load(&issuer.key_encryption_key, None, &issuer.state_directory).unwrap();
    let store = SqliteStore::open(&issuer.state_directory, &kek)
        .await
        .unwrap();
    App::start_on(Arc::new(store), config, &file).await
}
