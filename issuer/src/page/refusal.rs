//! Why a request isn't answered as wished, and how that reads.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tonic::{Code, Status};

use super::render;

/// Why not.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It came by a name that isn't ours, or by none.
    Host(&'static str),
    /// The token is needed first; where to go then.
    LoginNeeded(String),
    /// That isn't the token; where to go with the right one.
    WrongToken(String),
    /// Too many are guessing.
    TooMany,
    /// A form from elsewhere.
    OtherOrigin,
    /// A form of another session, or one that lay too long.
    StaleForm,
    /// It took too long.
    Slow,
    /// Anything else.
    Answer(StatusCode, String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, title, text) = match self {
            Self::LoginNeeded(path) => return login(render::login::page(&path, false)),
            Self::WrongToken(path) => return login(render::login::page(&path, true)),
            Self::Host(why) => (
                StatusCode::MISDIRECTED_REQUEST,
                "Not served under this name",
                why.to_owned(),
            ),
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many tries",
                "Others are trying tokens just now; try again in a few seconds.".to_owned(),
            ),
            Self::OtherOrigin => (
                StatusCode::FORBIDDEN,
                "Not sent by this page",
                "Controls work from the page itself alone; open it, and try again there.".to_owned(),
            ),
            Self::StaleForm => (
                StatusCode::FORBIDDEN,
                "This form is too old",
                "It was made before you logged in, or hours ago. Go back, reload the page, and try again."
                    .to_owned(),
            ),
            Self::Slow => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The issuer is busy",
                "No answer came in time; reload in a moment.".to_owned(),
            ),
            Self::Answer(status, text) => (
                status,
                status.canonical_reason().unwrap_or("Not answered"),
                text,
            ),
        };
        (
            status,
            render::layout::html(render::layout::plain(title, &text)),
        )
            .into_response()
    }
}

/// A browser shows the form; a script reads the header.
fn login(page: maud::Markup) -> Response {
    let mut answer = (StatusCode::UNAUTHORIZED, render::layout::html(page)).into_response();
    answer.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"certwell\""),
    );
    answer
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
            Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists => StatusCode::CONFLICT,
            Code::Unavailable | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::Answer(code, format!("{}.", status.message().trim_end_matches('.')))
    }
}
