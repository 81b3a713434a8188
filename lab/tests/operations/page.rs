//! docs/operations.md as a list of what is typed, and where.
//!
//! A block of kind `console` holds commands behind prompts (`sally# …`) and below each what is seen of it. A block of
//! another kind whose first line is `# sally: /etc/…` is that file. A section begins with a heading.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use certwell_lab::paths::workspace;

/// What a command in running text begins with.
const PROGRAMS: &[&str] = &[
    "apt",
    "apt-get",
    "certbot",
    "certwell",
    "certwell-agent",
    "certwell-issuer",
    "curl",
    "df",
    "dmesg",
    "journalctl",
    "nginx",
    "systemctl",
    "timedatectl",
];
/// Says after a command how it ends, where that isn't well.
const EXITS: &str = "# exits ";

#[derive(Debug, Default)]
pub(crate) struct Section {
    pub title: String,
    pub steps: Vec<Step>,
    /// Commands in running text.
    pub mentioned: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Step {
    Command(Command),
    File {
        host: String,
        path: String,
        content: String,
    },
}

#[derive(Debug)]
pub(crate) struct Command {
    pub host: String,
    pub line: String,
    pub exit: i32,
    /// Lines of what it says, in their order.
    pub seen: Vec<String>,
}

/// The sections of a file of this checkout.
pub(crate) fn read(file: &str) -> Result<Vec<Section>> {
    let text = fs::read_to_string(workspace().join(file)).with_context(|| file.to_owned())?;
    let mut sections = vec![Section::default()];
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(section) = sections.last_mut() else {
            bail!("no section")
        };
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            let block: Vec<&str> = lines
                .by_ref()
                .take_while(|line| line.trim() != "```")
                .collect();
            take_block(section, kind, &block)
                .with_context(|| format!("{file}: {}", section.title))?;
        } else if line.starts_with('#') {
            sections.push(Section {
                title: line.trim_start_matches('#').trim().to_owned(),
                ..Section::default()
            });
        } else {
            // A `|` within code is written `\|` in a table.
            let code = line.split('`').skip(1).step_by(2);
            section
                .mentioned
                .extend(code.filter(|code| is_command(code)).map(ToOwned::to_owned));
        }
    }
    Ok(sections)
}

fn take_block(section: &mut Section, kind: &str, block: &[&str]) -> Result<()> {
    if kind == "console" {
        for line in block {
            if let Some((host, line)) = prompt(line) {
                section.steps.push(Step::Command(command(host, line)?));
            } else {
                let Some(Step::Command(command)) = section.steps.last_mut() else {
                    bail!("{line:?} is seen before anything is typed");
                };
                command.seen.push((*line).to_owned());
            }
        }
        return Ok(());
    }
    let first = block.first().and_then(|line| line.strip_prefix("# "));
    let named = first.and_then(|line| line.split_once(": /"));
    if let Some((host, path)) = named {
        let content: String = block[1..].iter().map(|line| format!("{line}\n")).collect();
        section.steps.push(Step::File {
            host: host.to_owned(),
            path: format!("/{path}"),
            content,
        });
        return Ok(());
    }
    for line in block {
        ensure!(
            !is_command(line),
            "{line:?} is a command in a block that nobody plays"
        );
    }
    Ok(())
}

fn prompt(line: &str) -> Option<(&str, &str)> {
    let (host, command) = line.split_once("# ")?;
    let is_name = host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    (is_name && !host.is_empty()).then_some((host, command))
}

fn command(host: &str, line: &str) -> Result<Command> {
    let (line, exit) = match line.split_once(EXITS) {
        Some((line, code)) => (line, code.trim().parse().context("an exit code")?),
        None => (line, 0),
    };
    Ok(Command {
        host: host.to_owned(),
        line: line.trim().to_owned(),
        exit,
        seen: Vec::new(),
    })
}

fn is_command(text: &str) -> bool {
    // What one sees, whose rest is something else each time.
    if text.ends_with('…') {
        return false;
    }
    let mut words = text.split_whitespace();
    // A name alone is spoken of, not typed.
    words.next().is_some_and(|word| PROGRAMS.contains(&word)) && words.next().is_some()
        || ["timedatectl", "dmesg"].contains(&text)
}
