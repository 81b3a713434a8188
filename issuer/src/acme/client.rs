//! What we need of an ACME CA, as a trait; instant-acme behind it.

use std::sync::Arc;

use certwell_proto::Identifier;
use instant_acme::{
    AuthorizationStatus, ChallengeStatus, ChallengeType, NewOrder, OrderStatus as AcmeOrderStatus,
};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::http::Refused;
use crate::plan::order::{Authorization, ChallengeState, OrderStatus, OrderView};

/// Why the CA didn't do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct AcmeError {
    /// One sentence, with the CA's words.
    pub problem: String,
    /// The problem type's last part (RFC 8555 6.7), as in `rateLimited`; empty when there was no answer.
    pub kind: String,
    /// The CA's `Retry-After`.
    pub retry_at: Option<Timestamp>,
}

/// A CA as one of our accounts sees it.
#[async_trait::async_trait]
pub trait Acme: Send + Sync {
    /// Places an order and returns its URL.
    async fn new_order(
        &self,
        identifiers: &[Identifier],
        replaces: Option<&[u8]>,
    ) -> Result<String, AcmeError>;
    /// What the CA says of an order; its authorizations when it is invalid, or pending and `details` are asked for.
    async fn order(&self, url: &str, details: bool) -> Result<OrderView, AcmeError>;
    /// Tells the CA that it may validate these authorizations (indices into the view's).
    async fn answer(&self, url: &str, open: &[usize]) -> Result<(), AcmeError>;
    /// Sends the CSR, DER.
    async fn finalize(&self, url: &str, csr: &[u8]) -> Result<(), AcmeError>;
    /// Downloads the chain of a valid order, DER, leaf first.
    async fn download(&self, url: &str) -> Result<Vec<Vec<u8>>, AcmeError>;
}

/// An account at a CA, through instant-acme.
pub struct AcmeAccount {
    account: instant_acme::Account,
}

impl AcmeAccount {
    /// Wraps an account.
    pub fn new(account: instant_acme::Account) -> Arc<Self> {
        Arc::new(Self { account })
    }

    async fn get(&self, url: &str) -> Result<instant_acme::Order, AcmeError> {
        self.account
            .order(url.to_owned())
            .await
            .map_err(|e| wrap(&e))
    }

    async fn place(
        &self,
        identifiers: &[instant_acme::Identifier],
        replaces: Option<&CertificateDer<'_>>,
    ) -> Result<String, instant_acme::Error> {
        let mut order = NewOrder::new(identifiers);
        let replaced =
            replaces.and_then(|der| instant_acme::CertificateIdentifier::try_from(der).ok());
        if let Some(replaced) = replaced {
            order = order.replaces(replaced);
        }
        self.account
            .new_order(&order)
            .await
            .map(|order| order.url().to_owned())
    }
}

#[async_trait::async_trait]
impl Acme for AcmeAccount {
    async fn new_order(
        &self,
        identifiers: &[Identifier],
        replaces: Option<&[u8]>,
    ) -> Result<String, AcmeError> {
        let identifiers: Vec<instant_acme::Identifier> = identifiers
            .iter()
            .map(|identifier| match identifier {
                Identifier::Dns(name) => instant_acme::Identifier::Dns(name.clone()),
                Identifier::Ip(address) => instant_acme::Identifier::Ip(*address),
            })
            .collect();
        let replaced = replaces.map(CertificateDer::from);
        let first = self.place(&identifiers, replaced.as_ref()).await;
        match (&first, replaces) {
            // What it replaces is a wish (RFC 9773 5): a CA without ARI, one that doesn't know that certificate, or
            // one that has replaced it already gets a plain order.
            (Err(error), Some(_)) if !is_passing(error) => {
                self.place(&identifiers, None).await.map_err(|e| wrap(&e))
            }
            _ => first.map_err(|e| wrap(&e)),
        }
    }

    async fn order(&self, url: &str, details: bool) -> Result<OrderView, AcmeError> {
        let mut order = self.get(url).await?;
        let state = order.state();
        let status = match state.status {
            AcmeOrderStatus::Pending => OrderStatus::Pending,
            AcmeOrderStatus::Ready => OrderStatus::Ready,
            AcmeOrderStatus::Processing => OrderStatus::Processing,
            AcmeOrderStatus::Valid => OrderStatus::Valid,
            AcmeOrderStatus::Invalid => OrderStatus::Invalid,
        };
        let error = state.error.as_ref().map(problem_text);
        let mut authorizations = Vec::new();
        if status == OrderStatus::Invalid || (details && status == OrderStatus::Pending) {
            let mut handles = order.authorizations();
            while let Some(handle) = handles.next().await {
                let handle = handle.map_err(|e| wrap(&e))?;
                authorizations.push(view(&handle));
            }
        }
        Ok(OrderView {
            status,
            authorizations,
            error,
        })
    }

    async fn answer(&self, url: &str, open: &[usize]) -> Result<(), AcmeError> {
        let mut order = self.get(url).await?;
        let mut handles = order.authorizations();
        let mut index = 0;
        while let Some(handle) = handles.next().await {
            let mut handle = handle.map_err(|e| wrap(&e))?;
            if open.contains(&index)
                && let Some(mut challenge) = handle.challenge(ChallengeType::Http01)
            {
                challenge.set_ready().await.map_err(|e| wrap(&e))?;
            }
            index += 1;
        }
        Ok(())
    }

    async fn finalize(&self, url: &str, csr: &[u8]) -> Result<(), AcmeError> {
        let mut order = self.get(url).await?;
        order.finalize_csr(csr).await.map_err(|e| wrap(&e))
    }

    async fn download(&self, url: &str) -> Result<Vec<Vec<u8>>, AcmeError> {
        let mut order = self.get(url).await?;
        let pem = order.certificate().await.map_err(|e| wrap(&e))?;
        let plain = |problem: &str| AcmeError {
            problem: problem.to_owned(),
            kind: String::new(),
            retry_at: None,
        };
        let pem = pem.ok_or_else(|| plain("the CA has no certificate for a valid order"))?;
        let chain = certwell_proto::pem::read_certificates(pem.as_bytes())
            .map_err(|e| plain(&format!("the CA's certificate chain is no PEM: {e}")))?;
        Ok(chain.into_iter().map(|der| der.to_vec()).collect())
    }
}

fn view(authorization: &instant_acme::AuthorizationState) -> Authorization {
    let http = authorization
        .challenges
        .iter()
        .find(|c| c.r#type == ChallengeType::Http01);
    let failed = || {
        let words = http.and_then(|c| c.error.as_ref()).map_or_else(
            || "the authorization is no longer valid".to_owned(),
            problem_text,
        );
        ChallengeState::Failed(words)
    };
    let challenge = match authorization.status {
        AuthorizationStatus::Valid => ChallengeState::Valid,
        AuthorizationStatus::Pending => match http {
            None => ChallengeState::NotOffered,
            Some(challenge) => match challenge.status {
                ChallengeStatus::Pending => ChallengeState::Open,
                ChallengeStatus::Processing | ChallengeStatus::Valid => ChallengeState::Answered,
                ChallengeStatus::Invalid => failed(),
            },
        },
        _ => failed(),
    };
    Authorization {
        identifier: authorization.identifier().to_string(),
        challenge,
    }
}

pub(super) fn problem_text(problem: &instant_acme::Problem) -> String {
    let mut text = problem.detail.clone().unwrap_or_else(|| "no detail".into());
    for sub in &problem.subproblems {
        text.push_str(&format!("; {sub}"));
    }
    let kind = kind_of(problem);
    if kind.is_empty() {
        text
    } else {
        format!("{text} ({kind})")
    }
}

pub(super) fn kind_of(problem: &instant_acme::Problem) -> &str {
    problem
        .r#type
        .as_deref()
        .and_then(|kind| kind.rsplit(':').next())
        .unwrap_or_default()
}

/// Problem types (RFC 8555 6.7) that pass by themselves; the empty one stands for no answer.
pub(super) const PASSING: [&str; 4] = ["", "rateLimited", "serverInternal", "badNonce"];

fn is_passing(error: &instant_acme::Error) -> bool {
    match error {
        instant_acme::Error::Unsupported(_) => false,
        // An order that doesn't say what it replaces: instant-acme refuses it, though the CA took it.
        instant_acme::Error::Other(cause) if cause.to_string().starts_with("replaces field") => {
            false
        }
        other => PASSING.contains(&wrap(other).kind.as_str()),
    }
}

/// The error as we tell it.
pub(super) fn wrap(error: &instant_acme::Error) -> AcmeError {
    match error {
        instant_acme::Error::Api(problem) => AcmeError {
            problem: format!("the CA refused: {}", problem_text(problem)),
            kind: kind_of(problem).to_owned(),
            retry_at: None,
        },
        instant_acme::Error::Other(cause) => match cause.downcast_ref::<Refused>() {
            Some(refused) => AcmeError {
                problem: format!("the CA refused: {}", refused.words),
                kind: refused.kind.clone(),
                retry_at: refused.retry_at,
            },
            None => AcmeError {
                problem: format!("the CA: {cause}"),
                kind: String::new(),
                retry_at: None,
            },
        },
        other => AcmeError {
            problem: format!("the CA: {other}"),
            kind: String::new(),
            retry_at: None,
        },
    }
}
