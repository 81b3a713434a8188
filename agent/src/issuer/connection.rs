//! One HTTP/2 connection to the issuer, dialled over its endpoints in order. It never redials by itself: when to is
//! a plan's decision.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certwell_proto::{
    limits,
    v1::{enrollment_client::EnrollmentClient, fleet_client::FleetClient},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use super::tls;
use crate::clock;

/// For one TCP connection and its handshake.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// For one call, or the first message of a stream: pings prove that the issuer's machine is there, not that it answers.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);
/// A peer that is gone without a word is noticed after this and [`PING_LIMIT`].
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(20);
/// What a stream or the connection may have under way: a bundle, and a desired state in parts.
const WINDOW: u32 = 256 * 1024;

/// A connection.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: Channel,
}

/// No endpoint led to the issuer.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// None is known.
    #[error(
        "no endpoint of the issuer is known; enroll anew with `certwell-agent enroll --again TOKEN`"
    )]
    NoEndpoint,
    /// Each failed.
    #[error("the issuer can't be reached: {}", .0.iter().map(|(endpoint, problem)| format!("{endpoint}: {problem}")).collect::<Vec<_>>().join("; "))]
    Unreachable(Vec<(String, String)>),
    /// Somebody else answers.
    #[error(
        "{endpoint}: {problem}; check the address, or make a new token with `certwell token create`"
    )]
    WrongIssuer {
        /// Where.
        endpoint: String,
        /// What was wrong with it.
        problem: tls::WrongIssuer,
    },
}

impl Connection {
    /// Dials each endpoint in turn until one answers.
    ///
    /// # Errors
    /// When none does, with what came of each.
    pub async fn dial(endpoints: &[String], config: &Arc<ClientConfig>) -> Result<Self, DialError> {
        if endpoints.is_empty() {
            return Err(DialError::NoEndpoint);
        }
        let mut problems = Vec::new();
        for endpoint in endpoints {
            match Self::dial_one(endpoint, config.clone()).await {
                Ok(connection) => return Ok(connection),
                Err(problem) => {
                    if let Some(problem) = wrong_issuer(&problem) {
                        return Err(DialError::WrongIssuer {
                            endpoint: endpoint.clone(),
                            problem,
                        });
                    }
                    let problem = clock_problem(&problem).unwrap_or_else(|| problem.to_string());
                    problems.push((endpoint.clone(), problem));
                }
            }
        }
        Err(DialError::Unreachable(problems))
    }

    async fn dial_one(endpoint: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let dial = async {
            let tcp = TcpStream::connect(endpoint).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(config)
                .connect(tls::server_name(), tcp)
                .await
        };
        let stream = tokio::time::timeout(DIAL_LIMIT, dial).await.map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {DIAL_LIMIT:?}"),
            )
        })??;
        Ok(Self {
            channel: channel(stream).await?,
        })
    }

    /// For the calls of an enrolled host.
    pub fn fleet(&self) -> FleetClient<Channel> {
        FleetClient::new(self.channel.clone())
            .max_decoding_message_size(limits::WATCH_MESSAGE)
            .max_encoding_message_size(limits::WATCH_MESSAGE)
    }

    /// For getting and renewing an identity.
    pub fn enrollment(&self) -> EnrollmentClient<Channel> {
        EnrollmentClient::new(self.channel.clone())
            .max_decoding_message_size(limits::MESSAGE)
            .max_encoding_message_size(limits::MESSAGE)
    }
}

async fn channel(stream: TlsStream<TcpStream>) -> io::Result<Channel> {
    // Handed out once: tonic would redial a lost connection at the next call.
    let once = Arc::new(Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(stream.map(TokioIo::new).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotConnected,
                "the connection to the issuer is lost",
            )
        }))
    });
    Endpoint::from_static("https://issuer.certwell.internal")
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_LIMIT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .connect_with_connector(connector)
        .await
        .map_err(io::Error::other)
}

/// The verifier's own error, out of the layers around it.
fn wrong_issuer(error: &io::Error) -> Option<tls::WrongIssuer> {
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) =
        error.get_ref()?.downcast_ref::<rustls::Error>()?
    else {
        return None;
    };
    other.0.downcast_ref::<tls::WrongIssuer>().cloned()
}

/// Dates are judged by this machine's clock, which is oftener wrong than the issuer's certificate.
fn clock_problem(error: &io::Error) -> Option<String> {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let rustls::Error::InvalidCertificate(wrong) =
        error.get_ref()?.downcast_ref::<rustls::Error>()?
    else {
        return None;
    };
    let is = match wrong {
        Expired | ExpiredContext { .. } => "has expired",
        NotValidYet | NotValidYetContext { .. } => "is not valid yet",
        _ => return None,
    };
    Some(format!(
        "its certificate {is} by this machine's clock, which says {}: set the clock (timedatectl, chrony)",
        clock::now()
    ))
}

/// A status as one sentence for people: the issuer's own words, else the transport's cause.
pub fn words(status: &tonic::Status) -> String {
    use std::error::Error as _;
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    if text.is_empty() {
        format!("{:?}", status.code())
    } else {
        text
    }
}

/// The answer to a call, waited for no longer than [`CALL_LIMIT`].
///
/// # Errors
/// As the call says, or `DeadlineExceeded`.
pub async fn in_time<T>(
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, tonic::Status> {
    tokio::time::timeout(CALL_LIMIT, call)
        .await
        .unwrap_or_else(|_| {
            Err(tonic::Status::deadline_exceeded(format!(
                "it didn't answer within {} s",
                CALL_LIMIT.as_secs()
            )))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_nobody_answers_ends() {
        let ended = in_time(std::future::pending::<Result<(), _>>()).await;
        assert_eq!(ended.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }
}
