//! What the files declare, each value checked by itself; names that point elsewhere are resolved later.

mod alerts;
mod authority;
mod certificate;
mod issuer;
mod notifier;
mod page;
mod probe;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use certwell_notice::Notifier;
use certwell_proto::{CertificateName, HostName};
use toml::de::DeTable;

pub use self::issuer::check_endpoint;
pub(super) use self::{alerts::DeclaredAlerts, certificate::DeclaredCertificate};
use self::{
    alerts::alerts,
    authority::{authority, authority_name},
    certificate::certificate,
    issuer::{issuer, renewal},
    notifier::{notifier, notifier_name},
    page::page,
    probe::{addresses, probe},
};
use super::{
    Authority, Host, Issuer, Page, Probe, Renewal,
    mistake::{At, Mistakes},
    section::{Section, parse},
};

/// Everything in all files.
#[derive(Debug, Default)]
pub(in crate::config) struct Declared {
    /// Whether there is an `[issuer]`, right or wrong.
    pub(in crate::config) has_issuer: bool,
    pub(in crate::config) issuer: Option<Issuer>,
    pub(in crate::config) renewal: Option<Renewal>,
    pub(in crate::config) probe: Option<At<Probe>>,
    pub(in crate::config) page: Option<Page>,
    pub(in crate::config) alerts: Option<At<DeclaredAlerts>>,
    /// Of every authority, right or wrong.
    pub(in crate::config) authority_names: BTreeSet<String>,
    pub(in crate::config) authorities: BTreeMap<String, At<Authority>>,
    pub(in crate::config) hosts: BTreeMap<HostName, At<Host>>,
    pub(in crate::config) certificates: BTreeMap<CertificateName, At<DeclaredCertificate>>,
    /// Of every notifier, right or wrong.
    pub(in crate::config) notifier_names: BTreeSet<String>,
    pub(in crate::config) notifiers: BTreeMap<String, At<Notifier>>,
}

/// `[issuer]` alone, whatever else its file declares.
pub(in crate::config) fn issuer_alone(
    table: &DeTable<'_>,
    directory: &Path,
    mistakes: &mut Mistakes<'_>,
) -> Option<Issuer> {
    let section = Section::new(table, 0, 0..0, "").table("issuer", mistakes)?;
    issuer(section, directory, mistakes)
}

impl Declared {
    /// Adds what one file declares. Only `main`, which is `issuer.toml`, may hold `[issuer]`, `[renewal]` and
    /// `[page]`; relative paths begin at `directory`.
    pub(in crate::config) fn read(
        &mut self,
        file: usize,
        table: &DeTable<'_>,
        (main, directory): (&Path, &Path),
        mistakes: &mut Mistakes<'_>,
    ) {
        let mut root = Section::new(table, file, 0..0, "");
        let is_main = mistakes.sources[file].path == main;
        self.has_issuer |= is_main && root.has("issuer");
        for key in ["issuer", "renewal", "page"] {
            let Some(section) = root.table(key, mistakes) else {
                continue;
            };
            if !is_main {
                let advice = format!("move it to {}", main.display());
                mistakes.advise(
                    section.place,
                    format!("[{key}] is not allowed in conf.d"),
                    advice,
                );
                continue;
            }
            match key {
                "issuer" => self.issuer = issuer(section, directory, mistakes),
                "renewal" => self.renewal = Some(renewal(section, mistakes)),
                _ => self.page = Some(page(section, directory, mistakes)),
            }
        }
        if let Some(section) = root.table("probe", mistakes) {
            let place = section.place;
            let value = probe(section, mistakes);
            match &self.probe {
                None => self.probe = Some(At { value, place }),
                Some(first) => {
                    let advice = format!(
                        "the first is at {}; put both into one",
                        mistakes.describe(first.place)
                    );
                    mistakes.advise(place, "two tables [probe]", advice);
                }
            }
        }
        if let Some(section) = root.table("alerts", mistakes) {
            let place = section.place;
            let value = alerts(section, mistakes);
            match &self.alerts {
                None => self.alerts = Some(At { value, place }),
                Some(first) => {
                    let advice = format!(
                        "the first is at {}; put both into one",
                        mistakes.describe(first.place)
                    );
                    mistakes.advise(place, "two tables [alerts]", advice);
                }
            }
        }
        for (name, section) in root.tables("authority", mistakes) {
            let place = name.place;
            self.authority_names.insert(name.value.clone());
            let name = authority_name(name, mistakes);
            let authority = authority(section, directory, mistakes);
            if let (Some(name), Some(value)) = (name, authority) {
                insert(
                    &mut self.authorities,
                    "authorities",
                    name,
                    At { value, place },
                    mistakes,
                );
            }
        }
        for (name, section) in root.tables("host", mistakes) {
            let (value, name) = (host(section, mistakes), parse::<HostName>(&name, mistakes));
            if let Some(At { value: name, place }) = name {
                insert(
                    &mut self.hosts,
                    "hosts",
                    name,
                    At { value, place },
                    mistakes,
                );
            }
        }
        for (name, section) in root.tables("certificate", mistakes) {
            let name = parse::<CertificateName>(&name, mistakes);
            let value = certificate(section, name.as_ref(), mistakes);
            if let Some(At { value: name, place }) = name {
                insert(
                    &mut self.certificates,
                    "certificates",
                    name,
                    At { value, place },
                    mistakes,
                );
            }
        }
        for (name, section) in root.tables("notifier", mistakes) {
            let place = name.place;
            self.notifier_names.insert(name.value.clone());
            let value = notifier(section, &name.value, directory, mistakes);
            let name = notifier_name(&name, mistakes);
            if let (Some(name), Some(value)) = (name, value) {
                insert(
                    &mut self.notifiers,
                    "notifiers",
                    name,
                    At { value, place },
                    mistakes,
                );
            }
        }
        root.finish(mistakes);
    }
}

fn insert<N: Ord + AsRef<str>, T>(
    into: &mut BTreeMap<N, At<T>>,
    what: &str,
    name: N,
    value: At<T>,
    mistakes: &mut Mistakes<'_>,
) {
    if let Some(first) = into.get(&name) {
        let advice = format!(
            "the first is at {}; rename or remove one",
            mistakes.describe(first.place)
        );
        mistakes.advise(
            value.place,
            format!("two {what} of one name, {:?}", name.as_ref()),
            advice,
        );
    } else {
        into.insert(name, value);
    }
}

fn is_plain_name(text: &str) -> bool {
    text.parse::<HostName>().is_ok()
}

fn host(mut section: Section<'_, '_>, mistakes: &mut Mistakes<'_>) -> Host {
    let labels = section
        .strings("labels", mistakes)
        .map(|at| at.value)
        .unwrap_or_default();
    let addresses = addresses(&mut section, "addresses", mistakes);
    let probe = section
        .boolean("probe", mistakes)
        .is_some_and(|at| at.value);
    section.finish(mistakes);
    for At { value, place } in &labels {
        if !is_plain_name(value) {
            let problem = format!("{value:?} is no label");
            mistakes.advise(
                *place,
                problem,
                "use up to 63 of a-z 0-9 -, beginning with a letter or digit",
            );
        }
    }
    Host {
        labels: labels.into_iter().map(|at| at.value).collect(),
        addresses,
        probe,
    }
}
