//! The connection to the issuer's Unix socket, and what its refusals mean for the exit code.

use std::{future::Future, io, path::Path, time::Duration};

use certwell_proto::{Exit, v1::admin_client::AdminClient};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};

/// A client of the Admin service.
pub(super) type Admin = AdminClient<Channel>;

/// How long the issuer may take for an answer that isn't a stream.
const PATIENCE: Duration = Duration::from_secs(10);
/// A status of a large fleet is larger than tonic's default of 4 MiB; the socket's other end is trusted.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Who may use the socket.
const WHO: &str = "root, or in the group that admin-group names (default certwell)";

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The issuer refused, or couldn't be asked.
    #[error("{message}")]
    Refused {
        /// What the process exits with.
        exit: Exit,
        /// One or two sentences, with what to do next.
        message: String,
    },
    /// Writing the output failed.
    #[error("the output can't be written: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// A refusal.
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Refused {
            exit,
            message: message.into(),
        }
    }

    /// What the process exits with. A reader that has seen enough and closed the pipe is no failure.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Refused { exit, .. } => *exit,
            Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_) => Exit::Internal,
        }
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        // Only a failure on this side has a source: the connection broke.
        if std::error::Error::source(&status).is_some() {
            return Self::new(
                Exit::Unreachable,
                format!(
                    "the connection to the issuer broke: {}; is certwell-issuer running?",
                    status.message()
                ),
            );
        }
        let exit = match status.code() {
            Code::Ok => Exit::Done,
            Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
            Code::DeadlineExceeded => Exit::NotConverged,
            Code::Unavailable | Code::Cancelled => Exit::Unreachable,
            Code::PermissionDenied | Code::Unauthenticated => Exit::Denied,
            Code::NotFound => Exit::NotFound,
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Exit::Conflict,
            _ => Exit::Internal,
        };
        let message = match status.code() {
            Code::Unavailable | Code::Cancelled => {
                format!(
                    "the issuer went away: {}; is certwell-issuer running?",
                    status.message()
                )
            }
            Code::Unimplemented => {
                "the issuer doesn't know this command; is certwell-issuer older than certwell?"
                    .to_owned()
            }
            _ if status.message().is_empty() => format!("the issuer answers: {}", status.code()),
            _ => status.message().to_owned(),
        };
        Self::new(exit, message)
    }
}

/// Connects to the issuer.
///
/// # Errors
/// [`Exit::Denied`] when the socket's permissions forbid it, else [`Exit::Unreachable`].
pub(super) async fn connect(socket: &Path) -> Result<Admin, CliError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is never dialled: the connector knows where to go.
    let channel = Endpoint::from_static("http://issuer.certwell.internal")
        .connect_timeout(PATIENCE)
        .connect_with_connector(connector)
        .await
        .map_err(|e| unreachable(socket, &e))?;
    Ok(AdminClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
}

/// Waits for an answer that isn't a stream.
///
/// # Errors
/// The issuer's refusal; [`Exit::Unreachable`] when no answer comes.
pub(super) async fn ask<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CliError> {
    ask_within(PATIENCE, call).await
}

/// Likewise, where the issuer itself has to wait for others.
///
/// # Errors
/// As [`ask`].
pub(super) async fn ask_within<T>(
    patience: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CliError> {
    match tokio::time::timeout(patience, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CliError::new(
            Exit::Unreachable,
            format!(
                "the issuer took the call, but did not answer within {} seconds; \
                 look at its log (journalctl -u certwell-issuer)",
                patience.as_secs()
            ),
        )),
    }
}

fn unreachable(socket: &Path, error: &tonic::transport::Error) -> CliError {
    let shown = socket.display();
    let cause = io_cause(error);
    let advice = match cause.map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => {
            return CliError::new(
                Exit::Denied,
                format!("this user may not use {shown}: are you {WHO}?"),
            );
        }
        Some(io::ErrorKind::NotFound) => "there is no such socket",
        Some(io::ErrorKind::ConnectionRefused) => "nobody listens on it",
        _ => "no answer",
    };
    let detail = cause.map_or_else(|| error.to_string(), ToString::to_string);
    CliError::new(
        Exit::Unreachable,
        format!(
            "can't reach the issuer at {shown}: {advice} ({detail}). Is certwell-issuer running? Are you \
             {WHO}? Another socket is named by --socket or CERTWELL_SOCKET."
        ),
    )
}

fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}
