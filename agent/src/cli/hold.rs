//! `certwell-agent hold`: keeps the running agent's hands off a certificate. It writes one file, which the agent
//! watches, so that it works while the agent is stopped as well.

use std::{collections::BTreeSet, io, time::Duration};

use certwell_proto::{CertificateName, Exit};
use jiff::{SignedDuration, Span, Timestamp};
use serde::Serialize;

use super::{Failure, exit_of_io, failure_of, say, say_json, seconds};
use crate::{
    app, clock,
    config::Config,
    disk::{
        Ledger,
        durable::DiskError,
        holds::{ChangeError, Hold, Holds, Read},
    },
    tasks::state_file::StateFile,
};

/// What is held longer is forgotten, and expires.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// A sentence has room for so many characters.
const LONGEST_NOTE: usize = 200;
const VERSION: u32 = 1;

/// `--for`.
pub(super) fn length(text: &str) -> Result<Duration, String> {
    let wanted = "such as 30m, 4h or 2d is needed";
    let span: Span = text.parse().map_err(|_| format!("a duration {wanted}"))?;
    let length = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .ok()
        .and_then(|length: SignedDuration| Duration::try_from(length).ok())
        .filter(|length| !length.is_zero())
        .ok_or_else(|| format!("a duration longer than nothing {wanted}"))?;
    if length > LONGEST {
        return Err("30 days are the longest: what is held isn't renewed".to_owned());
    }
    Ok(length)
}

/// `--note`.
pub(super) fn note(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        Err("one line is needed".to_owned())
    } else if text.chars().count() > LONGEST_NOTE {
        Err(format!("{LONGEST_NOTE} characters are the most"))
    } else {
        Ok(text.to_owned())
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct List {
    version: u32,
    holds: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    certificate: String,
    since: Timestamp,
    until: Timestamp,
    note: Option<String>,
}

impl Row {
    fn new(certificate: impl Into<String>, hold: Hold) -> Self {
        let Hold { since, until, note } = hold;
        Self {
            certificate: certificate.into(),
            since,
            until,
            note,
        }
    }
}

/// What it prints with a name.
#[derive(Debug, Serialize)]
struct Changed {
    version: u32,
    certificate: String,
    /// From now on.
    hold: Option<Row>,
    changed: bool,
    /// Whether an agent runs that heeds it.
    running: bool,
}

/// `certwell-agent hold`.
pub(super) fn list(config: &Config, json: bool) -> Result<Exit, Failure> {
    may_look(config)?;
    let mut holds = match Holds::read(&config.holds_file()) {
        Read::Known(holds) => holds,
        Read::Unreadable(why) => return Err(unusable(ChangeError::Unreadable(why))),
    };
    holds.forget_lapsed(clock::now());
    let rows: Vec<Row> = holds
        .certificates
        .into_iter()
        .map(|(certificate, hold)| Row::new(certificate, hold))
        .collect();
    if json {
        say_json(&List {
            version: VERSION,
            holds: rows,
        })?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        say("nothing is held by hand");
        return Ok(Exit::Done);
    }
    let names = rows.iter().map(|row| row.certificate.len());
    let width = names.max().unwrap_or(0).max(11);
    say(format_args!(
        "{:width$}  {:20}  NOTE",
        "CERTIFICATE", "UNTIL"
    ));
    for row in rows {
        let until = seconds(row.until).to_string();
        let note = row.note.unwrap_or_default();
        let line = format!("{:width$}  {until:20}  {note}", row.certificate);
        say(line.trim_end());
    }
    Ok(Exit::Done)
}

/// `certwell-agent hold NAME`: for so long, or released.
pub(super) fn change(
    config: &Config,
    name: &CertificateName,
    length: Option<Duration>,
    note: Option<String>,
    json: bool,
) -> Result<Exit, Failure> {
    may_look(config)?;
    let path = config.holds_file();
    let now = clock::now();
    let present = match Holds::read(&path) {
        Read::Known(holds) => holds.of(name).cloned(),
        Read::Unreadable(why) => return Err(unusable(ChangeError::Unreadable(why))),
    };
    if present.is_none() && !known(config)?.contains(name.as_str()) {
        return Err(Failure::new(
            Exit::NotFound,
            format!(
                "{name} is no certificate of this host; `certwell-agent status` lists those that are"
            ),
        ));
    }
    let (hold, changed) = match length {
        Some(length) => {
            let until = now
                .checked_add(length)
                .map_err(|error| Failure::new(Exit::Usage, error))?;
            let hold = Hold {
                since: seconds(now),
                until: seconds(until),
                note,
            };
            Holds::change(&path, |holds| {
                holds.forget_lapsed(now);
                holds.set(name, hold.clone());
            })
            .map_err(unusable)?;
            (Some(hold), true)
        }
        None if present.is_none_or(|hold| hold.until <= now) => (None, false),
        None => {
            Holds::change(&path, |holds| {
                holds.certificates.remove(name.as_str());
                holds.forget_lapsed(now);
            })
            .map_err(unusable)?;
            (None, true)
        }
    };
    let running = app::is_running(config).map_err(|error| failure_of(&error))?;
    let certificate = name.to_string();
    let changed = Changed {
        version: VERSION,
        hold: hold.map(|hold| Row::new(&certificate, hold)),
        certificate,
        changed,
        running,
    };
    if json {
        say_json(&changed)?;
    } else {
        print(&changed);
    }
    Ok(Exit::Done)
}

fn print(changed: &Changed) {
    let name = &changed.certificate;
    let Some(hold) = &changed.hold else {
        return match changed.changed {
            true => say(format_args!("{name} is released")),
            false => say(format_args!("{name} was not held")),
        };
    };
    say(format_args!(
        "{name} is held until {}; to end that: certwell-agent hold {name} --release",
        hold.until
    ));
    if !changed.running {
        say("the agent is not running; it heeds this when it is started");
    }
}

/// Whoever may not look knows nothing of damage.
fn may_look(config: &Config) -> Result<(), Failure> {
    for path in [config.holds_file(), config.ledger_file()] {
        match std::fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let error = DiskError::about("reading", &path)(error);
                return Err(Failure::new(Exit::Denied, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The certificates of this host, by what the agent wrote; what was never wanted here can't be held.
fn known(config: &Config) -> Result<BTreeSet<String>, Failure> {
    let ledger =
        Ledger::load(&config.ledger_file()).map_err(|error| Failure::new(Exit::Internal, error))?;
    let state = std::fs::read(config.state_file())
        .ok()
        .and_then(|text| serde_json::from_slice::<StateFile>(&text).ok());
    let wanted = state.into_iter().flat_map(|state| state.certificates);
    Ok(ledger
        .certificates
        .into_keys()
        .chain(wanted.map(|certificate| certificate.name))
        .collect())
}

fn unusable(error: ChangeError) -> Failure {
    let exit = match &error {
        ChangeError::Unreadable(_) => Exit::Internal,
        ChangeError::Disk(error) => exit_of_io(&error.source),
    };
    Failure::new(exit, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_a_person_s_and_bounded() {
        for (text, seconds) in [
            ("4h", 14_400),
            ("30m", 1_800),
            ("2d", 172_800),
            ("1h30m", 5_400),
            ("30d", 2_592_000),
        ] {
            assert_eq!(length(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "soon", "4", "0s", "-4h", "31d", "1y", "99999999h"] {
            assert!(length(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_note_is_one_short_line() {
        assert_eq!(note("moving disks"), Ok("moving disks".to_owned()));
        assert!(note("two\nlines").is_err() && note("\u{1b}[2J").is_err());
        assert!(
            note(&"x".repeat(LONGEST_NOTE)).is_ok() && note(&"x".repeat(LONGEST_NOTE + 1)).is_err()
        );
    }
}
