//! An event as an entry of systemd's journal, in its native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! The message is the whole line, fields included, since that is all that `journalctl` shows; beside it each field
//! stands by itself, to be asked for.

use std::fmt::{Debug, Write as _};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// Before the name of each field of ours.
pub const PREFIX: &str = "CERTWELL_";
/// A longer name isn't taken by the journal.
const LONGEST_NAME: usize = 64;
/// What every entry of ours that is about a host has.
const HOST: &str = "host";

/// What an event says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    message: String,
    /// Name, value, and the value as it stands in a line.
    fields: Vec<(&'static str, String, String)>,
}

impl Said {
    pub(crate) fn by(event: &Event<'_>) -> Self {
        let mut said = Self::default();
        event.record(&mut said);
        said
    }

    fn add(&mut self, field: &Field, value: String, shown: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name(), value, shown));
        }
    }

    /// In one line, as on standard error, but for time and level, which the journal keeps.
    pub(crate) fn line(&self) -> String {
        let mut line = self.message.clone();
        for (name, _, shown) in &self.fields {
            let between = if line.is_empty() { "" } else { " " };
            let _ = write!(line, "{between}{name}={shown}");
        }
        line
    }

    /// The entry: `host` is whom it is about where it names nobody.
    pub(crate) fn entry(&self, level: &Level, identifier: &str, host: Option<&str>) -> Vec<u8> {
        let mut entry = Vec::new();
        put(&mut entry, "MESSAGE", &self.line());
        put(&mut entry, "PRIORITY", priority(level));
        put(&mut entry, "SYSLOG_IDENTIFIER", identifier);
        for (name, value, _) in &self.fields {
            put(&mut entry, &journal_name(name), value);
        }
        let names_one = self.fields.iter().any(|(name, ..)| *name == HOST);
        if let Some(host) = host.filter(|_| !names_one) {
            put(&mut entry, &journal_name(HOST), host);
        }
        entry
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned(), format!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        self.add(field, text.clone(), text);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.add(field, text.clone(), text);
    }
}

/// By syslog(3).
pub(crate) fn priority(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// Upper-case letters, digits and underscores.
fn journal_name(name: &str) -> String {
    let plain = name.chars().map(|c| match c.to_ascii_uppercase() {
        c @ ('A'..='Z' | '0'..='9') => c,
        _ => '_',
    });
    PREFIX.chars().chain(plain).take(LONGEST_NAME).collect()
}

/// With its length where the value has lines.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_lines_has_its_length_before_it() {
        let mut entry = Vec::new();
        put(&mut entry, "A", "one");
        put(&mut entry, "B", "one\ntwo=\n");
        let mut wanted = b"A=one\nB\n".to_vec();
        wanted.extend_from_slice(&9_u64.to_le_bytes());
        wanted.extend_from_slice(b"one\ntwo=\n\n");
        assert_eq!(entry, wanted);
    }

    #[test]
    fn names_are_what_the_journal_takes() {
        assert_eq!(journal_name("certificate"), "CERTWELL_CERTIFICATE");
        assert_eq!(journal_name("log.target"), "CERTWELL_LOG_TARGET");
        assert_eq!(journal_name(&"x".repeat(99)).len(), LONGEST_NAME);
    }
}
