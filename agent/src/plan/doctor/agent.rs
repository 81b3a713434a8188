//! The agent itself: its configuration, its rights, the clock, its identity, and the way to the issuer.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::Findings;
use crate::{clock, disk::holds::Read, nginx::Place};

/// What the agent needs of root's rights, as the kernel calls them.
pub const CAPABILITIES: &[(u8, &str)] = &[
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (3, "CAP_FOWNER"),
    (5, "CAP_KILL"),
];
/// File systems and clocks are compared no closer than this.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// What is known of the agent.
#[derive(Debug)]
pub struct Facts {
    /// `agent.toml`.
    pub configuration: Configuration,
    /// Who we are.
    pub us: Us,
    /// `file-group`, where the machine has no such group.
    pub unknown_group: Option<String>,
    /// The newest of the agent's own files, and when it was written.
    pub last_written: Option<(PathBuf, Timestamp)>,
    /// Who this host is to the issuer.
    pub identity: Identity,
    /// What came of dialling each endpoint; empty when none was.
    pub endpoints: Vec<(String, Reach)>,
    /// Whether the agent runs.
    pub running: bool,
    /// What is held by hand.
    pub holds: Read,
    /// Why notifiers of an open alarm didn't accept its last message, by name.
    pub alarm_refused: Vec<(String, String)>,
}

/// What came of reading `agent.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configuration {
    /// It is right.
    Right,
    /// It can't be read, by the system's words.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It has mistakes: each with its place, and shown with its line and a caret.
    Mistaken(Vec<(Place, String)>),
}

/// The process that looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Us {
    /// Effective user id.
    pub user: u32,
    /// Effective group id.
    pub group: u32,
    /// Capabilities that are in effect, as a bit mask.
    pub capabilities: u64,
}

/// Who this host is to the issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody yet.
    Absent,
    /// It may not be looked at.
    Denied(PathBuf),
    /// A file of it can't be used.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Others could read or exchange it.
    Untrusted {
        /// The file or directory.
        path: PathBuf,
        /// Such as "has mode 0644".
        problem: String,
        /// A command.
        remedy: String,
    },
    /// An identity.
    Valid {
        /// First instant.
        from: Timestamp,
        /// Last instant.
        until: Timestamp,
    },
}

/// How far an endpoint of the issuer was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It answers, and is the issuer.
    Reached,
    /// Its name has no address: why.
    Unresolved(String),
    /// No connection: why.
    Unconnected(String),
    /// Something answers that isn't the issuer, or that doesn't take us: why.
    Refused(String),
}

impl Us {
    fn lacks(&self) -> Vec<&'static str> {
        CAPABILITIES
            .iter()
            .filter(|(bit, _)| self.capabilities & (1 << bit) == 0)
            .map(|(_, name)| *name)
            .collect()
    }
}

impl Facts {
    pub(super) fn is_denied(&self) -> bool {
        matches!(self.identity, Identity::Denied(_))
    }
}

pub(super) fn examine_configuration(facts: &Facts, found: &mut Findings) {
    match &facts.configuration {
        Configuration::Right => {}
        Configuration::Unreadable { path, why } => found.in_the_way(
            "configuration-unreadable",
            format!("{} can't be read ({why}); what follows is by the defaults", path.display()),
            "make it with what differs from the defaults (an empty file will do), or give its place with --config",
        ),
        Configuration::Mistaken(mistakes) => {
            for (at, shown) in mistakes {
                found.in_the_way_at(
                    Some(at.clone()),
                    "configuration-mistake",
                    shown.clone(),
                    "correct it; `certwell-agent check` shows whether all is right",
                );
            }
        }
    }
    if let Some(group) = &facts.unknown_group {
        found.in_the_way(
            "file-group-unknown",
            format!("file-group {group:?} is no group of this machine"),
            format!("make it (groupadd --system {group}), or leave the setting out"),
        );
    }
}

pub(super) fn examine_rights(facts: &Facts, denied: bool, found: &mut Findings) {
    let us = &facts.us;
    if us.user != 0 {
        if denied {
            found.in_the_way(
                "not-root",
                format!(
                    "user {} may not look at, or not do, all that the agent needs",
                    us.user
                ),
                "run this, and the agent, as root",
            );
        }
        return;
    }
    let lacks = us.lacks();
    if !lacks.is_empty() {
        found.in_the_way(
            "capabilities-missing",
            format!("root lacks {} here", lacks.join(", ")),
            "give them back: CapabilityBoundingSet in a unit, cap-add of a container",
        );
    }
}

pub(super) fn examine_clock(facts: &Facts, now: Timestamp, found: &mut Findings) {
    let remedy = "set it: timedatectl, chrony";
    let behind = |then: Timestamp| now.duration_since(then) < -CLOCK_TOLERANCE;
    let sentence = if let Err(error) = clock::plausible(now) {
        format!(
            "this machine's clock says {}, before 2020: every certificate looks not yet valid",
            error.0
        )
    } else if let Identity::Valid { from, .. } = facts.identity
        && behind(from)
    {
        format!("this machine's clock says {now}, but its identity is valid from {from} on only")
    } else if let Some((path, at)) = facts.last_written.as_ref().filter(|(_, at)| behind(*at)) {
        format!(
            "this machine's clock says {now}, but {} was written at {at}",
            path.display()
        )
    } else {
        return;
    };
    found.in_the_way("clock-wrong", sentence, remedy);
}

pub(super) fn examine_identity(facts: &Facts, now: Timestamp, found: &mut Findings) {
    match &facts.identity {
        Identity::Absent => found.in_the_way(
            "not-enrolled",
            "this host is not enrolled".to_owned(),
            "on the issuer `certwell token create --host NAME`, then here `certwell-agent enroll TOKEN`",
        ),
        // Told as a lack of rights.
        Identity::Denied(_) if facts.us.user != 0 => {}
        Identity::Denied(path) => found.in_the_way(
            "identity-unreadable",
            format!("{} can't be looked at, though this is root", path.display()),
            "see what keeps root from it: its file system, or a security module",
        ),
        Identity::Damaged { path, problem } => found.in_the_way(
            "identity-unusable",
            format!("{} can't be used: {problem}", path.display()),
            "move it aside, and run `certwell-agent enroll --again TOKEN` with a new token",
        ),
        Identity::Untrusted {
            path,
            problem,
            remedy,
        } => found.in_the_way(
            "identity-exposed",
            format!(
                "{} {problem}, so another user could read or exchange the identity's key",
                path.display()
            ),
            remedy.clone(),
        ),
        Identity::Valid { until, .. } if *until < now => found.in_the_way(
            "identity-expired",
            format!("this host's identity ended at {until}"),
            format!(
                "is this machine's clock right ({now})? Then on the issuer `certwell token create --host NAME`, and \
                 here `certwell-agent enroll --again TOKEN`"
            ),
        ),
        Identity::Valid { .. } => {}
    }
}

pub(super) fn examine_issuer(facts: &Facts, found: &mut Findings) {
    let reached = |(_, reach): &(String, Reach)| *reach == Reach::Reached;
    if facts.endpoints.is_empty() || facts.endpoints.iter().any(reached) {
        return;
    }
    // One that came further shows better what is left to do.
    let rank = |reach: &Reach| match reach {
        Reach::Unresolved(_) => 0,
        Reach::Unconnected(_) => 1,
        Reach::Refused(_) => 2,
        Reach::Reached => 3,
    };
    let furthest = facts.endpoints.iter().map(|(_, reach)| rank(reach)).max();
    let (what, remedy) = match furthest {
        Some(0) => (
            "issuer-unresolved",
            "mend this host's resolver (/etc/resolv.conf), or the name in the issuer's `endpoints`",
        ),
        Some(1) => (
            "issuer-unreachable",
            "is certwell-issuer running there, and do the firewalls let this host connect?",
        ),
        _ => (
            "issuer-refuses",
            "is the address the issuer's, and was this host revoked (`certwell hosts list`)? Then `certwell-agent \
             enroll --again TOKEN` with a new token",
        ),
    };
    let each: Vec<String> = facts
        .endpoints
        .iter()
        .filter_map(|(endpoint, reach)| match reach {
            Reach::Unresolved(why) | Reach::Unconnected(why) | Reach::Refused(why) => {
                Some(format!("{endpoint}: {why}"))
            }
            Reach::Reached => None,
        })
        .collect();
    found.in_the_way(
        what,
        format!("the issuer isn't reached: {}", each.join("; ")),
        remedy,
    );
}

/// What the agent is doing, or not doing.
pub(super) fn examine_work(facts: &Facts, now: Timestamp, found: &mut Findings) {
    if matches!(facts.identity, Identity::Valid { .. }) && !facts.running {
        found.note(
            "agent-not-running",
            "the agent is not running".to_owned(),
            "systemctl enable certwell-agent; systemctl restart certwell-agent",
        );
    }
    for (notifier, why) in &facts.alarm_refused {
        found.note(
            "alarm-refused",
            format!("this host's own alarm is raised, and wasn't accepted by {notifier}: {why}"),
            format!("mend [alarm.{notifier}] in agent.toml, or what it sends to; certwell-agent alarm test tries it"),
        );
    }
    match &facts.holds {
        Read::Unreadable(why) => found.in_the_way(
            "holds-unreadable",
            format!("every certificate is held, since nobody knows what is held by hand: {why}"),
            "remove that file, and hold again what is to be held",
        ),
        Read::Known(holds) => {
            let held = holds.certificates.iter();
            for (name, hold) in held.filter(|(_, hold)| hold.until > now) {
                found.note(
                    "held-by-hand",
                    format!("{name} is held by hand until {}", hold.until),
                    format!("certwell-agent hold {name} --release lets it go on"),
                );
            }
        }
    }
}
