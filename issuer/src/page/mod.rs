//! The page for browsers: a view of what the Admin service answers, and the few controls that belong there.
//!
//! ```text
//! listen     the listener and its limits                     unread    cuts off whoever doesn't read
//! door       host, login and headers of every request        origin    where a request comes from
//! token      the page's token, and its file                  session   signed cookies and forms
//! routes     which path is answered by what                  ask       the Admin service, without a socket
//! login      in and out
//! refusal    how a refusal reads                             live      tells browsers that something changed
//! view       from messages to what is shown, pure            render    from that to HTML
//! assets     the stylesheet, the script, the icon
//! ```
//! Nothing here keeps a state but who is looking. Everything that is shown works without a script.

mod ask;
mod door;
mod listen;
mod live;
mod login;
mod origin;
mod refusal;
pub mod render;
mod routes;
mod session;
mod token;
mod unread;
pub mod view;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use aws_lc_rs::hmac;
use tokio::sync::Semaphore;

pub use self::{
    listen::{BindError, bind, serve},
    live::Pulse,
    routes::router,
    token::{FILE, PageToken, TokenError},
};
use crate::{admin::service::AdminService, config};

/// How the page is reached, and by which token.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where it is served, port 0 resolved.
    pub address: SocketAddr,
    /// What changes, and where it is set to also what looks, must know.
    pub token: PageToken,
    /// Where the token is read from.
    pub token_file: PathBuf,
    /// Whether looking needs the token too.
    pub reading_needs_token: bool,
    /// The proxy before it.
    pub origin: Option<String>,
}

impl Access {
    /// Reads the token, or makes one.
    ///
    /// # Errors
    /// When the token can't be used.
    pub fn open(
        page: &config::Page,
        state: &std::path::Path,
        address: SocketAddr,
    ) -> Result<Self, TokenError> {
        let (token, token_file) = match &page.token_file {
            Some(path) => (PageToken::load(path)?, path.clone()),
            None => (PageToken::own(state)?, state.join(FILE)),
        };
        Ok(Self {
            address,
            token,
            token_file,
            reading_needs_token: page.token_file.is_some(),
            origin: page.origin.clone(),
        })
    }

    /// As it is typed into a browser.
    pub fn url(&self) -> String {
        match &self.origin {
            Some(origin) => format!("{origin}/"),
            None => format!("http://{}/", self.address),
        }
    }
}

/// What every handler has at hand.
pub struct Page {
    admin: Arc<AdminService>,
    token: PageToken,
    key: hmac::Key,
    reading_needs_token: bool,
    origin: Option<String>,
    /// One wrong token after the other.
    guesses: Arc<Semaphore>,
    pulse: Pulse,
}

impl Page {
    /// A page over what this service answers.
    pub fn new(admin: Arc<AdminService>, access: Access, pulse: Pulse) -> Self {
        Self {
            admin,
            key: access.token.session_key(),
            token: access.token,
            reading_needs_token: access.reading_needs_token,
            origin: access.origin,
            guesses: Arc::new(Semaphore::new(1)),
            pulse,
        }
    }
}
