//! Standard output: 80 columns, colours on a terminal alone, a closed pipe without a panic.

use std::io::{self, IsTerminal as _, Write as _};

use certwell_proto::v1::HostState;
use comfy_table::{Cell, Color, ContentArrangement, Row, Table, presets};

/// Everything that is meant for people fits this many columns.
const WIDTH: usize = 80;

/// Where output goes.
#[derive(Debug)]
pub(super) struct Screen {
    colour: bool,
    terminal: bool,
    controlled: bool,
}

impl Screen {
    /// Standard output. <https://no-color.org>: any non-empty NO_COLOR switches colours off.
    pub(super) fn new() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stdout().is_terminal();
        Self {
            colour: terminal && !dumb && !set("NO_COLOR"),
            terminal,
            controlled: terminal && !dumb,
        }
    }

    /// Whether there is a terminal whose screen can be drawn on.
    pub(super) fn is_controlled(&self) -> bool {
        self.controlled
    }

    /// Whether a person watches.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether colours may be used.
    pub(super) fn colour(&self) -> bool {
        self.colour
    }

    /// A line as it is.
    pub(super) fn line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// A sentence, wrapped; the lines after the first are set in by `indent`.
    pub(super) fn sentence(&self, text: &str, indent: usize) -> io::Result<()> {
        self.line(&wrap(text, indent))
    }

    /// The sentence that matters most.
    pub(super) fn headline(&self, text: &str, good: bool) -> io::Result<()> {
        let wrapped = wrap(text, 0);
        if !self.colour {
            return self.line(&wrapped);
        }
        let colour = if good { "32" } else { "31" };
        self.line(&format!("\u{1b}[1;{colour}m{wrapped}\u{1b}[0m"))
    }

    /// JSON, indented.
    pub(super) fn json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string_pretty(value)?)
    }

    /// JSON, on one line.
    pub(super) fn json_line(&self, value: &impl serde::Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    /// A table without rules, its columns as wide as they must be; an empty header is left out.
    pub(super) fn table(&self, header: &[&str], rows: Vec<Row>) -> io::Result<()> {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .force_no_tty()
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(u16::try_from(WIDTH).unwrap_or(u16::MAX))
            .add_rows(rows);
        if !header.is_empty() {
            table.set_header(header.to_vec());
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        if self.colour {
            table.enforce_styling();
        }
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// A host's state in a table.
pub(super) fn state_cell(state: HostState) -> Cell {
    let colour = match state {
        HostState::Converged => Color::Green,
        HostState::Pending | HostState::Held => Color::Yellow,
        HostState::Failed | HostState::Silent | HostState::Unspecified => Color::Red,
    };
    Cell::new(state_word(state)).fg(colour)
}

/// The word for a host's state, in text and in JSON.
pub(super) fn state_word(state: HostState) -> &'static str {
    match state {
        HostState::Converged => "converged",
        HostState::Held => "held",
        HostState::Failed => "failed",
        HostState::Silent => "silent",
        HostState::Pending | HostState::Unspecified => "pending",
    }
}

/// Breaks a text at spaces so that it fits, and in the middle of words that are longer than a line. A command in
/// backticks is kept on one line where that can be, so that it can be copied.
pub(super) fn wrap(text: &str, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    // What the line at hand may hold, and what it holds now, in characters.
    let mut used = 0;
    let begin = |lines: &mut Vec<String>, line: &mut String| {
        lines.push(std::mem::replace(line, " ".repeat(indent)));
        indent
    };
    for word in words(text, WIDTH - indent) {
        let mut word: Vec<char> = word.chars().collect();
        let gap = usize::from(used > 0 && !line.trim().is_empty());
        if used + gap + word.len() <= WIDTH {
            if gap == 1 {
                line.push(' ');
            }
        } else {
            if !line.trim().is_empty() {
                used = begin(&mut lines, &mut line);
            }
            while used + word.len() > WIDTH {
                line.extend(word.drain(..WIDTH - used));
                used = begin(&mut lines, &mut line);
            }
        }
        line.extend(&word);
        used = line.chars().count();
    }
    lines.push(line);
    lines.join("\n")
}

/// The words of a text, those between backticks taken together unless they are longer than `longest`.
fn words(text: &str, longest: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut quoted: Vec<&str> = Vec::new();
    for word in text.split_whitespace() {
        let opens_or_closes = word.matches('`').count() % 2 == 1;
        if quoted.is_empty() && !opens_or_closes {
            words.push(word.to_owned());
            continue;
        }
        quoted.push(word);
        if quoted.len() > 1 && opens_or_closes {
            let whole = quoted.join(" ");
            if whole.chars().count() <= longest {
                words.push(whole);
                quoted.clear();
            }
            words.extend(quoted.drain(..).map(str::to_owned));
        }
    }
    words.extend(quoted.into_iter().map(str::to_owned));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_the_screen_and_no_word_is_lost() {
        let long = format!("{} {} end of it", "a".repeat(200), "some words ".repeat(30));
        for indent in [0, 2, 7] {
            let wrapped = wrap(&long, indent);
            assert!(
                wrapped.lines().all(|line| line.chars().count() <= WIDTH),
                "{wrapped}"
            );
            let squeeze = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(squeeze(&wrapped), squeeze(&long));
            assert!(
                wrapped
                    .lines()
                    .skip(1)
                    .all(|line| line.starts_with(&" ".repeat(indent)))
            );
        }
    }

    #[test]
    fn commands_stay_on_one_line() {
        let text = format!("{} run `certwell resume media`, then wait", "x".repeat(60));
        let wrapped = wrap(&text, 2);
        assert_eq!(
            wrapped.lines().nth(1),
            Some("  `certwell resume media`, then wait")
        );
        for odd in ["a ` b c", "`a", "` `", &format!("`{} b`", "y".repeat(90))] {
            let squeeze = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(squeeze(&wrap(odd, 2)), squeeze(odd));
        }
    }

    #[test]
    fn a_text_of_exactly_one_line_stays_on_it() {
        let exact = format!("{} {}", "a".repeat(40), "b".repeat(39));
        assert_eq!(wrap(&exact, 2), exact);
        assert_eq!(wrap("", 2), "");
    }
}
