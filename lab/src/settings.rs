//! What a world is made of.

use std::time::Duration;

use crate::nginx::Site;

/// The four hosts of the demo and of most tests, with their labels.
pub const FLEET: [(&str, &[&str]); 4] = [
    ("cdn-frankfurt-1", &["cdn"]),
    ("cdn-fremont-1", &["cdn"]),
    ("sally", &[]),
    ("esme", &[]),
];

/// The name that all of them serve.
pub const MEDIA: &str = "media.hachyderm.io";

/// Declares [`MEDIA`] on all hosts of [`FLEET`].
pub const MEDIA_DECLARED: &str =
    "[certificate.\"media.hachyderm.io\"]\nhosts = [\"label:cdn\", \"sally\", \"esme\"]\n";

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names and labels.
    pub hosts: Vec<(String, Vec<String>)>,
    /// What each host's nginx serves.
    pub sites: Vec<Site>,
    /// How long certificates live; Pebble's five years by default.
    pub validity: Option<Duration>,
    /// Whether a gate stands between the issuer and Pebble.
    pub gated: bool,
    /// The `[renewal]` table: short waits, so that a test of a refusal doesn't sit out those of real life.
    pub renewal: String,
    /// `CERTWELL_LOG` of issuer and agents.
    pub log_filter: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: FLEET
                .iter()
                .map(|(name, labels)| {
                    (
                        (*name).to_owned(),
                        labels.iter().map(|l| (*l).to_owned()).collect(),
                    )
                })
                .collect(),
            sites: vec![Site::new(MEDIA, &[MEDIA])],
            validity: None,
            gated: false,
            renewal: "preflight-wait = \"15s\"\nretry-first = \"1s\"\nretry-max = \"5s\"\n"
                .to_owned(),
            log_filter: "info,certwell=debug,certwell_issuer=debug,certwell_agent=debug".to_owned(),
        }
    }
}

impl Settings {
    /// Only these hosts of [`FLEET`].
    #[must_use]
    pub fn only(mut self, names: &[&str]) -> Self {
        self.hosts
            .retain(|(name, _)| names.contains(&name.as_str()));
        self
    }

    /// The declaration of the hosts.
    pub(crate) fn declared_hosts(&self) -> String {
        let table = |(name, labels): &(String, Vec<String>)| {
            format!("[host.{name}]\nlabels = {labels:?}\n")
        };
        self.hosts.iter().map(table).collect()
    }
}
