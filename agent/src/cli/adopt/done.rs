//! What an adoption, or its end, came to: for people, and for programs.

use certwell_proto::Exit;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    certbot::work::Work,
    cli::{Failure, say_json, tell},
};

const VERSION: u32 = 1;

/// What `--json` prints, wherever something was done, or had been done before.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    version: u32,
    lineage: String,
    certificate: String,
    /// Whether certwell's certificate lies there now.
    adopted: bool,
    /// Whether this run did it.
    changed: bool,
    live: String,
    /// Where that leads; null where it is certbot's own directory.
    leads_to: Option<String>,
    pub(super) generation: Option<u64>,
    renewal_configuration: String,
    /// Of a run that changed nothing, and of one that isn't served yet, null.
    pub(super) served: Option<Served>,
    /// What certbot ran after a renewal, and nobody runs any more.
    pub(super) hooks: Vec<String>,
    /// When certbot's certificate, which was given back, expired.
    pub(super) expired: Option<Timestamp>,
    problem: Option<String>,
}

/// What nginx does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "nginx", rename_all = "kebab-case")]
pub(super) enum Served {
    /// It takes it, and isn't running.
    #[serde(rename = "not-running")]
    Stopped,
    /// Handshakes brought it.
    Reloaded {
        /// Listeners and names that served it.
        proven: usize,
        /// Those that can't be asked.
        exempt: usize,
        handshakes: usize,
    },
}

impl Done {
    /// Of a lineage that is certbot's.
    pub(super) fn new(work: &Work<'_>, lineage: &str, certificate: String) -> Self {
        Self {
            version: VERSION,
            lineage: lineage.to_owned(),
            certificate,
            adopted: false,
            changed: true,
            live: work.places.live().display().to_string(),
            leads_to: None,
            generation: None,
            renewal_configuration: work.places.conf().display().to_string(),
            served: None,
            hooks: Vec::new(),
            expired: None,
            problem: None,
        }
    }

    /// Certwell's certificate takes its place.
    pub(super) fn leads_to(&mut self, work: &Work<'_>) {
        self.adopted = true;
        self.leads_to = Some(work.target().display().to_string());
        self.renewal_configuration = work.places.conf_aside().display().to_string();
    }

    /// It was so before.
    pub(super) fn unchanged(mut self) -> Self {
        self.changed = false;
        self
    }

    /// It is so on disk, and not served yet.
    pub(super) fn unserved(mut self, json: bool, why: String) -> Failure {
        self.problem = Some(why.clone());
        let failure = Failure::new(Exit::NotConverged, why);
        match json.then(|| say_json(&self)) {
            Some(Err(unsaid)) => failure.and(Some(unsaid)),
            _ => failure,
        }
    }

    /// Says it.
    pub(super) fn say(self, json: bool) -> Result<Exit, Failure> {
        if json {
            say_json(&self)?;
        } else {
            self.print();
        }
        Ok(Exit::Done)
    }

    fn print(&self) {
        let Self {
            lineage,
            live,
            renewal_configuration: conf,
            ..
        } = self;
        let target = self.leads_to.as_deref().unwrap_or_default();
        if !self.changed {
            return tell(format_args!(
                "{lineage} is adopted already: {live} leads to {target}"
            ));
        }
        match self.generation {
            Some(generation) => tell(format_args!(
                "{lineage} is adopted: {live} leads to {target}, generation {generation}"
            )),
            None => tell(format_args!(
                "{lineage} is certbot's again: {live} and {conf} are as they were"
            )),
        }
        if let Some(served) = self.served {
            tell(served.sentence());
        }
        if self.adopted {
            tell(format_args!(
                "certbot leaves it alone: its renewal configuration is {conf}"
            ));
        }
        if !self.hooks.is_empty() {
            tell(format_args!(
                "certbot ran {} after a renewal; certwell runs none of it and reloads nginx by itself: whatever else reads {live} has to be told of a new certificate by other means",
                self.hooks.join(", ")
            ));
        }
        if let Some(end) = self.expired {
            tell(format_args!(
                "its certificate expired at {end}: run `certbot renew --cert-name {lineage}` now, or adopt it again"
            ));
        }
    }
}

impl Served {
    fn sentence(self) -> String {
        let Self::Reloaded {
            proven,
            exempt,
            handshakes,
        } = self
        else {
            return "nginx takes it (nginx -t), and is not running: it is served when nginx is started".into();
        };
        if proven + exempt == 0 {
            return "nginx was tested and reloaded; no server block of it uses this lineage".into();
        }
        let s = if proven == 1 { "" } else { "s" };
        let rest = match exempt {
            0 => String::new(),
            exempt => format!("; {exempt} can't be asked"),
        };
        format!(
            "nginx was tested and reloaded; {proven} listener{s} and name{s} serve it by {handshakes} handshakes{rest}"
        )
    }
}
