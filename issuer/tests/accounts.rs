//! Accounts at a CA over real HTTPS: registered once, healed when lost, and none held up by another CA.

#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use certwell_issuer::{
    acme::accounts::Accounts,
    config::{Authority, Roots},
    store::{FleetCa, Store, memory::MemoryStore},
};
use certwell_proto::{Lineage, Secret};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What the CA was asked, in order.
#[derive(Debug, Clone, PartialEq)]
enum Asked {
    /// `newAccount`, with this public key.
    New(Value),
    /// A change of this account.
    Change(String, Value),
}

#[derive(Clone, Default)]
struct Ca {
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Ca {
    /// Starts it; it ends with the test.
    async fn start(&self, directory: &str, contact: &[&str]) -> Authority {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ca = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (ca, acceptor) = (ca.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        ca.answer(stream, address).await;
                    }
                });
            }
        });
        authority(
            format!("https://{address}/{directory}"),
            certificate.der(),
            contact,
        )
    }

    async fn answer(&self, mut stream: TlsStream<TcpStream>, address: SocketAddr) {
        let (path, body) = read(&mut stream).await;
        let url = |path: &str| format!("https://{address}/{path}");
        let (status, location, answer) = match path.as_str() {
            "/directory" => (
                "200 OK",
                None,
                json!({"newNonce": url("nonce"), "newAccount": url("new"), "newOrder": url("order")}),
            ),
            "/nonce" => ("200 OK", None, Value::Null),
            "/new" => {
                let mut asked = self.asked.lock().unwrap();
                asked.push(Asked::New(part(&body, "protected")["jwk"].clone()));
                let location = url(&format!("account/{}", asked.len()));
                ("201 Created", Some(location), json!({"status": "valid"}))
            }
            account => {
                let change = Asked::Change(
                    account.to_owned(),
                    part(&body, "payload")["contact"].clone(),
                );
                self.asked.lock().unwrap().push(change);
                ("200 OK", None, json!({"status": "valid"}))
            }
        };
        let answer = answer.to_string();
        let location = location.map_or_else(String::new, |url| format!("location: {url}\r\n"));
        let text = format!(
            "HTTP/1.1 {status}\r\nreplay-nonce: nonce\r\n{location}content-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{}",
            answer.len(),
            // A HEAD has no body.
            if path == "/nonce" { "" } else { &answer }
        );
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TlsStream<TcpStream>) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |length| length.trim().parse().unwrap());
            if bytes.len() >= head + 4 + length {
                let path = text.split(' ').nth(1).unwrap().to_owned();
                return (path, bytes.split_off(head + 4));
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return (String::new(), Vec::new());
        }
    }
}

/// One part of a JWS, decoded.
fn part(body: &[u8], name: &str) -> Value {
    let jws: Value = serde_json::from_slice(body).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(jws[name].as_str().unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn authority(directory: String, root: &[u8], contact: &[&str]) -> Authority {
    Authority {
        directory,
        contact: contact.iter().map(ToString::to_string).collect(),
        roots: Roots::File {
            path: PathBuf::from("root.pem"),
            certificates: vec![root.to_vec()],
        },
        http_01_port: 80,
    }
}

fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(
        Lineage {
            id: uuid::Uuid::from_u128(1),
            started_ms: 1,
        },
        FleetCa {
            fleet: "hachyderm".parse().unwrap(),
            certificate: Vec::new(),
            key: Secret::new(Vec::new()),
        },
    ))
}

fn key_of(asked: &Asked) -> Value {
    match asked {
        Asked::New(key) => key.clone(),
        Asked::Change(..) => Value::Null,
    }
}

#[tokio::test]
async fn an_account_is_registered_once_and_each_contact_is_told_once_even_over_a_restart() {
    let (ca, store) = (Ca::default(), store());
    let mut authority = ca.start("directory", &["mailto:ops@a.example"]).await;
    let told = |contact: &str| Asked::Change("/account/1".into(), json!([contact]));
    for contact in ["mailto:ops@a.example", "mailto:ops@b.example"] {
        authority.contact = vec![contact.to_owned()];
        for _restart in 0..2 {
            let accounts = Accounts::start(store.clone());
            for _ in 0..2 {
                accounts.at(&authority).await.unwrap();
            }
        }
    }
    let asked = ca.asked();
    assert!(matches!(asked[0], Asked::New(_)));
    assert_eq!(
        asked[1..],
        [told("mailto:ops@a.example"), told("mailto:ops@b.example")]
    );
}

#[tokio::test]
async fn an_account_that_the_ca_lost_is_registered_anew_with_the_same_key() {
    let (ca, store) = (Ca::default(), store());
    let authority = ca.start("directory", &[]).await;
    let accounts = Accounts::start(store.clone());
    accounts.forget(&authority).await.unwrap();
    let before = accounts.at(&authority).await.unwrap();
    accounts.forget(&authority).await.unwrap();
    assert_eq!(store.accounts().await.unwrap()[0].url, None);
    let after = accounts.at(&authority).await.unwrap();
    assert_eq!(after.thumbprint, before.thumbprint);
    let asked = ca.asked();
    assert_eq!(asked.len(), 2);
    assert!(!key_of(&asked[0]).is_null());
    assert_eq!(key_of(&asked[0]), key_of(&asked[1]));
    let url = store.accounts().await.unwrap()[0].url.clone().unwrap();
    assert!(url.ends_with("/account/2"), "{url}");
}

#[tokio::test]
async fn a_ca_that_does_not_answer_holds_up_no_other() {
    let ca = Ca::default();
    let quick = ca.start("directory", &[]).await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap();
    let slow = authority(format!("https://{address}/directory"), &[], &[]);
    let slow = Authority {
        roots: quick.roots.clone(),
        ..slow
    };
    let accounts = Accounts::start(store());
    let waiting = accounts.clone();
    let waiting = tokio::spawn(async move { waiting.at(&slow).await.is_ok() });
    // The slow one is being asked.
    let _held = deaf.accept().await.unwrap();
    let ready = tokio::time::timeout(Duration::from_secs(5), accounts.at(&quick)).await;
    assert!(ready.unwrap().is_ok());
    assert!(!waiting.is_finished());
}
