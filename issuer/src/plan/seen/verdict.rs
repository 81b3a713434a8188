//! One sighting, held against what is known now.

use std::collections::BTreeMap;

use certwell_proto::{CertificateName, Fingerprint, Generation, HostName, Identifier};

use super::{
    addresses::Owners,
    findings::Kind,
    sighting::{SeenLeaf, Shown, Sighting, Spot},
};
use crate::plan::facts::{CertificateFacts, FleetFacts};

/// Whose a leaf is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Of the certificate that was looked for.
    Its(Generation),
    /// Of another certificate that is managed here.
    Another(&'a CertificateName),
    /// Nobody's that is known.
    Strangers,
}

/// What every sighting is held against.
#[derive(Debug)]
pub struct Known<'a> {
    facts: &'a FleetFacts,
    leaves: BTreeMap<Fingerprint, (&'a CertificateName, Generation)>,
    owners: Owners<'a>,
}

impl<'a> Known<'a> {
    /// All that matters of the facts.
    pub fn of(facts: &'a FleetFacts) -> Self {
        let mut leaves = BTreeMap::new();
        for (name, known) in &facts.certificates {
            // What a backup had forgotten is known by what hosts have shown since.
            for told in known
                .observations
                .values()
                .filter(|_| facts.recovery.is_some())
            {
                if let Some(leaf) = told.facts.served.as_ref()
                    && let Some(generation) = leaf.generation.filter(|generation| *generation > 0)
                    && let Ok(fingerprint) =
                        Fingerprint::from_wire("fingerprint", &leaf.fingerprint)
                {
                    leaves.insert(fingerprint, (name, Generation(generation)));
                }
            }
            for (generation, leaf) in &known.older {
                leaves.insert(leaf.fingerprint, (name, *generation));
            }
            if let Some(issued) = &known.issued
                && let Some(leaf) = issued.fullchain.first()
            {
                leaves.insert(Fingerprint::of(leaf), (name, issued.generation));
            }
        }
        Self {
            facts,
            leaves,
            owners: Owners::of(facts),
        }
    }

    /// Whose this leaf is, where `certificate` was looked for.
    pub fn whose(&self, certificate: &CertificateName, leaf: &SeenLeaf) -> Whose<'a> {
        match self.leaves.get(&leaf.fingerprint) {
            Some((name, generation)) if *name == certificate => Whose::Its(*generation),
            Some((name, _)) => Whose::Another(name),
            None => Whose::Strangers,
        }
    }

    /// The host that a place belongs to: the one that was looked at, or one that has the address to which DNS led, of
    /// the certificate's before others.
    pub fn host(&self, spot: &Spot) -> Option<HostName> {
        if spot.host.is_some() {
            return spot.host.clone();
        }
        let ip = spot.address?.ip();
        let hosts = self
            .facts
            .config
            .certificates
            .get(&spot.certificate)
            .map(|c| &c.hosts);
        self.owners
            .hosts(ip)
            .find(|host| hosts.is_some_and(|hosts| hosts.contains(host)))
            .or_else(|| self.owners.hosts(ip).next())
            .cloned()
    }

    /// Whether a certificate belongs on the host that a place belongs to.
    pub fn is_assigned(&self, certificate: &CertificateName, spot: &Spot) -> bool {
        let declared = self.facts.config.certificates.get(certificate);
        declared
            .zip(self.host(spot))
            .is_some_and(|(declared, host)| declared.hosts.contains(&host))
    }

    /// Whether DNS led to where nobody that is to serve the certificate is. An address that isn't known, but has the
    /// key of what is desired, is taken for one of a host whose addresses no file tells.
    fn leads_elsewhere(&self, spot: &Spot, shown: &Shown) -> bool {
        let (None, Some(address)) = (&spot.host, spot.address) else {
            return false;
        };
        let Some(declared) = self.facts.config.certificates.get(&spot.certificate) else {
            return false;
        };
        let mut owners = self.owners.hosts(address.ip()).peekable();
        if owners.peek().is_some() {
            return !owners.any(|host| declared.hosts.contains(host));
        }
        let written = |host: &HostName| {
            let declared = self.facts.config.hosts.get(host);
            declared.is_some_and(|declared| !declared.addresses.is_empty())
        };
        let proven = match shown {
            Shown::Leaf(leaf) => matches!(
                self.whose(&spot.certificate, leaf),
                Whose::Its(generation) if Some(generation) == desired(self.certificate(spot))
            ),
            Shown::NoSuchKey => true,
            _ => false,
        };
        !proven || declared.hosts.iter().all(written)
    }

    fn certificate(&self, spot: &Spot) -> Option<&'a CertificateFacts> {
        self.facts.certificates.get(&spot.certificate)
    }

    /// Every fault that a sighting shows, whether or not anybody has had the time to mend it.
    pub fn faults(&self, spot: &Spot, sighting: &Sighting) -> Vec<Kind> {
        // Nothing is desired yet.
        let Some(desired) = desired(self.certificate(spot)) else {
            return Vec::new();
        };
        if self.leads_elsewhere(spot, &sighting.shown) {
            return vec![Kind::LeadsElsewhere];
        }
        let mut faults = Vec::new();
        match &sighting.shown {
            // That nobody has a made-up name is as it should be.
            Shown::Unresolved(_) | Shown::NoAnswer(_) if !is_written(self.facts, spot) => {}
            Shown::Unresolved(_) | Shown::NoAnswer(_) => faults.push(Kind::Unresolved),
            Shown::Down(_) | Shown::NoRoute(_) | Shown::Rejects => faults.push(Kind::Down),
            Shown::NoSuchKey => {}
            Shown::Leaf(leaf) => {
                match self.whose(&spot.certificate, leaf) {
                    Whose::Its(generation) => {
                        faults.extend((generation != desired).then_some(Kind::OtherGeneration));
                        faults.extend(leaf.chain_problem.as_ref().map(|_| Kind::Chain));
                    }
                    // Of one that is assigned there it is told with that one.
                    Whose::Another(other) if covers(&leaf.covers, &spot.name) => {
                        let problem = leaf.chain_problem.as_ref();
                        let problem = problem.filter(|_| !self.is_assigned(other, spot));
                        faults.extend(problem.map(|_| Kind::Chain));
                    }
                    Whose::Another(_) => faults.push(Kind::OtherVhost),
                    Whose::Strangers => faults.push(Kind::Stranger),
                }
                let url = sighting.url.as_ref();
                faults.extend(url.and_then(|url| url.problem.as_ref()).map(|_| Kind::Url));
            }
        }
        faults
    }
}

/// Whether the name stands in a file as it is looked at, and not in the place of a wildcard's.
pub(super) fn is_written(facts: &FleetFacts, spot: &Spot) -> bool {
    let declared = facts.config.certificates.get(&spot.certificate);
    declared.is_some_and(|declared| {
        let url = declared.probe_url.as_ref().map(|url| url.name.as_str());
        url == Some(&spot.name)
            || declared
                .identifiers
                .iter()
                .any(|id| id.to_string() == spot.name)
    })
}

/// The generation that is desired.
pub fn desired(certificate: Option<&CertificateFacts>) -> Option<Generation> {
    certificate?.issued.as_ref().map(|issued| issued.generation)
}

/// Whether a leaf with these identifiers is right for this name.
pub fn covers(identifiers: &[Identifier], name: &str) -> bool {
    identifiers.iter().any(|identifier| match identifier {
        Identifier::Ip(ip) => name.parse() == Ok(*ip),
        Identifier::Dns(dns) => match dns.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => dns == name,
        },
    })
}
