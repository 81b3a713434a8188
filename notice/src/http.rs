//! One request: bounded in time and size, and never redirected. What comes back is told in one sentence that holds no
//! secret.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::{
    Accepted, Refused, Target,
    limit::{cut, line},
};

/// So much of an answer is read: enough for the reason.
const READ: usize = 4 * 1024;
/// And so long is waited for it once the status is there.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// So much of its first line is quoted.
const QUOTED: usize = 200;
const USER_AGENT: &str = concat!("certwell/", env!("CARGO_PKG_VERSION"));

/// What a server's certificate is checked against.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// The operating system's, as they are when a message is sent.
    #[default]
    System,
    /// These alone, in DER; never empty.
    These(Arc<Vec<CertificateDer<'static>>>),
}

/// Where to send to, and how the server is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL.
    pub target: Target,
    /// For https.
    pub roots: Roots,
}

impl Endpoint {
    /// Asks for it, as a watcher outside wants to be asked for: a status of 2xx is acceptance, a redirect isn't followed.
    ///
    /// # Errors
    /// When it isn't accepted within the limit.
    pub async fn get(&self, limit: Duration) -> Result<Accepted, Refused> {
        Asking {
            target: &self.target,
            roots: &self.roots,
            headers: Vec::new(),
            body: None,
            limit,
        }
        .send()
        .await
    }
}

/// JSON to be posted, or a URL to be asked for.
pub(crate) struct Asking<'a> {
    pub(crate) target: &'a Target,
    pub(crate) roots: &'a Roots,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// `None`: nothing is posted.
    pub(crate) body: Option<Vec<u8>>,
    /// For all of it, to the answer's status.
    pub(crate) limit: Duration,
}

impl Asking<'_> {
    /// Sends it. A status of 2xx is acceptance, whatever becomes of the words behind it.
    pub(crate) async fn send(self) -> Result<Accepted, Refused> {
        let (target, limit) = (self.target, self.limit);
        match tokio::time::timeout(limit, self.exchange()).await {
            // The words behind the status have a limit of their own.
            Ok(answered) => judge(target, answered?).await,
            Err(_) => Err(Refused::new(format!(
                "{} didn't answer within {limit:?}",
                target.host()
            ))),
        }
    }

    async fn exchange(self) -> Result<Response<Incoming>, Refused> {
        let target = self.target;
        let failed =
            |problem: String| Refused::new(format!("{} {}", target.host(), target.scrub(&problem)));
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(self.roots, target).await.map_err(&failed)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
            // One message, one connection.
            .pool_max_idle_per_host(0)
            .build(connector);
        let mut request = match &self.body {
            Some(_) => Request::post(target.uri()).header(header::CONTENT_TYPE, "application/json"),
            None => Request::get(target.uri()),
        }
        .header(header::USER_AGENT, USER_AGENT);
        for (name, value) in &self.headers {
            request = request.header(HeaderName::from_static(name), value.as_str());
        }
        let request = request
            .body(Full::from(self.body.unwrap_or_default()))
            .map_err(|error| failed(format!("can't be asked: {error}")))?;
        client
            .request(request)
            .await
            .map_err(|error| failed(format!("can't be reached: {}", chain(&error))))
    }
}

async fn judge(target: &Target, response: Response<Incoming>) -> Result<Accepted, Refused> {
    let (parts, body) = response.into_parts();
    let said = first_line(body).await;
    let said = cut(&line(&target.scrub(&said)), QUOTED);
    let said = if said.is_empty() {
        said
    } else {
        format!(": {said}")
    };
    let (host, status) = (target.host(), parts.status);
    if status.is_success() {
        let text = format!("{host} answered {status}{said}");
        return Ok(Accepted::by_all(text));
    }
    let text = if status.is_redirection() {
        let to = parts.headers.get(header::LOCATION);
        format!(
            "{host} answered {status}, a redirect{}, which isn't followed: set the URL that is meant",
            elsewhere(to)
        )
    } else {
        format!("{host} answered {status}{said}")
    };
    Err(Refused {
        text,
        status: Some(status.as_u16()),
        retry_after: retry_after(&parts.headers, status),
    })
}

/// Of a redirect's target, which may hold a secret as ours does, the host alone.
fn elsewhere(location: Option<&HeaderValue>) -> String {
    let uri: Option<Uri> = location
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    match uri.as_ref().and_then(Uri::host) {
        Some(host) => format!(" to {host}"),
        None => String::new(),
    }
}

/// The first line that isn't empty, as far as it came.
async fn first_line(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            if bytes.len() >= READ {
                break;
            }
        }
    };
    // What came until then is quoted.
    let _ = tokio::time::timeout(READ_LIMIT, reading).await;
    bytes.truncate(READ);
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().map(str::trim);
    lines
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .to_owned()
}

/// `Retry-After` is a number of seconds or an HTTP date (RFC 9110 10.2.3).
fn retry_after(headers: &HeaderMap, status: StatusCode) -> Option<Duration> {
    if !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    wait(value, crate::clock::now())
}

fn wait(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let then = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value)
        .ok()?;
    Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
}

/// Without TLS no root is looked for.
async fn tls(roots: &Roots, target: &Target) -> Result<ClientConfig, String> {
    let mut store = RootCertStore::empty();
    if target.uri().scheme_str() == Some("https") {
        match roots {
            Roots::These(certificates) => {
                store.add_parsable_certificates(certificates.iter().cloned());
            }
            Roots::System => {
                let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
                let loaded = loaded.await.map_err(|error| error.to_string())?;
                store.add_parsable_certificates(loaded.certs);
            }
        }
        if store.is_empty() {
            return Err(
                "can't be asked over TLS: this machine has no root certificates; install ca-certificates, or name a \
                 PEM file in `roots`"
                    .to_owned(),
            );
        }
    }
    Ok(ClientConfig::builder()
        .with_root_certificates(store)
        .with_no_client_auth())
}

/// hyper's own text ("client error (Connect)") hides the cause; people need all of it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(&format!(": {words}"));
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_back_is_seconds_or_a_date() {
        let now = Timestamp::from_second(1_000).unwrap();
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(wait("120", now), seconds(120));
        assert_eq!(wait("Thu, 01 Jan 1970 01:00:00 GMT", now), seconds(2_600));
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:01 GMT", now), seconds(0));
        assert_eq!(wait("soon", now), None);
    }

    #[test]
    fn of_a_redirects_target_the_host_alone_is_told() {
        let value = HeaderValue::from_static("https://login.example.org/x?token=abc");
        assert_eq!(elsewhere(Some(&value)), " to login.example.org");
        assert_eq!(elsewhere(Some(&HeaderValue::from_static("/login"))), "");
        assert_eq!(elsewhere(None), "");
    }
}
