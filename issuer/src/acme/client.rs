//! What we need of an ACME CA, as a trait; instant-acme behind it.

use std::sync::Arc;

use certwell_proto::Identifier;
use instant_acme::{
    AuthorizationStatus, ChallengeStatus, ChallengeType, NewOrder, OrderStatus as AcmeOrderStatus,
};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::http::Notes;
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
    /// What the CA says of an order; its authorizations only when it is pending or invalid.
    async fn order(&self, url: &str) -> Result<OrderView, AcmeError>;
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
    notes: Notes,
}

impl AcmeAccount {
    /// Wraps an account whose requests are noted in `notes`.
    pub fn new(account: instant_acme::Account, notes: Notes) -> Arc<Self> {
        Arc::new(Self { account, notes })
    }

    async fn get(&self, url: &str) -> Result<instant_acme::Order, AcmeError> {
        self.account
            .order(url.to_owned())
            .await
            .map_err(|e| wrap(&e, &self.notes))
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
        let second = match first {
            // The CA has no ARI, or another order replaced that certificate already (RFC 9773 5): order plainly.
            Err(instant_acme::Error::Unsupported(_)) => self.place(&identifiers, None).await,
            Err(instant_acme::Error::Api(ref problem)) if kind_of(problem) == "alreadyReplaced" => {
                self.place(&identifiers, None).await
            }
            // The order exists, though the answer was not what the library wants: its URL is what matters.
            Err(instant_acme::Error::Other(_)) if self.notes.last().location.is_some() => {
                Ok(self.notes.last().location.unwrap_or_default())
            }
            other => other,
        };
        second.map_err(|e| wrap(&e, &self.notes))
    }

    async fn order(&self, url: &str) -> Result<OrderView, AcmeError> {
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
        if matches!(status, OrderStatus::Pending | OrderStatus::Invalid) {
            let mut handles = order.authorizations();
            while let Some(handle) = handles.next().await {
                let handle = handle.map_err(|e| wrap(&e, &self.notes))?;
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
            let mut handle = handle.map_err(|e| wrap(&e, &self.notes))?;
            if open.contains(&index)
                && let Some(mut challenge) = handle.challenge(ChallengeType::Http01)
            {
                challenge
                    .set_ready()
                    .await
                    .map_err(|e| wrap(&e, &self.notes))?;
            }
            index += 1;
        }
        Ok(())
    }

    async fn finalize(&self, url: &str, csr: &[u8]) -> Result<(), AcmeError> {
        let mut order = self.get(url).await?;
        order
            .finalize_csr(csr)
            .await
            .map_err(|e| wrap(&e, &self.notes))
    }

    async fn download(&self, url: &str) -> Result<Vec<Vec<u8>>, AcmeError> {
        let mut order = self.get(url).await?;
        let pem = order
            .certificate()
            .await
            .map_err(|e| wrap(&e, &self.notes))?;
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

fn problem_text(problem: &instant_acme::Problem) -> String {
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

fn kind_of(problem: &instant_acme::Problem) -> &str {
    problem
        .r#type
        .as_deref()
        .and_then(|kind| kind.rsplit(':').next())
        .unwrap_or_default()
}

/// The error as we tell it, with what the answer's headers said.
pub(super) fn wrap(error: &instant_acme::Error, notes: &Notes) -> AcmeError {
    match error {
        instant_acme::Error::Api(problem) => AcmeError {
            problem: format!("the CA refused: {}", problem_text(problem)),
            kind: kind_of(problem).to_owned(),
            retry_at: notes.last().retry_after,
        },
        other => AcmeError {
            problem: format!("the CA: {other}"),
            kind: String::new(),
            retry_at: None,
        },
    }
}
