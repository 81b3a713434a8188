//! Pure: a certificate in a server block, and the names that lead to it.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use certwell_proto::Identifier;

use super::{KeyAlgorithm, Managed, Way};
use crate::nginx::{
    servers::{Listen, Server, ServerName},
    sites::Answers,
    variables::{Expansion, Lead},
};

/// A label that nobody has, to stand for any.
const MADE_UP: &str = "certwell-probe";

/// What is to be proven: a certificate (or one of its twins) in a server block.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) index: usize,
    pub(super) server: &'a Server,
    pub(super) managed: &'a Managed,
    pub(super) key: Option<KeyAlgorithm>,
    /// The names that lead to it; `None`: all of the server block.
    pub(super) lead: Option<&'a Lead>,
    /// What workers read.
    pub(super) read: Option<Read<'a>>,
}

/// A path that workers read at a handshake.
#[derive(Clone, Copy)]
pub(super) enum Read<'a> {
    File(&'a Path),
    Expansion(&'a Expansion),
}

impl<'a> Subject<'a> {
    pub(super) fn new(index: usize, server: &'a Server, managed: &'a Managed) -> Self {
        Self {
            index,
            server,
            managed,
            key: None,
            lead: None,
            read: None,
        }
    }

    /// Listeners that speak TLS over TCP.
    pub(super) fn listens(&self) -> impl Iterator<Item = &'a Listen> + use<'a> {
        self.server
            .listens
            .iter()
            .filter(|listen| listen.tls && !listen.quic)
    }

    /// The names of the server block that lead to it, each with what it takes to probe it.
    pub(super) fn names(&self) -> Vec<(Option<String>, Way)> {
        match self.lead {
            Some(Lead::Names(names)) => names
                .iter()
                .map(|name| (Some(name.clone()), Way::Handshake))
                .collect(),
            _ => self
                .server
                .names
                .iter()
                .flat_map(name_ways)
                .filter(|(sent, _)| sent.as_deref().is_none_or(|sent| !self.is_led_away(sent)))
                .collect(),
        }
    }

    /// Whether this name has another certificate.
    fn is_led_away(&self, name: &str) -> bool {
        matches!(self.lead, Some(Lead::AllBut(others)) if others.iter().any(|other| other == name))
    }

    /// What workers read for a handshake with this name.
    pub(super) fn read_for(&self, name: Option<&str>) -> Option<PathBuf> {
        self.read.map(|read| match read {
            Read::File(path) => path.to_owned(),
            Read::Expansion(expansion) => expansion.read_for(name).into(),
        })
    }

    /// The names that may be asked for to get the certificate: its own, and those that it covers.
    pub(super) fn candidates(&self) -> impl Iterator<Item = String> + use<'a> {
        let own = Some(self.managed.name.to_string());
        own.filter(|name| can_be_sent(name))
            .into_iter()
            .chain(self.covered())
    }

    /// The names that may be asked for to get this file: the server block's, those that the certificate covers, and
    /// those that its path is made of.
    pub(super) fn names_to(&self, file: &Path) -> impl Iterator<Item = String> {
        let own = self.server.names.iter().filter_map(|name| match name {
            ServerName::Exact(name) => Some(name.clone()),
            _ => None,
        });
        let called = [file.file_stem(), file.parent().and_then(Path::file_name)];
        let called = called
            .into_iter()
            .flatten()
            .filter_map(|name| name.to_str());
        own.chain(self.covered())
            .chain(called.map(str::to_owned))
            .filter(|name| can_be_sent(name))
    }

    /// A name that the certificate covers and the default server answers; none: a handshake without SNI.
    pub(super) fn nameless(&self, answers: &Answers<'_>) -> Option<String> {
        self.covered()
            .find(|name| answers.to(name) == Some(self.index) && !self.is_led_away(name))
    }

    fn covered(&self) -> impl Iterator<Item = String> + use<'a> {
        let identifiers = self.managed.identifiers.iter();
        identifiers.filter_map(|identifier| match identifier {
            Identifier::Dns(name) => Some(made_up(name)),
            Identifier::Ip(_) => None,
        })
    }
}

/// The name, or for a wildcard one that it covers and nobody has.
pub(crate) fn made_up(name: &str) -> String {
    name.strip_prefix("*.")
        .map_or_else(|| name.to_owned(), |base| format!("{MADE_UP}.{base}"))
}

/// What to send for a configured name. Nothing for one that can't be sent as SNI (`_`, an address).
fn name_ways(name: &ServerName) -> Vec<(Option<String>, Way)> {
    let handshake = |name: String| (Some(name), Way::Handshake);
    match name {
        ServerName::Exact(name) if can_be_sent(name) => vec![handshake(name.clone())],
        ServerName::Exact(_) => Vec::new(),
        ServerName::Leading(base) => vec![handshake(format!("{MADE_UP}.{base}"))],
        ServerName::Dotted(base) => vec![
            handshake(base.clone()),
            handshake(format!("{MADE_UP}.{base}")),
        ],
        ServerName::Trailing(base) => vec![handshake(format!("{base}.{MADE_UP}"))],
        ServerName::Regex(regex) => {
            vec![(
                Some(format!("~{regex}")),
                Way::Unprobed("its name is a regular expression".into()),
            )]
        }
    }
}

/// Whether a name can be sent in SNI (RFC 6066 3: a DNS host name, no address), and nginx takes it for this one: it
/// cuts a dot at the end off what is asked for, never off what is configured.
fn can_be_sent(name: &str) -> bool {
    !name.starts_with('_')
        && !name.ends_with('.')
        && name.parse::<IpAddr>().is_err()
        && rustls_pki_types::DnsName::try_from(name).is_ok()
}
