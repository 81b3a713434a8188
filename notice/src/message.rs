//! What is told. A message suffices alone: whoever gets it needs no other one, and no screen of certwell's.

use jiff::Timestamp;

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Something is wrong, still or newly.
    Firing,
    /// It is over.
    Resolved,
    /// Whether messages arrive: nothing is wrong.
    Test,
    /// To be acknowledged as if something were wrong: nothing is.
    Drill,
}

impl State {
    /// The word for it, on the wire too.
    pub fn word(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Test => "test",
            Self::Drill => "drill",
        }
    }
}

/// How much it presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// To be looked at in working hours.
    Warning,
    /// Somebody must come now.
    Page,
}

impl Severity {
    /// The word for it, on the wire too.
    pub fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Page => "page",
        }
    }
}

/// One cause, told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same for every message about this cause, from whomever: `certwell/FLEET/CLASS/SUBJECT`. Receivers merge by it.
    pub key: String,
    /// The alert's number, never given twice; 0: it has none.
    pub id: u64,
    /// The fleet's name.
    pub fleet: String,
    /// Why it is sent.
    pub state: State,
    /// How much it presses.
    pub severity: Severity,
    /// What kind of cause, a slug.
    pub class: String,
    /// What it is about within its class; empty where there is only one.
    pub subject: String,
    /// One line: what, where.
    pub title: String,
    /// Why, in sentences.
    pub cause: String,
    /// What certwell does next and when, one sentence; empty: nothing.
    pub next: String,
    /// The one command to run; empty: none.
    pub command: String,
    /// The section of `docs/operations.md` about it; empty: none.
    pub section: String,
    /// Since when the cause has been there, as far as is known.
    pub since: Option<Timestamp>,
    /// When it was raised.
    pub opened: Timestamp,
    /// How many times it was told, this one included: from 1.
    pub number: u32,
    /// Whom it is on; in the order that matters, since what is too much is cut from the end.
    pub members: Vec<Member>,
    /// The command that acknowledges it, where that can be done.
    pub acknowledge: Option<String>,
    /// A page that shows it, a URL.
    pub link: Option<String>,
}

/// One host, one certificate, or both, that a message is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The host; `None`: it isn't about hosts.
    pub host: Option<String>,
    /// An address and a port in the place of a host: no known one's.
    pub address: Option<String>,
    /// The certificate, or `None`.
    pub certificate: Option<String>,
    /// What is in the way there, one sentence.
    pub text: String,
    /// What is served there now; empty when that isn't known.
    pub served: String,
    /// When that ends.
    pub served_not_after: Option<Timestamp>,
}
