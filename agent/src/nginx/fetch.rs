//! One HTTP/1.1 GET to an address chosen beforehand, as small as the preflight needs it.

use std::{net::SocketAddr, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// For one request.
const LIMIT: Duration = Duration::from_secs(5);
/// Of a body: a key authorization has at most 172 bytes.
const BODY: usize = 1024;

/// A URL that a CA would follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) https: bool,
    /// Lower-case, an IPv6 address in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// With its query.
    pub(super) path: String,
}

impl Url {
    /// Where a Location header leads from here; `None` when it isn't http or https.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next()?.trim();
        let scheme = if self.https { "https" } else { "http" };
        if let Some(rest) = location.strip_prefix("//") {
            return Self::absolute(&format!("{scheme}://{rest}"));
        }
        if location.starts_with('/') {
            return Some(Self {
                path: location.to_owned(),
                ..self.clone()
            });
        }
        if location
            .split(['/', '?'])
            .next()
            .is_some_and(|first| first.contains(':'))
        {
            return Self::absolute(location);
        }
        let own = self.path.split('?').next()?;
        let directory = own.rsplit_once('/').map_or("", |(directory, _)| directory);
        Some(Self {
            path: format!("{directory}/{location}"),
            ..self.clone()
        })
    }

    fn absolute(text: &str) -> Option<Self> {
        let uri: hyper::Uri = text.parse().ok()?;
        let https = match uri.scheme_str()?.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        Some(Self {
            https,
            host: uri.host()?.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }

    fn host_header(&self) -> String {
        match (self.https, self.port) {
            (false, 80) | (true, 443) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    fn server_name(&self) -> Result<ServerName<'static>, String> {
        let bare = self
            .host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        ServerName::try_from(bare).map_err(|e| format!("{}: {e}", self.host))
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200.
    Body(Vec<u8>),
    /// 301, 302, 303, 307 or 308 with a Location.
    Redirect { status: u16, location: String },
    /// Any other.
    Other { status: u16, body: Vec<u8> },
}

/// GET by a connection of its own, a PROXY header first where the listener wants one; the error says what stood in
/// the way.
pub(super) async fn fetch(url: &Url, to: SocketAddr, proxied: bool) -> Result<Answer, String> {
    tokio::time::timeout(LIMIT, connect(url, to, proxied))
        .await
        .unwrap_or_else(|_| Err(format!("no answer from {to} within {} s", LIMIT.as_secs())))
}

async fn connect(url: &Url, to: SocketAddr, proxied: bool) -> Result<Answer, String> {
    let failed = |e: std::io::Error| format!("no connection to {to} ({e})");
    let mut stream = TcpStream::connect(to).await.map_err(failed)?;
    if proxied {
        let from = stream.local_addr().map_err(failed)?;
        stream
            .write_all(certwell_probe::proxy_header(from, to).as_bytes())
            .await
            .map_err(failed)?;
    }
    if !url.https {
        return exchange(url, stream).await;
    }
    let connector = TlsConnector::from(certwell_probe::config(None, false).map_err(failed)?);
    let stream = connector
        .connect(url.server_name()?, stream)
        .await
        .map_err(failed)?;
    exchange(url, stream).await
}

async fn exchange<S>(url: &Url, stream: S) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |e: hyper::Error| format!("no HTTP answer ({e})");
    let request = Request::get(&url.path)
        .header(header::HOST, url.host_header())
        .header(
            header::USER_AGENT,
            concat!("certwell-agent/", env!("CARGO_PKG_VERSION"), " (preflight)"),
        )
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| format!("{:?} can't be asked for ({e})", url.path))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let asked = async move {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let location = response.headers().get(header::LOCATION);
        let location = location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok(match (status, location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) => Answer::Redirect { status, location },
            (200, _) => Answer::Body(beginning(response.into_body()).await.map_err(failed)?),
            _ => Answer::Other {
                status,
                body: beginning(response.into_body()).await.unwrap_or_default(),
            },
        })
    };
    // The connection lives by being waited for; it ends when the request's half is done.
    let (answer, _) = tokio::join!(asked, connection);
    answer
}

/// The first KiB of a body, which is enough to tell that it isn't a key authorization.
async fn beginning(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() > BODY {
            break;
        }
    }
    bytes.truncate(BODY + 1);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_lead_where_a_browser_goes() {
        let from = Url {
            https: false,
            host: "a.org".into(),
            port: 8080,
            path: "/x/y?z".into(),
        };
        let show = |location: &str| {
            from.join(location)
                .map(|url| format!("{} {}:{} {}", url.https, url.host, url.port, url.path))
        };
        for (location, expected) in [
            ("https://B.org/p?q#f", Some("true b.org:443 /p?q")),
            ("http://b.org", Some("false b.org:80 /")),
            ("HTTP://[2001:db8::1]:81/", Some("false [2001:db8::1]:81 /")),
            ("//c.org/p", Some("false c.org:80 /p")),
            ("/p", Some("false a.org:8080 /p")),
            ("p", Some("false a.org:8080 /x/p")),
            ("ftp://a.org/", None),
            ("mailto:x", None),
            ("http://", None),
        ] {
            assert_eq!(show(location).as_deref(), expected, "{location}");
        }
    }
}
