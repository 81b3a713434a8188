//! The page's listener: HTTP/1 with limits of its own, since browsers and whoever else is near can reach it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{rt::TokioIo, rt::TokioTimer, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::unread::Limited;
use crate::config;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// From the accepted connection, or the answer before, to the end of a request's headers.
const HEADERS: Duration = Duration::from_secs(20);
/// Of one request.
const BUFFER: usize = 64 * 1024;
/// After a failed accept (descriptors exhausted, say).
const BREATHER: Duration = Duration::from_millis(100);

/// An address that was asked for can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the page can't be served on {address}: {source}; change `listen` in the [page] section (\"\" turns it off), \
     or stop what uses it"
)]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Binds the page's address. Nobody asked for the default one: where something else has it, the issuer does without.
///
/// # Errors
/// When the address that the configuration names is in use, or isn't this machine's.
pub async fn bind(page: &config::Page) -> Result<Option<TcpListener>, BindError> {
    let Some(address) = page.listen else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) if page.is_default => {
            tracing::warn!(
                %address,
                error = %source,
                "the page isn't served; set `listen` in the [page] section to another address, or to \"\""
            );
            Ok(None)
        }
        Err(source) => Err(BindError { address, source }),
    }
}

/// Serves until told to stop; connections under way end with their answer, streams at once.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Cancel-safe: a permit that isn't taken is free, a connection that isn't accepted waits.
        let accepted = tokio::select! {
            () = told(&mut stop) => break,
            accepted = accept(&listener, &free) => accepted,
        };
        let Some((stream, permit)) = accepted else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            one(stream, router, stop).await;
            drop(permit);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = free.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "a connection to the page can't be accepted");
            tokio::time::sleep(BREATHER).await;
            None
        }
    }
}

async fn one(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(
            TokioIo::new(Limited::new(stream)),
            TowerToHyperService::new(router),
        );
    tokio::pin!(connection);
    // Cancel-safe: the connection is polled on below.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the page broke");
    }
}

/// Returns when the issuer is to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|told| *told).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{body::Body, routing::get};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        task::JoinHandle,
        time::{Instant, sleep, timeout},
    };
    use tokio_stream::{StreamExt as _, iter};

    use super::*;

    /// What finds room on the way.
    const ROOM: usize = 4096;
    const LONG: Duration = Duration::from_secs(3_600);

    /// An answer that is far longer than that, and one of a few bytes every ten seconds.
    fn router() -> Router {
        Router::new()
            .route("/", get(async || vec![b'a'; 100 * ROOM]))
            .route("/short", get(async || "a"))
            .route("/live", get(async || events()))
    }

    fn events() -> Body {
        let events = iter(0..1_000).then(async |_| {
            sleep(Duration::from_secs(10)).await;
            Ok::<_, Infallible>("event: changed\n\n")
        });
        Body::from_stream(events)
    }

    /// A client that asked, and the connection's task. The sender of the end has to be kept.
    async fn asked(path: &str) -> (DuplexStream, JoinHandle<()>, watch::Sender<bool>) {
        said(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await
    }

    async fn said(words: &str) -> (DuplexStream, JoinHandle<()>, watch::Sender<bool>) {
        let (mut client, server) = duplex(ROOM);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(one(server, router(), stopped));
        client.write_all(words.as_bytes()).await.unwrap();
        (client, task, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_nothing_or_half_or_nothing_more_keeps_no_place() {
        for words in [
            "",
            "GET / HTTP/1.1\r\nhost: a\r\n",
            "GET /short HTTP/1.1\r\nhost: a\r\n\r\n",
        ] {
            let began = Instant::now();
            let (_client, task, _stop) = said(words).await;
            timeout(LONG, task).await.expect(words).unwrap();
            assert_eq!(began.elapsed().as_secs(), 20, "{words:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_its_connection() {
        let began = Instant::now();
        let (_client, task, _stop) = asked("/").await;
        timeout(LONG, task).await.expect("it ends").unwrap();
        assert!(began.elapsed() >= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn so_does_one_that_is_read_byte_by_byte() {
        let (mut client, task, _stop) = asked("/").await;
        let reading = tokio::spawn(async move {
            while client.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        timeout(LONG / 10, task).await.expect("it ends").unwrap();
        reading.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_slowly_goes_on_reading() {
        let (mut client, _task, _stop) = asked("/").await;
        let (mut read, began) = (0, Instant::now());
        let mut bytes = vec![0; ROOM];
        while read < 100 * ROOM {
            let length = client.read(&mut bytes).await.unwrap();
            assert!(length > 0, "it was cut after {read} bytes");
            read += length;
            sleep(Duration::from_secs(3)).await;
        }
        assert!(began.elapsed() > Duration::from_secs(200));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_in_time_gets_the_whole_answer_and_events_for_as_long_as_there_are_any() {
        let (mut client, _task, _stop) = asked("/").await;
        let mut read = 0;
        let mut bytes = vec![0; 100 * ROOM / 20];
        while read < 100 * ROOM {
            read += client.read(&mut bytes).await.unwrap();
            sleep(Duration::from_millis(300)).await;
        }
        let (mut client, _task, _stop) = asked("/live").await;
        let began = Instant::now();
        while began.elapsed() < LONG {
            assert!(client.read(&mut bytes).await.unwrap() > 0, "it was cut");
        }
    }
}
