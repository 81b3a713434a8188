//! Open alerts about what is seen from outside, where nobody has looked since: that they are over isn't known.

use certwell_proto::{CertificateName, Identifier};
use jiff::Timestamp;

use super::{
    Alert, Class, Member, dns,
    seen::{CLASSES, awaits_another_look},
};
use crate::plan::{
    facts::FleetFacts,
    seen::{Finding, Shown, addresses::is_behind_others, findings, trust::Looks, verdict::Known},
};

/// Those of the open alerts that stay as they are until a probe that counts has looked there: an issuer that was started
/// anew has seen nothing yet, and a probe may be off or blind.
pub fn unseen<'a>(
    facts: &FleetFacts,
    open: impl IntoIterator<Item = &'a Alert>,
    now: Timestamp,
) -> Vec<Alert> {
    let somebody_looks =
        facts.config.probe.enabled || facts.config.hosts.values().any(|host| host.probe);
    if !somebody_looks {
        return Vec::new();
    }
    let (looks, known) = (Looks::fresh(facts, now), Known::of(facts));
    let mut awaiting = findings(facts, now);
    awaiting.retain(awaits_another_look);
    let open = open.into_iter();
    open.filter(|alert| is_of_looks(alert.key.class))
        .filter(|alert| {
            let class = alert.key.class;
            if dns::is_one(alert) {
                return !dns::is_known(facts, &looks, alert);
            }
            let mut members = alert.members.iter();
            members.any(|member| {
                !is_known(facts, &looks, &known, class, member)
                    || awaiting.iter().any(|finding| is_of(finding, class, member))
            })
        })
        .cloned()
        .collect()
}

/// Whether a fault that the next look may show as well would be told with this class and member. After a start that is
/// how the first look shows one that has stood all the while.
fn is_of(finding: &Finding, class: Class, member: &Member) -> bool {
    let mut classes = CLASSES.iter();
    classes.any(|(of, kinds)| *of == class && kinds.contains(&finding.kind))
        && member.certificate.as_ref() == Some(&finding.certificate)
        && member.host == finding.host
}

/// Whether only looks from outside tell of it.
pub fn is_of_looks(class: Class) -> bool {
    matches!(
        class,
        Class::UrlBroken
            | Class::SeenStranger
            | Class::SeenElsewhere
            | Class::SeenOtherVhost
            | Class::SeenChain
            | Class::SeenDown
    )
}

/// Whether somebody has looked, or nobody is to look there any more.
fn is_known(
    facts: &FleetFacts,
    looks: &Looks<'_>,
    known: &Known<'_>,
    class: Class,
    member: &Member,
) -> bool {
    let declared = |name: &CertificateName| facts.config.certificates.get(name);
    let Some((name, declared)) = member
        .certificate
        .as_ref()
        .and_then(|name| Some((name, declared(name)?)))
    else {
        return true;
    };
    // Where a name leads is seen wherever it leads now.
    let host = member.host.as_ref();
    let host = host.filter(|_| class != Class::SeenElsewhere);
    if host.is_some_and(|host| !declared.hosts.contains(host)) {
        return true;
    }
    let is_looked_at = match host {
        Some(host) => declared.probe_dns || !is_behind_others(facts, host),
        // An address is looked at whatever DNS says of names.
        None => {
            let mut identifiers = declared.identifiers.iter();
            declared.probe_dns || identifiers.any(|id| matches!(id, Identifier::Ip(_)))
        }
    };
    if !is_looked_at {
        return true;
    }
    looks
        .trusted()
        .filter(|look| look.spot.certificate == *name)
        .filter(|look| !matches!(look.sighting.shown, Shown::NoAnswer(_)))
        .any(|look| match host {
            Some(host) => known.host(look.spot).as_ref() == Some(host),
            None => look.spot.host.is_none(),
        })
}
