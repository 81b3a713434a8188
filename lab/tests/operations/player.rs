//! Types what the page says on the hosts that it names, as a person at a terminal would.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    debian::{Fleet, Machine, fleet::SOON},
    issuer::find_token,
    program::Output,
    wait::wait_for,
};

use crate::page::{Command, Section, Step};

/// `renew --wait` on a busy machine.
const LONG: Duration = Duration::from_secs(180);
/// They change nothing, and are asked again until they answer what the page shows.
const LOOKS: &[&str] = &[
    "certwell status",
    "certwell explain",
    "certwell events",
    "certwell alerts list",
    "certwell alerts silences",
    "certwell alerts test",
    "certwell hosts list",
    "certwell hosts show",
    "certwell inventory",
    "certwell certificates show",
    "certwell-agent status",
    "certwell-agent doctor",
    "certwell-agent inventory",
    "journalctl",
    "ls",
];
/// They ask at a terminal, and are answered with yes.
const ASK: &[&str] = &[
    "certwell-agent doctor --fix-include",
    "certwell-agent leave",
    "certwell hosts revoke",
    "certwell hosts retire",
    // It waits for some minutes where there is no terminal.
    "certbot renew",
];

pub(crate) struct Player<'a> {
    pub fleet: &'a mut Fleet,
    /// Which machine a prompt's name stands for, where that is another.
    pub machines: BTreeMap<String, String>,
    /// What stands on the page, and what it is here.
    pub table: Vec<(String, String)>,
    /// All that was typed, as it stands on the page.
    pub typed: Vec<String>,
    token: String,
    recovery_key: String,
}

impl<'a> Player<'a> {
    pub(crate) fn new(fleet: &'a mut Fleet, table: Vec<(String, String)>) -> Self {
        Self {
            fleet,
            machines: BTreeMap::new(),
            table,
            typed: Vec::new(),
            token: String::new(),
            recovery_key: String::new(),
        }
    }

    /// Every step of a section, in its order.
    pub(crate) fn play(&mut self, section: &Section) -> Result<()> {
        self.play_for(section, None)
    }

    /// The same for another host than the one that the section speaks of.
    pub(crate) fn play_for(
        &mut self,
        section: &Section,
        other: Option<(&str, &str)>,
    ) -> Result<()> {
        eprintln!("== {}", section.title);
        let for_other = |text: &str| match other {
            Some((name, other)) => text.replace(name, other),
            None => text.to_owned(),
        };
        for step in &section.steps {
            match step {
                Step::File {
                    host,
                    path,
                    content,
                } => {
                    let machine = self.machine(&for_other(host))?;
                    machine.write(path, self.filled(&for_other(content)))?;
                }
                Step::Command(command) => {
                    let command = Command {
                        host: for_other(&command.host),
                        line: for_other(&command.line),
                        exit: command.exit,
                        seen: command.seen.iter().map(|seen| for_other(seen)).collect(),
                    };
                    self.type_in(&command)
                        .with_context(|| format!("{}# {}", command.host, command.line))
                        .with_context(|| section.title.clone())?;
                    self.typed.push(command.line);
                }
            }
        }
        Ok(())
    }

    /// The machine that a prompt names.
    pub(crate) fn machine(&self, host: &str) -> Result<&Machine> {
        let name = self.machines.get(host).map_or(host, String::as_str);
        let mut all = self.fleet.machines();
        all.find(|machine| machine.name == name)
            .with_context(|| format!("no machine {name}"))
    }

    fn filled(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (word, here) in &self.table {
            filled = filled.replace(word, here);
        }
        filled
    }

    fn type_in(&mut self, command: &Command) -> Result<()> {
        eprintln!("{}# {}", command.host, command.line);
        let line = self.filled(&command.line);
        let is = |starts: &[&str]| starts.iter().any(|start| line.starts_with(start));
        let asks = is(ASK);
        let output = if !asks && is(LOOKS) {
            wait_for("what the page shows", SOON, || {
                self.once(command, &line, asks)
            })?
        } else {
            self.once(command, &line, asks)?
        };
        if std::env::var_os("CERTWELL_LAB_VERBOSE").is_some() {
            eprintln!("{}{}", output.stdout, output.stderr);
        }
        if line.starts_with("certwell token create") {
            self.token = find_token(&output.stdout)?;
        }
        if line == "certwell alerts drill" {
            let number = raised(&output.stdout)?;
            self.table
                .push(("alerts ack 1 ".to_owned(), format!("alerts ack {number} ")));
        }
        if line.starts_with("certwell-issuer init") {
            self.recovery_key = output.stdout.lines().next().unwrap_or_default().to_owned();
        }
        Ok(())
    }

    fn once(&self, command: &Command, line: &str, asks: bool) -> Result<Output> {
        let typed = if line.contains(" --follow") || line == "certwell watch" {
            // It goes on until somebody has seen enough.
            format!("timeout 2 {line} || test $? = 124")
        } else if asks {
            format!("script --quiet --return --command '{line}' /dev/null")
        } else {
            line.to_owned()
        };
        let input = match line {
            _ if asks => "y\n",
            _ if line.starts_with("certwell-agent enroll") => &self.token,
            _ if line.starts_with("certwell-issuer restore") => &self.recovery_key,
            _ => "",
        };
        let machine = self.machine(&command.host)?;
        let typed = format!("cd /root && {typed}");
        let output = machine.run_with(["sh", "-c", &typed], &format!("{input}\n"), LONG)?;
        let said = format!("{}{}", output.stdout, output.stderr);
        ensure!(
            output.code == command.exit,
            "it exits {}, and {} on the page:\n{said}",
            output.code,
            command.exit
        );
        self.is_seen(&command.seen, &said)?;
        Ok(output)
    }

    /// Each line of the page in what was said, in the same order.
    fn is_seen(&self, seen: &[String], said: &str) -> Result<()> {
        let mut lines = said.lines();
        for wanted in seen.iter().filter(|line| line.trim() != "…") {
            let wanted = self.filled(wanted);
            ensure!(
                lines.any(|line| fits(wanted.trim(), line.trim())),
                "{wanted:?} isn't seen (there) in:\n{said}"
            );
        }
        Ok(())
    }
}

/// The number of a drill.
fn raised(said: &str) -> Result<u64> {
    let number = said
        .strip_prefix("alert ")
        .and_then(|rest| rest.split(' ').next())
        .with_context(|| format!("no alert was raised: {said}"))?;
    Ok(number.parse()?)
}

/// Whether a line is the one of the page, where `…` stands for anything, and any space for as many.
fn fits(wanted: &str, line: &str) -> bool {
    let even = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (wanted, line) = (even(wanted), even(line));
    let mut parts: Vec<&str> = wanted.split('…').collect();
    let (first, last) = (parts.remove(0), parts.pop());
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let Some(last) = last else {
        return rest.is_empty();
    };
    for part in parts {
        let Some((_, after)) = rest.split_once(part.trim()) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last.trim_start())
}

/// Whether a command of running text is among those that were typed: from its first word on, with any word in the place
/// of one in capitals.
pub(crate) fn was_typed(mentioned: &str, typed: &[String]) -> bool {
    let stands_for = |word: &str, other: &str| {
        let is_placeholder = word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
        word == other || (is_placeholder && !other.starts_with("--"))
    };
    typed.iter().any(|typed| {
        let mut others = typed.split_whitespace();
        mentioned
            .split_whitespace()
            .all(|word| others.next().is_some_and(|other| stands_for(word, other)))
    })
}
