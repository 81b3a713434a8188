//! The HTTPS client under the ACME client.
//!
//! instant-acme drops the `Retry-After` of a refusal, and stumbles over refusals that aren't JSON: both are told here,
//! as [`Refused`].

use std::{future::Future, pin::Pin, time::Duration};

use ::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::{BodyWrapper, BytesBody, BytesResponse, HttpClient};
use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;

use super::client::{kind_of, problem_text};
use crate::{clock, config::Roots};

/// From the first byte sent to the last received.
const TIMEOUT: Duration = Duration::from_secs(30);
/// No ACME answer comes near it.
const LARGEST_BODY: usize = 1024 * 1024;
const USER_AGENT: &str = concat!("certwell/", env!("CARGO_PKG_VERSION"));

/// The CA, or something in front of it, doesn't want to be asked now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Refused {
    /// Its words, or the HTTP status.
    pub words: String,
    /// The problem type's last part, as in `rateLimited`; for an answer that is no problem document (RFC 9457),
    /// `serverInternal`.
    pub kind: String,
    /// `Retry-After`, as an instant.
    pub retry_at: Option<Timestamp>,
}

/// An [`HttpClient`] with timeouts, the authority's roots and our User-Agent.
pub struct Https {
    inner: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
}

/// The authority's roots can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The system has none.
    #[error(
        "the system's root certificates can't be read ({0}); install ca-certificates, or name a PEM file in `roots`"
    )]
    System(String),
    /// One of the file's is damaged.
    #[error("a root certificate of {path} can't be used: {problem}")]
    File {
        /// The PEM file.
        path: String,
        /// Why.
        problem: String,
    },
}

impl Https {
    /// A client that trusts `roots`.
    ///
    /// # Errors
    /// When the roots can't be used.
    pub fn new(roots: &Roots) -> Result<Self, RootsError> {
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(root_store(roots)?)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(Duration::from_secs(10)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let inner = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Self { inner })
    }
}

/// The DER of every root certificate in the set.
///
/// # Errors
/// When the system has none.
pub fn root_certificates(roots: &Roots) -> Result<Vec<Vec<u8>>, RootsError> {
    match roots {
        Roots::File { certificates, .. } => Ok(certificates.clone()),
        Roots::System => {
            let loaded = rustls_native_certs::load_native_certs();
            if loaded.certs.is_empty() {
                let why = loaded
                    .errors
                    .first()
                    .map_or_else(|| "none found".into(), ToString::to_string);
                return Err(RootsError::System(why));
            }
            Ok(loaded.certs.into_iter().map(|der| der.to_vec()).collect())
        }
    }
}

fn root_store(roots: &Roots) -> Result<RootCertStore, RootsError> {
    let mut store = RootCertStore::empty();
    let certificates = root_certificates(roots)?;
    match roots {
        Roots::System => {
            store.add_parsable_certificates(certificates.into_iter().map(Into::into));
        }
        Roots::File { path, .. } => {
            for der in certificates {
                store.add(der.into()).map_err(|e| RootsError::File {
                    path: path.display().to_string(),
                    problem: e.to_string(),
                })?;
            }
        }
    }
    Ok(store)
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl HttpClient for Https {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        request
            .headers_mut()
            .insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let uri = request.uri().clone();
        let sent = self.inner.request(request);
        Box::pin(async move {
            let exchange = async {
                let response = sent.await.map_err(|e| describe(&uri, &e))?;
                let (parts, body) = response.into_parts();
                let body = Limited::new(body, LARGEST_BODY).collect().await?.to_bytes();
                if let Some(refused) = refused(parts.status, &parts.headers, &body) {
                    return Err(refused.into());
                }
                Ok::<_, BoxError>(BytesResponse {
                    parts,
                    body: Box::new(body) as Box<dyn BytesBody>,
                })
            };
            tokio::time::timeout(TIMEOUT, exchange)
                .await
                .map_err(|_| format!("{uri} did not answer within {} s", TIMEOUT.as_secs()).into())
                .and_then(|result| result)
                .map_err(instant_acme::Error::Other)
        })
    }
}

/// hyper's own text ("client error (Connect)") hides the cause; people need all of it.
fn describe(uri: &::http::Uri, error: &dyn std::error::Error) -> BoxError {
    let mut text = format!("{uri} can't be reached: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text.into()
}

/// An answer that says when to come back, or that no ACME client could read.
fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Refused> {
    if !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let retry_at = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after(value.trim(), clock::now()));
    let problem: Option<instant_acme::Problem> = serde_json::from_slice(body).ok();
    match problem {
        Some(_) if retry_at.is_none() => None,
        Some(problem) => Some(Refused {
            words: problem_text(&problem),
            kind: kind_of(&problem).to_owned(),
            retry_at,
        }),
        None => Some(Refused {
            words: format!("it answered {status}"),
            kind: "serverInternal".into(),
            retry_at,
        }),
    }
}

/// `Retry-After` is a number of seconds or an HTTP date (RFC 9110 10.2.3).
fn retry_after(value: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(seconds) = value.parse::<u32>() {
        return now
            .checked_add(SignedDuration::from_secs(seconds.into()))
            .ok();
    }
    jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(retry_after("120", now), Timestamp::from_second(1_120).ok());
        assert_eq!(
            retry_after("Thu, 01 Jan 1970 01:00:00 GMT", now),
            Timestamp::from_second(3_600).ok()
        );
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-5", now), None);
    }

    #[test]
    fn an_answer_that_says_when_to_come_back_is_kept_and_a_plain_problem_is_left_to_the_client() {
        let mut headers = HeaderMap::new();
        let limited = br#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}"#;
        assert_eq!(
            refused(StatusCode::TOO_MANY_REQUESTS, &headers, limited),
            None
        );
        assert_eq!(refused(StatusCode::OK, &headers, b"whatever"), None);
        let gateway = refused(StatusCode::BAD_GATEWAY, &headers, b"<html>").unwrap();
        assert_eq!(
            (gateway.kind.as_str(), gateway.retry_at),
            ("serverInternal", None)
        );
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        let refused = refused(StatusCode::TOO_MANY_REQUESTS, &headers, limited).unwrap();
        assert_eq!(refused.kind, "rateLimited");
        assert!(refused.retry_at.is_some());
        assert!(refused.words.contains("too many"));
    }
}
