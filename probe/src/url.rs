//! What a URL answers at one address, whatever DNS says of its host. Nothing is followed: a redirect is an answer.

use std::{net::SocketAddr, time::Duration};

use certwell_proto::v1;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;

use crate::{
    dial::Place,
    handshake::{Ask, connect},
};

/// So much of a body is read: that it comes is to be known, not all that it says.
const BODY: usize = 256 * 1024;

/// What is asked for, and what is right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expected {
    /// https://NAME/PATH.
    pub url: String,
    /// The status that is right.
    pub status: u16,
    /// What Content-Type must begin with, in lower case; empty: anything.
    pub content_type: String,
}

/// Asks for it at `address`, given up after `limit`.
pub async fn get(
    expected: &Expected,
    name: &str,
    address: SocketAddr,
    limit: Duration,
) -> v1::UrlAnswer {
    let got = match tokio::time::timeout(limit, exchange(&expected.url, name, address)).await {
        Ok(got) => got,
        Err(_) => Err(format!("no answer within {} s", limit.as_secs_f32())),
    };
    match got {
        Ok(got) => v1::UrlAnswer {
            url: expected.url.clone(),
            status: got.status.into(),
            problem: got.problem(expected).unwrap_or_default(),
            content_type: got.content_type,
        },
        Err(problem) => v1::UrlAnswer {
            url: expected.url.clone(),
            problem,
            ..v1::UrlAnswer::default()
        },
    }
}

struct Got {
    status: u16,
    content_type: String,
    location: Option<String>,
    body: Result<(), String>,
}

impl Got {
    fn problem(&self, expected: &Expected) -> Option<String> {
        if self.status != expected.status {
            let location = self
                .location
                .as_ref()
                .map(|location| format!(", which leads to {location}"))
                .unwrap_or_default();
            return Some(format!(
                "status {}{location}, not {}",
                self.status, expected.status
            ));
        }
        if !self
            .content_type
            .to_ascii_lowercase()
            .starts_with(&expected.content_type)
        {
            return Some(match self.content_type.as_str() {
                "" => format!("no content type, not {}", expected.content_type),
                other => format!("content type {other}, not {}", expected.content_type),
            });
        }
        self.body.clone().err()
    }
}

async fn exchange(url: &str, name: &str, address: SocketAddr) -> Result<Got, String> {
    let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or(name, |authority| authority.as_str());
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(
            header::USER_AGENT,
            concat!("certwell/", env!("CARGO_PKG_VERSION"), " (probe)"),
        )
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("it can't be asked for ({error})"))?;
    let ask = Ask {
        place: Place::Tcp(address),
        name: Some(name.to_owned()),
        key: None,
        proxy_protocol: false,
        proof: true,
    };
    let stream = connect(&ask)
        .await
        .map_err(|error| format!("no handshake ({error})"))?;
    let failed = |error: hyper::Error| format!("no HTTP answer ({error})");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let asked = async move {
        let response = sender.send_request(request).await.map_err(failed)?;
        let text = |key| {
            let value = response.headers().get(key)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let mut got = Got {
            status: response.status().as_u16(),
            content_type: text(header::CONTENT_TYPE).unwrap_or_default(),
            location: text(header::LOCATION),
            body: Ok(()),
        };
        let mut body = response.into_body();
        let mut read = 0;
        while read < BODY {
            match body.frame().await {
                None => break,
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(error)) => {
                    got.body = Err(format!("its body breaks off after {read} bytes ({error})"));
                    break;
                }
            }
        }
        Ok(got)
    };
    // Both run until the answer is there; the connection goes with it.
    tokio::pin!(asked);
    tokio::select! {
        got = &mut asked => got,
        ended = connection => match ended {
            Ok(()) => asked.await,
            Err(error) => asked.await.map_err(|_| failed(error)),
        },
    }
}
