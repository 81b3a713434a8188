//! A listener that answers `GET /metrics` and nothing else: nothing that it is sent is read beyond its head.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

use crate::text;

/// Connections at once; others wait.
const AT_ONCE: usize = 8;
/// A connection is closed after so long, whatever it does.
const LIFE: Duration = Duration::from_secs(300);
/// The head of a request is there by then.
const HEAD: Duration = Duration::from_secs(10);
/// After an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers until it is dropped, and every connection with it.
pub async fn serve<F, R>(listener: TcpListener, render: F)
where
    F: Fn() -> R + Clone + Send + Sync + 'static,
    R: Future<Output = String> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics can't be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let render = render.clone();
        connections.spawn(async move {
            let _ = tokio::time::timeout(LIFE, converse(stream, render)).await;
            drop(place);
        });
    }
}

/// Binds it.
///
/// # Errors
/// When the address can't be had.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn converse<F, R>(stream: TcpStream, render: F)
where
    F: Fn() -> R,
    R: Future<Output = String>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let render = &render;
        async move { Ok::<_, Infallible>(answer(&request, render).await) }
    });
    // An error is the other end's, which went away.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer<F, R>(request: &Request<Incoming>, render: F) -> Response<Full<Bytes>>
where
    F: Fn() -> R,
    R: Future<Output = String>,
{
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, header, text) = match request.uri().path() {
        "/metrics" if is_read => (
            StatusCode::OK,
            (CONTENT_TYPE, text::CONTENT_TYPE),
            render().await,
        ),
        "/metrics" => (
            StatusCode::METHOD_NOT_ALLOWED,
            (ALLOW, "GET, HEAD"),
            String::new(),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            (CONTENT_TYPE, "text/plain; charset=utf-8"),
            "here is /metrics alone\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let value = hyper::header::HeaderValue::from_static(header.1);
    response.headers_mut().insert(header.0, value);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(address: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{head} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn served() -> SocketAddr {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, || async { "a 1\n".to_owned() }));
        address
    }

    #[tokio::test]
    async fn metrics_are_answered_and_nothing_else() {
        let address = served().await;
        let answer = ask(address, "GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4"));
        assert!(answer.ends_with("\r\n\r\na 1\n"), "{answer}");
        let answer = ask(address, "GET /").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        let answer = ask(address, "POST /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        let head = ask(address, "HEAD /metrics").await;
        assert!(head.starts_with("HTTP/1.1 200") && !head.contains("a 1"));
    }

    #[tokio::test]
    async fn connections_that_say_nothing_do_not_keep_others_out() {
        let address = served().await;
        let mut mute = Vec::new();
        for _ in 0..AT_ONCE {
            mute.push(TcpStream::connect(address).await.unwrap());
        }
        let began = tokio::time::Instant::now();
        let answer = ask(address, "GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(began.elapsed() < HEAD + Duration::from_secs(5));
    }
}
