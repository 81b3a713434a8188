//! The page's listener: HTTP/1 with limits of its own, since browsers and whoever else is near can reach it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{rt::TokioIo, rt::TokioTimer, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

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

async fn one(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
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
