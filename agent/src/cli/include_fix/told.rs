//! What came of putting the include in or taking it out: for people as it happens, for programs at the end.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use certwell_proto::Exit;
use serde::Serialize;

use crate::{
    cli::{Failure, escaped, say, say_json},
    nginx::include_fix::{Proposal, diff, record::Put},
};

const VERSION: u32 = 1;

/// What is told, and to whom.
#[derive(Debug)]
pub(super) struct Told {
    json: bool,
    document: Document,
}

/// What `--json` prints, once there is something to show.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    /// Whether anything lies there now that didn't before.
    changed: bool,
    /// Those that were changed.
    files: Vec<String>,
    /// Server blocks that begin with the include now; null where it was taken out.
    servers: Option<usize>,
    /// What was proposed; null where it was taken out.
    diff: Option<String>,
    nginx: Option<&'static str>,
    /// What it ended with.
    problem: Option<String>,
}

impl Told {
    /// Of what is put in.
    pub(super) fn put_in(json: bool) -> Self {
        let mut told = Self::taken_out(json);
        told.document.servers = Some(0);
        told.document.diff = Some(String::new());
        told
    }

    /// Of what is taken out.
    pub(super) fn taken_out(json: bool) -> Self {
        Self {
            json,
            document: Document {
                version: VERSION,
                changed: false,
                files: Vec::new(),
                servers: None,
                diff: None,
                nginx: None,
                problem: None,
            },
        }
    }

    /// For a program, which isn't asked.
    pub(super) fn is_for_a_program(&self) -> bool {
        self.json
    }

    /// To people.
    pub(super) fn line(&self, line: impl Display) {
        if !self.json {
            say(line);
        }
    }

    /// What is to be changed, before it is.
    pub(super) fn proposed(&mut self, proposal: &Proposal) {
        let unified = diff::unified(&proposal.changes);
        if self.json {
            self.document
                .diff
                .get_or_insert_default()
                .push_str(&unified);
        } else {
            let _ = io::stdout().write_all(shown(&unified).as_bytes());
        }
    }

    /// It is on disk, and stays.
    pub(super) fn changed(&mut self, put: &Put, servers: usize) {
        self.document.changed |= put.count() > 0;
        // What nginx did in a round before says nothing of this.
        self.document.nginx = None;
        let files = put.paths().map(|path| path.display().to_string());
        self.document.files.extend(files);
        if let Some(sum) = &mut self.document.servers {
            *sum += servers;
        }
    }

    /// What nginx does with it.
    pub(super) fn nginx(&mut self, word: &'static str, line: impl Display) {
        self.document.nginx = Some(word);
        self.line(line);
    }

    /// The end, however it came.
    pub(super) fn end(mut self, ended: Result<(), Failure>) -> Result<Exit, Failure> {
        let has_something = self.document.changed
            || self
                .document
                .diff
                .as_ref()
                .is_some_and(|diff| !diff.is_empty());
        if self.json && (ended.is_ok() || has_something) {
            self.document.problem = ended
                .as_ref()
                .err()
                .map(|failure| failure.sentence().to_owned());
            say_json(&self.document)?;
        }
        ended.map(|()| Exit::Done)
    }
}

/// A file's own text, of which a terminal obeys nothing but tabs and ends of lines.
fn shown(diff: &str) -> String {
    let line = |line: &str| {
        let (text, end) = match line.strip_suffix('\r') {
            Some(text) => (text, "\r"),
            None => (line, ""),
        };
        let parts: Vec<String> = text.split('\t').map(escaped).collect();
        format!("{}{end}", parts.join("\t"))
    };
    let lines: Vec<String> = diff.split('\n').map(line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_that_a_file_says() {
        assert_eq!(
            shown("+\ta\r\n+b\rc \u{1b}[2J\n"),
            "+\ta\r\n+b\\rc \\u{1b}[2J\n"
        );
    }
}
