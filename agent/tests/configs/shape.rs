//! A configuration that runs, and the tables that are made of it.

use std::{collections::BTreeMap, fs, net::IpAddr};

use certwell_agent::nginx::{
    KeyAlgorithm, Managed, Parsed, ProbeTarget, Probed, Way, probe::probe_all, targets::probes,
};
use certwell_proto::Fingerprint;

use crate::host::Host;

/// A host with its certificates.
pub(crate) struct Shape {
    pub(crate) host: Host,
    /// Which leaf is of which certificate.
    leaves: BTreeMap<Fingerprint, String>,
    managed: Vec<Managed>,
}

impl Shape {
    /// With a certificate of ours for each name, in the live directory; a name with a star is called by its base.
    pub(crate) fn new(certificates: &[&str]) -> Self {
        let mut shape = Self {
            host: Host::new(&[]),
            leaves: BTreeMap::new(),
            managed: Vec::new(),
        };
        for name in certificates {
            shape.certificate(name, &rcgen::PKCS_ECDSA_P256_SHA256, KeyAlgorithm::Ecdsa);
        }
        shape
    }

    pub(crate) fn certificate(
        &mut self,
        name: &str,
        algorithm: &'static rcgen::SignatureAlgorithm,
        key: KeyAlgorithm,
    ) {
        let leaf = self.host.certificate(name, algorithm);
        self.leaves.insert(leaf, name.to_owned());
        self.managed.push(Managed {
            name: name.parse().unwrap(),
            identifiers: vec![name.parse().unwrap()],
            keys: vec![key],
        });
    }

    /// Writes a file of the configuration, its placeholders filled in, and the directories that lead to it.
    pub(crate) fn file(&self, path: &str, text: &str) -> &Self {
        let whole = self.host.path(path);
        fs::create_dir_all(whole.parent().unwrap()).unwrap();
        fs::write(whole, self.filled(text)).unwrap();
        self
    }

    /// `ADDRESS`, `LIVE` and `ROOT` as they are on this host.
    pub(crate) fn filled(&self, text: &str) -> String {
        let path = |name: &str| self.host.path(name).display().to_string();
        text.replace("ADDRESS", &self.host.address.to_string())
            .replace("LIVE", &path("live"))
            .replace("ROOT", path("").trim_end_matches('/'))
    }

    /// The handshakes that it takes, by what nginx says that it is configured to serve.
    pub(crate) fn targets(&self, parsed: &Parsed) -> Vec<ProbeTarget> {
        let local: [IpAddr; 2] = [self.host.address.into(), "::1".parse().unwrap()];
        let live = self.host.path("live");
        probes(&parsed.servers, &local, &live, &self.managed)
    }

    /// A line for each listener and name: the certificate that it uses, where, by which name, and what was seen.
    pub(crate) async fn listeners(&self) -> Vec<String> {
        let parsed = self.host.parsed();
        assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
        self.probed(&parsed).await
    }

    pub(crate) async fn probed(&self, parsed: &Parsed) -> Vec<String> {
        let seen = probe_all(self.targets(parsed)).await;
        seen.iter()
            .map(|(target, probed)| {
                let key = target.key.map_or(String::new(), |key| format!(" {key:?}"));
                let name = target.server_name.as_deref().unwrap_or("-");
                let proxy = if target.proxy_protocol {
                    " proxied"
                } else {
                    ""
                };
                let shown = self.seen(probed);
                let line = format!(
                    "{} | {} {name}{key}{proxy} | {shown}",
                    target.certificate, target.endpoint
                );
                assert!(target.way != Way::Handshake || !matches!(probed, Probed::Unprobed(_)));
                self.plain(&line)
            })
            .collect()
    }

    pub(crate) fn seen(&self, probed: &Probed) -> String {
        match probed {
            Probed::Leaf { fingerprint, .. } => self
                .leaves
                .get(fingerprint)
                .map_or("a stranger".to_owned(), |name| format!("serves {name}")),
            Probed::Rejects => "rejects".into(),
            Probed::Elsewhere => "elsewhere".into(),
            Probed::Down(why) => format!("down: {why}"),
            Probed::Unprobed(why) => format!("unprobed: {why}"),
        }
    }

    /// Of each server block that speaks plain HTTP: where it stands, its include, and what comes before that.
    pub(crate) fn challenges(&self) -> Vec<String> {
        self.host
            .parsed()
            .servers
            .iter()
            .filter(|server| server.listens.iter().any(|listen| !listen.tls))
            .map(|server| {
                let include = server.challenge_include.as_ref();
                let include = include.map_or("none".to_owned(), ToString::to_string);
                let late = server.redirect_before_include.as_ref();
                let late = late.map_or(String::new(), |place| format!(" after {place}"));
                self.plain(&format!("{} | {include}{late}", server.at))
            })
            .collect()
    }

    /// The same text on every host.
    fn plain(&self, text: &str) -> String {
        let root = format!("{}/", self.host.path("").display()).replace("//", "/");
        text.replace(&root, "")
            .replace(&self.host.address.to_string(), "ADDRESS")
    }
}

/// Fixtures by path: what is in a directory of them, as `(name, text)`.
#[macro_export]
macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("fixtures/", $path))
    };
}
