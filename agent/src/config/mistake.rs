//! A mistake in the configuration, shown with its line and a caret.

use std::{fmt, ops::Range, path::PathBuf};

use certwell_notice::hidden::secret_value;

/// One mistake, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The whole line.
    pub source: String,
    /// How many characters the caret underlines, at least 1.
    pub width: usize,
    /// What is wrong, and what may stand there instead.
    pub problem: String,
}

impl Mistake {
    /// The mistake at `span`, byte offsets into `text`.
    pub(super) fn at(text: &str, span: Range<usize>, problem: impl Into<String>) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let source = text[line_start..line_end].trim_end_matches('\r').to_owned();
        let indent = text[line_start..start].chars().count();
        let room = source.chars().count().saturating_sub(indent).max(1);
        let wanted = text
            .get(start..span.end)
            .map_or(1, |spanned| spanned.chars().count());
        let number = before.matches('\n').count() + 1;
        // What is shown gets into logs: a secret on the line isn't.
        if let Some(value) = secret_value(&text[..line_start], &source) {
            let kept = source[..value].chars().count();
            return Self {
                line: number,
                column: indent.min(kept) + 1,
                width: if indent < kept {
                    wanted.clamp(1, kept - indent)
                } else {
                    1
                },
                source: format!("{}…", &source[..value]),
                problem: problem.into(),
            };
        }
        Self {
            line: number,
            column: indent + 1,
            source,
            width: wanted.clamp(1, room),
            problem: problem.into(),
        }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path} can't be read: {source}; make it with the defaults of certwell-agent, or give its place with --config", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// It holds mistakes, at least one.
    #[error("{}", Shown { path, mistakes })]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// In the order of their lines.
        mistakes: Vec<Mistake>,
    },
}

struct Shown<'a> {
    path: &'a PathBuf,
    mistakes: &'a [Mistake],
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let Mistake {
                line,
                column,
                source,
                width,
                problem,
            } = mistake;
            let margin = line.to_string().len();
            writeln!(f, "{}:{line}:{column}: {problem}", self.path.display())?;
            writeln!(f, " {line} | {source}")?;
            // Tabs are kept, so that the caret stands under its word however wide they are drawn.
            let indent: String = source
                .chars()
                .take(column - 1)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, " {:margin$} | {indent}{}", "", "^".repeat(*width))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_word() {
        let text = "a = 1\n\tkey = \"väl\"\n";
        let start = text.find("\"v").unwrap();
        let mistake = Mistake::at(text, start..start + 6, "is no number");
        let shown = Shown {
            path: &"/x.toml".into(),
            mistakes: &[mistake],
        }
        .to_string();
        assert_eq!(
            shown,
            "/x.toml:2:8: is no number\n 2 | \tkey = \"väl\"\n   | \t      ^^^^^"
        );
    }

    #[test]
    fn a_span_past_the_end_is_drawn_at_the_end() {
        let mistake = Mistake::at("a = ", 40..50, "more is needed");
        assert_eq!((mistake.line, mistake.column, mistake.width), (1, 5, 1));
    }
}
