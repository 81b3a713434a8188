//! `[certificate.NAME]`.

use certwell_proto::{CertificateName, Identifier};

use super::probe::{PROBE_URL, probe_dns, probe_url};
use crate::config::{
    KeyType, ProbeUrl,
    mistake::{At, Mistakes, listed},
    section::{Section, parse},
};

/// A certificate with its references as written.
#[derive(Debug)]
pub(in crate::config) struct DeclaredCertificate {
    pub(in crate::config) identifiers: Vec<Identifier>,
    pub(in crate::config) hosts: Vec<At<String>>,
    pub(in crate::config) challenge_hosts: Option<Vec<At<String>>>,
    pub(in crate::config) authorities: Option<Vec<At<String>>>,
    pub(in crate::config) key_type: KeyType,
    pub(in crate::config) probe_url: Option<ProbeUrl>,
    pub(in crate::config) probe_dns: bool,
}

pub(super) fn certificate(
    mut section: Section<'_, '_>,
    name: Option<&At<CertificateName>>,
    mistakes: &mut Mistakes<'_>,
) -> DeclaredCertificate {
    let identifiers = match section.strings("identifiers", mistakes) {
        Some(list) => identifiers(list, mistakes),
        None if section.has("identifiers") => Vec::new(),
        None => default_identifiers(name, mistakes),
    };
    let mut references = |key, mistakes: &mut Mistakes<'_>| {
        let list = section.strings(key, mistakes)?;
        if list.value.is_empty() {
            mistakes.add(list.place, format!("{key} is empty"));
        }
        Some(list.value)
    };
    let hosts = references("hosts", mistakes);
    let challenge_hosts = references("challenge-hosts", mistakes);
    let authorities = references("authorities", mistakes);
    if let Some(At { value, place }) = section.string("challenge", mistakes)
        && value != "http-01"
    {
        let problem = format!("challenge {value:?} is not one that this version does");
        mistakes.advise(place, problem, "write challenge = \"http-01\"");
    }
    let key_type = section
        .string("key-type", mistakes)
        .and_then(|text| key_type(text, mistakes));
    let probe_url = section
        .inline("probe-url", PROBE_URL, mistakes)
        .and_then(|inline| probe_url(inline, &identifiers, mistakes));
    let probe_dns = section
        .boolean("probe-dns", mistakes)
        .is_none_or(|written| probe_dns(&written, &identifiers, mistakes));
    if hosts.is_none() && !section.has("hosts") {
        section.missing(
            "hosts",
            "[\"HOST\", \"label:LABEL\"], the hosts that need it",
            mistakes,
        );
    }
    section.finish(mistakes);
    DeclaredCertificate {
        identifiers,
        hosts: hosts.unwrap_or_default(),
        challenge_hosts,
        authorities,
        key_type: key_type.unwrap_or_default(),
        probe_url,
        probe_dns,
    }
}

fn key_type(text: At<String>, mistakes: &mut Mistakes<'_>) -> Option<KeyType> {
    match text.value.as_str() {
        "ecdsa-p256" => return Some(KeyType::EcdsaP256),
        "ecdsa-p384" => return Some(KeyType::EcdsaP384),
        "rsa-2048" => return Some(KeyType::Rsa2048),
        other => {
            let advice = format!(
                "known: {}",
                listed(["ecdsa-p256", "ecdsa-p384", "rsa-2048"])
            );
            mistakes.advise(text.place, format!("unknown key-type {other:?}"), advice);
        }
    }
    None
}

fn identifiers(list: At<Vec<At<String>>>, mistakes: &mut Mistakes<'_>) -> Vec<Identifier> {
    let count = list.value.len();
    let most = certwell_proto::limits::IDENTIFIERS_PER_CERTIFICATE;
    if count == 0 {
        mistakes.advise(
            list.place,
            "identifiers is empty",
            "leave it out to cover the certificate's own name",
        );
    } else if count > most {
        let problem = format!("{count} identifiers, at most {most} go into one certificate");
        mistakes.advise(list.place, problem, "split it into several certificates");
    }
    let mut found: Vec<At<Identifier>> = Vec::new();
    for text in &list.value {
        let Some(identifier) = parse::<Identifier>(text, mistakes) else {
            continue;
        };
        if identifier.value.is_wildcard() {
            wildcard(&identifier, mistakes);
        }
        match found
            .iter()
            .find(|earlier| earlier.value == identifier.value)
        {
            Some(_) => mistakes.advise(
                text.place,
                format!("{} is listed twice", identifier.value),
                "remove one",
            ),
            None => found.push(identifier),
        }
    }
    found.into_iter().map(|at| at.value).collect()
}

fn wildcard(identifier: &At<Identifier>, mistakes: &mut Mistakes<'_>) {
    let problem = format!(
        "{}: wildcards need dns-01, which this version doesn't do",
        identifier.value
    );
    mistakes.advise(identifier.place, problem, "list each name by itself");
}

/// The certificate's own name, which has to be one that a CA can certify.
fn default_identifiers(
    name: Option<&At<CertificateName>>,
    mistakes: &mut Mistakes<'_>,
) -> Vec<Identifier> {
    let Some(At { value: name, place }) = name else {
        return Vec::new();
    };
    match name.as_str().parse::<Identifier>() {
        Ok(identifier) => vec![identifier],
        Err(error) => {
            let advice =
                "without identifiers the name itself is what it covers: add identifiers = [\"…\"]";
            mistakes.advise(*place, error.to_string(), advice);
            Vec::new()
        }
    }
}
