//! nginx: whether it is there and runs, takes its configuration, reads the challenge map, and can read certificates.

use std::path::{Path, PathBuf};

use super::{
    Findings,
    port_80::{self, ANSWER},
};
use crate::nginx::{Place, edits::Edit};

/// The variable that the challenge map defines, as nginx names one that isn't.
const UNKNOWN_VARIABLE: &str = "unknown \"certwell_acme_reply\" variable";

/// Other masters that are told one by one.
const TOLD: usize = 3;

/// What is known of nginx.
#[derive(Debug)]
pub struct Facts {
    /// `nginx.pid-file`, and what it says.
    pub pid_file: PathBuf,
    /// See [`Facts::pid_file`].
    pub pid: Pid,
    /// `nginx.binary`.
    pub binary: PathBuf,
    /// Whether it is there.
    pub binary_there: bool,
    /// `nginx.config`.
    pub config: PathBuf,
    /// The running master that is ours.
    pub master: Option<Master>,
    /// Other masters on this machine.
    pub others: Vec<Other>,
    /// What came of reading its configuration.
    pub read: Read,
    /// A configuration file that is newer than the workers.
    pub edit: Option<Edit>,
    /// The challenge map.
    pub map: Map,
    /// The file that each port-80 server includes, where it is looked for.
    pub snippet: PathBuf,
    /// Whether it is there.
    pub snippet_there: bool,
    /// Whether it is there and says nothing that could answer HTTP-01.
    pub snippet_silent: bool,
    /// Server blocks whose certificates workers are to read, and can't.
    pub kept_out: Vec<KeptOut>,
    /// What listens for the CA.
    pub port_80: port_80::Facts,
}

/// What the pid file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pid {
    /// There is none, or an empty one.
    Missing,
    /// It can't be read: why.
    Unreadable(String),
    /// It names this, which is no nginx master.
    Stale(String),
    /// It names our master.
    Ours,
}

/// Our master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Master {
    /// Its process id.
    pub pid: i32,
    /// Whether we may send it a signal.
    pub may_be_signalled: bool,
}

/// Another master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its process id.
    pub pid: i32,
    /// How it was called.
    pub command: String,
}

/// What came of `nginx -T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// It wasn't asked.
    Not,
    /// nginx refuses its configuration, by these words.
    Refused(String),
    /// It couldn't be asked: why.
    Failed(String),
    /// It was read; these sentences say what wasn't understood.
    Known(Vec<String>),
}

/// The challenge map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// `nginx.challenge-map`.
    pub path: PathBuf,
    /// Whether the file is there.
    pub is_there: bool,
    /// Whether an include at http level names it; `None` while nginx's configuration isn't known.
    pub is_included: Option<bool>,
    /// Where the http block begins.
    pub http: Option<Place>,
}

/// A server block whose certificate workers can't read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOut {
    /// The block.
    pub at: Place,
    /// As written in the configuration.
    pub written: String,
    /// The workers' user.
    pub user: String,
    /// That user's own group.
    pub group: Option<String>,
    /// What is closed to it: a directory above the agent's; `None` for the agent's own files.
    pub closed: Option<PathBuf>,
}

impl Facts {
    /// Whether nginx refuses its configuration because the challenge map isn't read.
    pub fn lacks_map(&self) -> bool {
        matches!(&self.read, Read::Refused(words) if words.contains(UNKNOWN_VARIABLE))
    }

    /// Whether nginx refuses its configuration because the snippet isn't there.
    pub fn lacks_snippet(&self) -> bool {
        let named = |words: &String| words.contains(&*self.snippet.to_string_lossy());
        !self.snippet_there && matches!(&self.read, Read::Refused(words) if named(words))
    }

    pub(super) fn is_denied(&self) -> bool {
        matches!(self.pid, Pid::Unreadable(_))
            || self.master.is_some_and(|master| !master.may_be_signalled)
    }
}

pub(super) fn examine(facts: &Facts, found: &mut Findings) {
    examine_master(facts, found);
    examine_configuration(facts, found);
    examine_map(facts, found);
    if facts.map.is_included.is_some() {
        let needed = port_80::blocks(&facts.port_80)
            .iter()
            .any(|block| block.is_needed);
        if needed && !facts.snippet_there {
            snippet_is_missing(&facts.snippet, found);
        }
        if needed && facts.snippet_silent {
            snippet_is_silent(&facts.snippet, found);
        }
        port_80::examine(&facts.port_80, facts.master.is_some(), found);
    }
    for kept in &facts.kept_out {
        examine_kept_out(kept, found);
    }
}

fn examine_master(facts: &Facts, found: &mut Findings) {
    let pid_file = facts.pid_file.display();
    // One with our own configuration is the likeliest to be meant.
    let config = facts.config.display().to_string();
    let mut sorted: Vec<&Other> = facts.others.iter().collect();
    sorted.sort_by_key(|other| !other.command.contains(&config));
    let mut others: Vec<String> = sorted
        .iter()
        .take(TOLD)
        .map(|other| format!("process {} ({})", other.pid, other.command))
        .collect();
    if facts.others.len() > TOLD {
        others.push(format!("and {} more", facts.others.len() - TOLD));
    }
    let others = others.join(", ");
    if facts.master.is_some() {
        if !others.is_empty() {
            found.note(
                "several-masters",
                format!("the agent sees to the nginx of {pid_file} alone; others run: {others}"),
                "each that is to be seen to needs an agent of its own",
            );
        }
        return;
    }
    match &facts.pid {
        Pid::Unreadable(why) => {
            found.in_the_way(
                "pid-file-unreadable",
                format!("{pid_file} can't be read: {why}"),
                "see that root can read it, and that nginx.pid-file names the right one",
            );
            return;
        }
        Pid::Stale(content) => found.in_the_way(
            "pid-file-stale",
            format!("{pid_file} holds {content}, which is no running nginx master"),
            another(&others),
        ),
        Pid::Missing | Pid::Ours if !facts.binary_there => {}
        Pid::Missing | Pid::Ours => found.in_the_way(
            "nginx-not-running",
            format!("nginx isn't running: {pid_file} names none"),
            another(&others),
        ),
    }
    if !facts.binary_there {
        found.in_the_way(
            "nginx-absent",
            format!(
                "no nginx runs by {pid_file}, and there is no binary at {}",
                facts.binary.display()
            ),
            "install nginx, or set nginx.binary in agent.toml; for another server than nginx use [exec]",
        );
    }
}

fn another(others: &str) -> String {
    let start = "start it: systemctl start nginx; the agent goes on by itself then";
    if others.is_empty() {
        start.to_owned()
    } else {
        format!("{start}. Or is it one of these: {others}? Then set nginx.pid-file in agent.toml")
    }
}

fn examine_configuration(facts: &Facts, found: &mut Findings) {
    match &facts.read {
        Read::Not => {}
        Read::Known(warnings) => {
            for warning in warnings {
                found.note(
                    "not-understood",
                    warning.clone(),
                    "nothing needs to be done where nginx itself takes it",
                );
            }
        }
        Read::Failed(why) => found.in_the_way(
            "nginx-unknown",
            format!("nginx's configuration can't be known: {why}"),
            "run nginx -T by hand to see why",
        ),
        Read::Refused(_) if facts.lacks_map() => {
            let map = facts.map.path.display();
            if facts.map.is_there {
                found.in_the_way(
                    "challenge-map-not-included",
                    format!(
                        "nginx refuses its configuration: a server block answers HTTP-01, but nothing at http level \
                         includes the challenge map {map}"
                    ),
                    format!("put `include {map};` into the http block: `certwell-agent doctor --fix-include` does"),
                );
            } else {
                found.in_the_way(
                    "challenge-map-missing",
                    format!(
                        "nginx refuses its configuration: a server block answers HTTP-01, but the challenge map {map} \
                         isn't there"
                    ),
                    "`certwell-agent doctor --fix-include` puts an empty one there; the agent fills it",
                );
            }
        }
        Read::Refused(_) if facts.lacks_snippet() => snippet_is_missing(&facts.snippet, found),
        Read::Refused(words) => found.in_the_way_at(
            place_in(words),
            "nginx-refuses",
            format!("nginx refuses its own configuration: {words}"),
            "mend what it says, until nginx -t is content; until then the agent touches nothing",
        ),
    }
    if let Some(edit) = &facts.edit {
        found.note(
            "edit-in-progress",
            format!(
                "{} was changed after nginx began to serve, so the agent waits for whoever edits it",
                edit.file.display()
            ),
            "if it is ready: nginx -t, and reload nginx",
        );
    }
}

fn snippet_is_missing(snippet: &Path, found: &mut Findings) {
    found.in_the_way(
        "snippet-missing",
        format!(
            "{} isn't there, which each port-80 server is to include",
            snippet.display()
        ),
        "`certwell-agent doctor --fix-include` puts it there, as the package does",
    );
}

fn snippet_is_silent(snippet: &Path, found: &mut Findings) {
    found.in_the_way(
        "snippet-changed",
        format!(
            "{} doesn't hold the line that answers HTTP-01, so no server block that includes it does",
            snippet.display()
        ),
        format!("put `{ANSWER}` into it"),
    );
}

fn examine_map(facts: &Facts, found: &mut Findings) {
    if facts.map.is_included == Some(false) {
        let map = facts.map.path.display();
        found.in_the_way_at(
            facts.map.http.clone(),
            "challenge-map-not-included",
            format!("nothing in nginx's http block includes the challenge map {map}, so no HTTP-01 is answered"),
            format!("put `include {map};` into the http block: `certwell-agent doctor --fix-include` does"),
        );
    }
}

fn examine_kept_out(kept: &KeptOut, found: &mut Findings) {
    let KeptOut {
        at, written, user, ..
    } = kept;
    let by = format!(
        "{written} holds variables, so nginx's workers (user {user}) read it at each handshake"
    );
    let (sentence, remedy) = match (&kept.closed, &kept.group) {
        (Some(closed), _) => (
            format!("{by}, and {} is closed to them", closed.display()),
            "open it to that user".to_owned(),
        ),
        (None, Some(group)) => (
            format!("{by}, and the agent's files are for root alone"),
            format!(
                "set file-group = {group:?} in agent.toml, or another group of that user, and restart the agent"
            ),
        ),
        (None, None) => (
            format!("{by}, and the agent's files are for root alone"),
            "set file-group in agent.toml to a group of that user, and restart the agent"
                .to_owned(),
        ),
    };
    found.in_the_way_at(Some(at.clone()), "workers-kept-out", sentence, remedy);
}

/// The place that ends nginx's words: `… in FILE:LINE`.
pub(super) fn place_in(words: &str) -> Option<Place> {
    let first = words.split("; [").next()?;
    let (_, place) = first.rsplit_once(" in ")?;
    let (file, line) = place.trim().rsplit_once(':')?;
    Some(Place {
        file: file.into(),
        line: line.parse().ok()?,
    })
}
