//! Whom something is told, and what came back.

use std::{fmt, path::PathBuf, time::Duration};

use certwell_proto::Secret;

use crate::{
    Email, Endpoint, Exec, Message, State, alertmanager, clock, discord,
    http::Asking,
    json,
    limit::{cut, line},
    sign, slack,
};

/// For one message, unless said otherwise.
pub const LIMIT: Duration = Duration::from_secs(10);

/// One way to tell somebody. It may be shown: URLs, passwords and keys in it are redacted.
#[derive(Debug, Clone, PartialEq)]
pub struct Notifier {
    /// As configured; in every sentence about it.
    pub name: String,
    /// For one message, all of it: [`LIMIT`] unless said otherwise.
    pub limit: Duration,
    /// Which one.
    pub service: Service,
    /// What was read for it when the configuration was loaded: it is to be loaded again when one of them changes.
    pub files: Vec<PathBuf>,
}

/// The services, and what each needs to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Service {
    /// A Discord webhook.
    Discord(Endpoint),
    /// A Slack incoming webhook.
    Slack(Endpoint),
    /// Anything that takes JSON.
    Webhook {
        /// Where.
        endpoint: Endpoint,
        /// What the body is signed with.
        secret: Option<Secret>,
    },
    /// A mail server.
    Email(Email),
    /// An Alertmanager; the URL is its base, without `/api/v2`.
    Alertmanager(Endpoint),
    /// A program on this machine.
    Exec(Exec),
}

/// It was accepted: whoever answers has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What came back, one sentence that holds no secret.
    pub text: String,
    /// For whom it wasn't accepted, of several, and why; `None` when all have it.
    pub left_out: Option<String>,
}

impl Accepted {
    pub(crate) fn by_all(text: String) -> Self {
        Self {
            text,
            left_out: None,
        }
    }
}

/// It wasn't accepted, as far as is known; where only the answer was lost it arrives a second time later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// Who, why, and what came back: one sentence that holds no secret.
    pub text: String,
    /// Of HTTP or SMTP.
    pub status: Option<u16>,
    /// How long to wait before the next try, where the service says so.
    pub retry_after: Option<Duration>,
}

impl Refused {
    pub(crate) fn new(text: String) -> Self {
        Self {
            text,
            status: None,
            retry_after: None,
        }
    }
}

impl Service {
    /// Its `type` in the configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Discord(_) => "discord",
            Self::Slack(_) => "slack",
            Self::Webhook { .. } => "webhook",
            Self::Email(_) => "email",
            Self::Alertmanager(_) => "alertmanager",
            Self::Exec(_) => "exec",
        }
    }
}

impl fmt::Display for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.service.word())
    }
}

impl Notifier {
    /// How often a message must be sent again although nothing is new, since the service forgets it otherwise; `None`: it
    /// needn't.
    pub fn resend_every(&self) -> Option<Duration> {
        match self.service {
            Service::Alertmanager(_) => Some(alertmanager::RESEND),
            _ => None,
        }
    }

    /// Sends one message, once.
    ///
    /// # Errors
    /// When it wasn't accepted within the limit.
    pub async fn send(&self, message: &Message) -> Result<Accepted, Refused> {
        let now = clock::now();
        let sent = match &self.service {
            Service::Discord(endpoint) => {
                let target = endpoint.target.asking("wait=true");
                self.post(&target, endpoint, Vec::new(), discord::body(message))
                    .await
            }
            Service::Slack(endpoint) => {
                self.post(&endpoint.target, endpoint, Vec::new(), slack::body(message))
                    .await
            }
            Service::Webhook { endpoint, secret } => {
                self.webhook(endpoint, secret.as_ref(), json::body(message))
                    .await
            }
            Service::Email(email) => email.send(message, now, self.limit).await,
            Service::Alertmanager(endpoint) => {
                let target = endpoint.target.below(alertmanager::PATH);
                let body = alertmanager::body(message, now);
                self.post(&target, endpoint, Vec::new(), body).await
            }
            Service::Exec(exec) => exec.run(json::body(message), self.limit).await,
        };
        self.named(sent)
    }

    /// Sends a text that is no alert, such as an inventory: what is too long for the service is cut, which is said.
    ///
    /// # Errors
    /// When it wasn't accepted within the limit, or the service takes nothing but alerts.
    pub async fn send_text(&self, title: &str, text: &str) -> Result<Accepted, Refused> {
        let now = clock::now();
        let sent = match &self.service {
            Service::Discord(endpoint) => {
                let target = endpoint.target.asking("wait=true");
                let body = discord::text_body(title, text);
                self.post(&target, endpoint, Vec::new(), body).await
            }
            Service::Slack(endpoint) => {
                let body = slack::text_body(title, text);
                self.post(&endpoint.target, endpoint, Vec::new(), body)
                    .await
            }
            Service::Webhook { endpoint, secret } => {
                self.webhook(endpoint, secret.as_ref(), json::text_body(title, text))
                    .await
            }
            Service::Email(email) => email.send_text(title, text, now, self.limit).await,
            Service::Alertmanager(_) => Err(Refused::new(
                "an Alertmanager takes alerts alone; name another notifier".to_owned(),
            )),
            Service::Exec(exec) => exec.run(json::text_body(title, text), self.limit).await,
        };
        self.named(sent)
    }

    async fn post(
        &self,
        target: &crate::Target,
        endpoint: &Endpoint,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    ) -> Result<Accepted, Refused> {
        Asking {
            target,
            roots: &endpoint.roots,
            headers,
            body: Some(body),
            limit: self.limit,
        }
        .send()
        .await
    }

    async fn webhook(
        &self,
        endpoint: &Endpoint,
        secret: Option<&Secret>,
        body: Vec<u8>,
    ) -> Result<Accepted, Refused> {
        let mut headers = Vec::new();
        if let Some(secret) = secret {
            let (time, signature) = sign::sign(secret.expose(), clock::now(), &body);
            headers = vec![(sign::TIMESTAMP, time), (sign::SIGNATURE, signature)];
        }
        self.post(&endpoint.target, endpoint, headers, body).await
    }

    /// Whoever reads the sentence has several notifiers.
    fn named(&self, sent: Result<Accepted, Refused>) -> Result<Accepted, Refused> {
        sent.map_err(|refused| Refused {
            text: format!("notifier {}: {}", self.name, cut(&line(&refused.text), 600)),
            ..refused
        })
    }
}

impl Message {
    /// One that only shows whether messages arrive. `from` is who sends it.
    pub fn test(fleet: &str, from: &str, now: jiff::Timestamp) -> Self {
        Self {
            key: format!("certwell/{fleet}/test"),
            id: 0,
            fleet: fleet.to_owned(),
            state: State::Test,
            severity: crate::Severity::Warning,
            class: "test".to_owned(),
            subject: String::new(),
            title: format!("messages of {from} arrive here"),
            cause: "Somebody asked for this test; nothing is wrong.".to_owned(),
            next: String::new(),
            command: String::new(),
            section: String::new(),
            since: None,
            opened: now,
            number: 1,
            members: Vec::new(),
            acknowledge: None,
            link: None,
        }
    }
}
