//! One ACME account for each authority.
//!
//! A task owns the accounts of one CA. The key of a new one is committed, sealed, before `newAccount`: after a crash the
//! same key finds the same account (RFC 8555 7.3.1), so none is ever orphaned.

use std::{collections::HashMap, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use certwell_proto::{Secret, fingerprint::sha256};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::{mpsc, oneshot};

use super::{
    client::{Acme, AcmeAccount, AcmeError, wrap},
    http::Https,
};
use crate::{
    config::Authority,
    store::{Account, Store},
};

/// An account that is ready for orders.
#[derive(Clone)]
pub struct Ready {
    /// The CA, as this account sees it.
    pub acme: Arc<dyn Acme>,
    /// JWK thumbprint of its key.
    pub thumbprint: String,
}

enum Request {
    At(Authority, oneshot::Sender<Result<Ready, AcmeError>>),
    Forget(oneshot::Sender<Result<(), AcmeError>>),
}

/// Handle of the accounts task.
#[derive(Clone)]
pub struct Accounts(mpsc::Sender<Way>);

/// Asks for the way to the task of one CA, by its directory URL.
type Way = (String, oneshot::Sender<mpsc::Sender<Request>>);

impl Accounts {
    /// Starts the task; it ends with the last handle. Each CA has a task of its own below it, so that a slow one
    /// holds up no other.
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (sender, mut requests) = mpsc::channel::<Way>(16);
        tokio::spawn(async move {
            let mut desks: HashMap<String, mpsc::Sender<Request>> = HashMap::new();
            while let Some((directory, reply)) = requests.recv().await {
                // One that fell over, taking what it was asked with it, is replaced: all that it knew is stored.
                desks.retain(|_, desk| !desk.is_closed());
                let desk = desks
                    .entry(directory.clone())
                    .or_insert_with(|| desk(store.clone(), directory));
                let _ = reply.send(desk.clone());
            }
        });
        Self(sender)
    }

    /// Returns when the task has ended, in whatever way.
    pub async fn ended(&self) {
        self.0.closed().await;
    }

    /// The account at this authority, made if need be.
    ///
    /// # Errors
    /// When the CA or the store refuses.
    pub async fn at(&self, authority: &Authority) -> Result<Ready, AcmeError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::At(authority.clone(), reply);
        self.ask(authority, request, answer).await
    }

    /// The CA no longer knows the account: the next [`Accounts::at`] registers the same key anew.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn forget(&self, authority: &Authority) -> Result<(), AcmeError> {
        let (reply, answer) = oneshot::channel();
        self.ask(authority, Request::Forget(reply), answer).await
    }

    async fn ask<T>(
        &self,
        authority: &Authority,
        request: Request,
        answer: oneshot::Receiver<Result<T, AcmeError>>,
    ) -> Result<T, AcmeError> {
        let ended = || plain("the task that keeps the account at this CA ended");
        let (reply, way) = oneshot::channel();
        self.0
            .send((authority.directory.clone(), reply))
            .await
            .map_err(|_| ended())?;
        let desk = way.await.map_err(|_| ended())?;
        desk.send(request).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// The task of one CA: owns its account, and answers one request after another.
fn desk(store: Arc<dyn Store>, directory: String) -> mpsc::Sender<Request> {
    let (sender, mut requests) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut open: Option<(Authority, Ready)> = None;
        while let Some(request) = requests.recv().await {
            match request {
                Request::At(authority, reply) => {
                    let known = open.as_ref().filter(|(with, _)| *with == authority);
                    let result = match known {
                        Some((_, ready)) => Ok(ready.clone()),
                        None => ensure(store.as_ref(), &authority).await,
                    };
                    if let Ok(ready) = &result {
                        open = Some((authority, ready.clone()));
                    }
                    let _ = reply.send(result);
                }
                Request::Forget(reply) => {
                    open = None;
                    let _ = reply.send(forget(store.as_ref(), &directory).await);
                }
            }
        }
    });
    sender
}

async fn forget(store: &dyn Store, directory: &str) -> Result<(), AcmeError> {
    let stored = store.account(directory).await;
    let Some(mut record) = stored.map_err(|e| plain(&describe(&e)))? else {
        return Ok(());
    };
    record.url = None;
    record.contact = Vec::new();
    put(store, &record).await
}

async fn put(store: &dyn Store, record: &Account) -> Result<(), AcmeError> {
    store
        .put_account(record)
        .await
        .map_err(|e| plain(&describe(&e)))
}

async fn ensure(store: &dyn Store, authority: &Authority) -> Result<Ready, AcmeError> {
    let stored = store
        .account(&authority.directory)
        .await
        .map_err(|e| plain(&describe(&e)))?;
    let mut record = match stored {
        Some(record) => record,
        None => {
            let record = new_account(&authority.directory)?;
            put(store, &record).await?;
            record
        }
    };
    let https = Https::new(&authority.roots).map_err(|e| plain(&e.to_string()))?;
    let builder = instant_acme::Account::builder_with_http(Box::new(https));
    let directory = authority.directory.clone();
    let account = if let Some(url) = &record.url {
        let key = PrivatePkcs8KeyDer::from(record.key.expose());
        builder
            .from_parts(url.clone(), key, directory)
            .await
            .map_err(|e| wrap(&e))?
    } else {
        let pkcs8 = PrivatePkcs8KeyDer::from(record.key.expose().to_vec());
        let key = instant_acme::Key::from_pkcs8_der(pkcs8.clone_key()).map_err(|e| wrap(&e))?;
        let (account, _credentials) = builder
            .create_from_key((key, PrivateKeyDer::Pkcs8(pkcs8)), directory)
            .await
            .map_err(|e| wrap(&e))?;
        record.url = Some(account.id().to_owned());
        put(store, &record).await?;
        account
    };
    if record.contact != authority.contact {
        let contact: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
        match account.update_contacts(&contact).await {
            Ok(()) => {
                record.contact.clone_from(&authority.contact);
                put(store, &record).await?;
            }
            // Certificates matter more than who is written to about them.
            Err(e) => tracing::warn!(
                directory = authority.directory,
                problem = %wrap(&e),
                "the CA didn't take the contact; it is told again after a restart"
            ),
        }
    }
    Ok(Ready {
        acme: AcmeAccount::new(account),
        thumbprint: record.thumbprint,
    })
}

fn new_account(directory: &str) -> Result<Account, AcmeError> {
    let broken = |_| plain("no account key can be made: the random generator failed");
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(broken)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref())
        .map_err(|_| plain("the new account key can't be read"))?;
    Ok(Account {
        directory: directory.to_owned(),
        thumbprint: thumbprint(key.public_key().as_ref()),
        key: Secret::new(pkcs8.as_ref().to_vec()),
        url: None,
        contact: Vec::new(),
    })
}

/// RFC 7638 thumbprint of a P-256 key, given as an uncompressed point.
fn thumbprint(point: &[u8]) -> String {
    let coordinate = |range: std::ops::Range<usize>| {
        URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default())
    };
    let jwk = format!(
        r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
        coordinate(1..33),
        coordinate(33..65)
    );
    URL_SAFE_NO_PAD.encode(sha256(jwk.as_bytes()))
}

fn plain(problem: &str) -> AcmeError {
    AcmeError {
        problem: problem.to_owned(),
        kind: String::new(),
        retry_at: None,
    }
}

/// An error with its causes, for one sentence.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
