//! `certwell-agent doctor`: what is in the agent's way, in the order to mend it, each with its remedy.

use certwell_proto::Exit;
use serde::Serialize;

use super::{Cli, Failure, escaped, say, say_json};
use crate::{
    clock, config, doctor,
    plan::doctor::{Finding, Findings, examine},
};

const VERSION: u32 = 1;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    #[serde(flatten)]
    found: Lists<'a>,
}

/// What was found, as every document has it.
#[derive(Debug, Serialize)]
pub(super) struct Lists<'a> {
    in_the_way: Vec<Told<'a>>,
    notes: Vec<Told<'a>>,
}

impl<'a> Lists<'a> {
    pub(super) fn of(found: &'a Findings) -> Self {
        Self {
            in_the_way: found.in_the_way.iter().map(told).collect(),
            notes: found.notes.iter().map(told).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    what: &'static str,
    sentence: &'a str,
    remedy: &'a str,
    file: Option<String>,
    line: Option<u32>,
}

pub(super) async fn perform(cli: &Cli, json: bool, port: u16) -> Result<Exit, Failure> {
    let (config, fault) = config::load_what_is_right(&cli.config);
    let gathered = doctor::gather(&config, fault.as_ref(), port).await;
    let found = examine(&gathered.facts, clock::now());
    if json {
        say_json(&Document {
            version: VERSION,
            found: Lists::of(&found),
        })?;
    } else {
        print(&found);
    }
    Ok(if fault.is_some() {
        Exit::Configuration
    } else if found.in_the_way.is_empty() {
        Exit::Done
    } else {
        Exit::NotConverged
    })
}

fn told(finding: &Finding) -> Told<'_> {
    Told {
        what: finding.what,
        sentence: &finding.sentence,
        remedy: &finding.remedy,
        file: finding.at.as_ref().map(|at| at.file.display().to_string()),
        line: finding.at.as_ref().map(|at| at.line),
    }
}

pub(super) fn print(found: &Findings) {
    match found.in_the_way.len() {
        0 => say("nothing is in the agent's way"),
        1 => say("1 thing is in the agent's way:"),
        n => say(format_args!(
            "{n} things are in the agent's way, in the order to mend them:"
        )),
    }
    for (at, finding) in found.in_the_way.iter().enumerate() {
        print_one(&format!("{}. ", at + 1), finding);
    }
    for note in &found.notes {
        print_one("note: ", note);
    }
}

fn print_one(before: &str, finding: &Finding) {
    let indent = format!("\n{}", " ".repeat(before.len()));
    // A mistake of agent.toml is shown with its line and a caret.
    let lines = finding
        .sentence
        .split('\n')
        .chain([finding.remedy.as_str()]);
    let lines: Vec<String> = lines.map(escaped).collect();
    say(format_args!("{before}{}", lines.join(&indent)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::Place;

    /// What scripts read, as docs/cli.md shows it.
    #[test]
    fn the_json_is_as_it_was() {
        let finding = |at| Finding {
            what: "include-missing",
            sentence: "a sentence".into(),
            remedy: "a remedy".into(),
            at,
        };
        let place = Place {
            file: "/etc/nginx/sites-enabled/a".into(),
            line: 12,
        };
        let found = Findings {
            in_the_way: vec![finding(Some(place)), finding(None)],
            notes: Vec::new(),
        };
        let document = Document {
            version: VERSION,
            found: Lists::of(&found),
        };
        let wanted = serde_json::json!({
            "version": 1,
            "in_the_way": [
                {
                    "what": "include-missing",
                    "sentence": "a sentence",
                    "remedy": "a remedy",
                    "file": "/etc/nginx/sites-enabled/a",
                    "line": 12,
                },
                {
                    "what": "include-missing",
                    "sentence": "a sentence",
                    "remedy": "a remedy",
                    "file": null,
                    "line": null,
                },
            ],
            "notes": [],
        });
        assert_eq!(serde_json::to_value(&document).unwrap(), wanted);
    }
}
