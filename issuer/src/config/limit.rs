//! Limits over the whole configuration: what one host can be told, and whose challenges it can answer.

use std::collections::{BTreeMap, BTreeSet};

use certwell_proto::{CertificateName, HostName, Identifier, limits};

use super::{
    Certificate, Host,
    mistake::{At, Mistakes, Place},
};

/// What a host's desired state says of one certificate, beside its names: fingerprint, numbers, framing.
const BYTES_PER_CERTIFICATE: usize = 100;
/// The same for one identifier.
const BYTES_PER_IDENTIFIER: usize = 40;

/// At most so many certificates on one host, and no more of them than fit into one message.
pub(super) fn check_load(
    certificates: &BTreeMap<CertificateName, Certificate>,
    hosts: &BTreeMap<HostName, At<Host>>,
    mistakes: &mut Mistakes<'_>,
) {
    let mut loads: BTreeMap<&HostName, (usize, usize)> = BTreeMap::new();
    for (name, certificate) in certificates {
        for host in &certificate.hosts {
            loads.entry(host).or_default().0 += 1;
        }
        let concerned: BTreeSet<&HostName> = certificate
            .hosts
            .iter()
            .chain(&certificate.challenge_hosts)
            .collect();
        let bytes = bytes_of(name, &certificate.identifiers);
        for host in concerned {
            loads.entry(host).or_default().1 += bytes;
        }
    }
    for (host, (count, bytes)) in loads {
        let Some(At { place, .. }) = hosts.get(host) else {
            continue;
        };
        if count > limits::CERTIFICATES_PER_HOST {
            let most = limits::CERTIFICATES_PER_HOST;
            let problem = format!(
                "{count} certificates are assigned to {host}, at most {most} go to one host"
            );
            let advice = "assign some to other hosts, or gather names into fewer certificates";
            mistakes.advise(*place, problem, advice);
        } else if bytes > limits::WATCH_MESSAGE {
            let most = limits::WATCH_MESSAGE;
            let problem = format!(
                "the certificates of {host} have too many names: to tell it of them would take about {bytes} bytes, \
                 a message holds {most}"
            );
            let advice = "assign some certificates to other hosts, or drop identifiers that it doesn't serve";
            mistakes.advise(*place, problem, advice);
        }
    }
}

/// An estimate, on the safe side: the names are said once for the certificate and once for its challenges.
fn bytes_of(name: &CertificateName, identifiers: &[Identifier]) -> usize {
    let names: usize = identifiers.iter().map(|id| id.to_string().len()).sum();
    let framing = BYTES_PER_CERTIFICATE + BYTES_PER_IDENTIFIER * identifiers.len();
    2 * (name.as_str().len() + names + framing)
}

/// A request for a token doesn't tell for whom it is, so nginx can answer a name for one account only: certificates
/// that share a name and a challenge host must go to the same account.
pub(super) fn check_accounts(
    certificates: &BTreeMap<CertificateName, Certificate>,
    places: &BTreeMap<CertificateName, Place>,
    mistakes: &mut Mistakes<'_>,
) {
    let mut by_identifier: BTreeMap<&Identifier, Vec<&CertificateName>> = BTreeMap::new();
    for (name, certificate) in certificates {
        let answered: BTreeSet<&Identifier> = certificate
            .identifiers
            .iter()
            .filter(|id| !id.is_wildcard())
            .collect();
        for identifier in answered {
            by_identifier.entry(identifier).or_default().push(name);
        }
    }
    let mut told = BTreeSet::new();
    for (identifier, names) in by_identifier {
        for (index, second) in names.iter().enumerate() {
            for first in &names[..index] {
                let (one, other) = (&certificates[*first], &certificates[*second]);
                let shared = one
                    .challenge_hosts
                    .iter()
                    .find(|host| other.challenge_hosts.contains(host));
                let Some(host) = shared.filter(|_| one.authorities != other.authorities) else {
                    continue;
                };
                if let Some(place) = places.get(*second)
                    && told.insert(*second)
                {
                    let problem = format!(
                        "{host} can't answer challenges for {identifier} for {first} and for {second}: they go to \
                         different authorities, and nginx can answer a name for one account only"
                    );
                    let advice = "give both the same authorities in the same order, or different challenge-hosts";
                    mistakes.advise(*place, problem, advice);
                }
            }
        }
    }
}
