//! From what the files declare to a configuration: names that point elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use certwell_proto::{CertificateName, HostName};

use super::{
    Alerts, Certificate, Config, Host,
    declared::{Declared, DeclaredAlerts, DeclaredCertificate},
    limit,
    mistake::{At, Mistakes, Place, listed, nearest},
};

/// `None` when `[issuer]` is absent or wrong, which is a mistake told elsewhere.
pub(super) fn resolve(declared: Declared, mistakes: &mut Mistakes<'_>) -> Option<Config> {
    let Declared {
        issuer,
        renewal,
        probe,
        page,
        alerts,
        authority_names,
        authorities,
        hosts,
        certificates,
        notifier_names,
        notifiers,
        ..
    } = declared;
    let known = Known::of(&hosts, authority_names);
    if known.authorities.is_empty()
        && let Some(first) = certificates.values().next()
    {
        let advice = "add [authority.letsencrypt] with directory = \"https://acme-v02.api.letsencrypt.org/directory\"";
        mistakes.advise(
            first.place,
            "a certificate is declared, but no authority to issue it",
            advice,
        );
    }
    let places: BTreeMap<CertificateName, Place> = certificates
        .iter()
        .map(|(name, At { place, .. })| (name.clone(), *place))
        .collect();
    let certificates: BTreeMap<_, _> = certificates
        .into_iter()
        .map(|(name, At { value, .. })| (name, known.certificate(value, mistakes)))
        .collect();
    limit::check_load(&certificates, &hosts, mistakes);
    limit::check_accounts(&certificates, &places, mistakes);
    let values = |(name, At { value, .. })| (name, value);
    Some(Config {
        issuer: issuer?,
        renewal: renewal.unwrap_or_default(),
        probe: probe.map(|at| at.value).unwrap_or_default(),
        page: page.unwrap_or_default(),
        alerts: resolve_alerts(alerts, &notifier_names, mistakes),
        authorities: authorities
            .into_iter()
            .map(|(name, At { value, .. })| (name, value))
            .collect(),
        hosts: hosts.into_iter().map(values).collect(),
        certificates,
        notifiers: notifiers
            .into_iter()
            .map(|(name, At { value, .. })| (name, value))
            .collect(),
    })
}

/// Whom to tell: the notifiers that are named, each once; without names all of them.
fn resolve_alerts(
    declared: Option<At<DeclaredAlerts>>,
    notifiers: &BTreeSet<String>,
    mistakes: &mut Mistakes<'_>,
) -> Alerts {
    let declared = declared.map(|at| at.value).unwrap_or_default();
    let Some(named) = declared.notify else {
        return Alerts {
            notify: notifiers.iter().cloned().collect(),
            ..declared.settings
        };
    };
    let mut notify: Vec<String> = Vec::with_capacity(named.len());
    for At { value: name, place } in named {
        if notify.contains(&name) {
            mistakes.advise(
                place,
                format!("the notifier {name:?} is named twice"),
                "name each once, in the order in which they are to be told",
            );
        } else if notifiers.contains(&name) {
            notify.push(name);
        } else {
            let known = notifiers.iter().map(String::as_str);
            let advice = match nearest(&name, known.clone()) {
                Some(near) => format!("did you mean {near:?}? declared: {}", listed(known)),
                None if notifiers.is_empty() => format!("add [notifier.{name}]"),
                None => format!("add [notifier.{name}]; declared: {}", listed(known)),
            };
            mistakes.advise(
                place,
                format!("no notifier is declared by the name {name:?}"),
                advice,
            );
        }
    }
    Alerts {
        notify,
        ..declared.settings
    }
}

/// What may be referred to.
struct Known {
    hosts: BTreeSet<HostName>,
    labels: BTreeMap<String, BTreeSet<HostName>>,
    authorities: BTreeSet<String>,
}

impl Known {
    fn of(hosts: &BTreeMap<HostName, At<Host>>, authorities: BTreeSet<String>) -> Self {
        let mut labels: BTreeMap<String, BTreeSet<HostName>> = BTreeMap::new();
        for (name, At { value: host, .. }) in hosts {
            for label in &host.labels {
                labels
                    .entry(label.clone())
                    .or_default()
                    .insert(name.clone());
            }
        }
        Self {
            hosts: hosts.keys().cloned().collect(),
            labels,
            authorities,
        }
    }

    fn certificate(
        &self,
        declared: DeclaredCertificate,
        mistakes: &mut Mistakes<'_>,
    ) -> Certificate {
        let hosts = self.select(&declared.hosts, mistakes);
        Certificate {
            identifiers: declared.identifiers,
            challenge_hosts: match &declared.challenge_hosts {
                Some(selectors) => self.select(selectors, mistakes),
                None => hosts.clone(),
            },
            hosts,
            authorities: match declared.authorities {
                Some(names) => self.authorities(names, mistakes),
                None => self.authorities.iter().cloned().collect(),
            },
            key_type: declared.key_type,
            probe_url: declared.probe_url,
            probe_dns: declared.probe_dns,
        }
    }

    /// Hosts by name and by `label:NAME`, each once, sorted.
    fn select(&self, selectors: &[At<String>], mistakes: &mut Mistakes<'_>) -> Vec<HostName> {
        let mut selected = BTreeSet::new();
        for At {
            value: selector,
            place,
        } in selectors
        {
            if let Some(label) = selector.strip_prefix("label:") {
                match self.labels.get(label) {
                    Some(hosts) => selected.extend(hosts.iter().cloned()),
                    None => {
                        let advice =
                            unknown(label, "label", self.labels.keys().map(String::as_str));
                        mistakes.advise(*place, format!("no host has the label {label:?}"), advice);
                    }
                }
                continue;
            }
            match selector
                .parse::<HostName>()
                .ok()
                .filter(|host| self.hosts.contains(host))
            {
                Some(host) => drop(selected.insert(host)),
                None => {
                    let mut advice =
                        unknown(selector, "host", self.hosts.iter().map(HostName::as_str));
                    if self.labels.contains_key(selector) {
                        advice = format!("did you mean \"label:{selector}\"?");
                    }
                    mistakes.advise(
                        *place,
                        format!("no host is declared by the name {selector:?}"),
                        advice,
                    );
                }
            }
        }
        selected.into_iter().collect()
    }

    /// In the order written, each once.
    fn authorities(&self, names: Vec<At<String>>, mistakes: &mut Mistakes<'_>) -> Vec<String> {
        let mut chosen = Vec::new();
        for At { value: name, place } in names {
            if !self.authorities.contains(&name) {
                let advice = unknown(
                    &name,
                    "authority",
                    self.authorities.iter().map(String::as_str),
                );
                mistakes.advise(
                    place,
                    format!("no authority is declared by the name {name:?}"),
                    advice,
                );
            } else if chosen.contains(&name) {
                mistakes.advise(place, format!("{name} is listed twice"), "remove one");
            } else {
                chosen.push(name);
            }
        }
        chosen
    }
}

/// What to do about a name that nothing has.
fn unknown<'n>(name: &str, what: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    let list = listed(known.clone());
    if list.is_empty() {
        let example = if what == "label" {
            "labels = [\"…\"] of a host".to_owned()
        } else {
            format!("[{what}.NAME]")
        };
        return format!("none is declared yet: add {example}");
    }
    match nearest(name, known) {
        Some(near) => format!("did you mean {near:?}? declared: {list}"),
        None => format!("declared: {list}"),
    }
}
