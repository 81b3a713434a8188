//! Mistakes in the files, shown where they are: path, line, column, the line itself, a caret, and what to do.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

use certwell_notice::hidden::secret_value;

/// A configuration file, as read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Where a value stands: which file, and which bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: usize,
    start: usize,
    end: usize,
}

impl Place {
    pub(super) fn new(file: usize, span: Range<usize>) -> Self {
        Self {
            file,
            start: span.start,
            end: span.end,
        }
    }
}

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, one fragment.
    pub problem: String,
    /// What to do, if that isn't plain from the problem.
    pub advice: Option<String>,
    /// Where in the file; `None` when the whole file is meant.
    pub excerpt: Option<Excerpt>,
    /// Whether the file can't be read at all.
    pub unreadable: bool,
}

/// The line of a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line's text.
    pub text: String,
    /// How many characters are meant; at least 1.
    pub width: usize,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(excerpt) = &self.excerpt else {
            write!(f, "{}: {}", self.path.display(), self.problem)?;
            return match &self.advice {
                Some(advice) => write!(f, "\n  = {advice}"),
                None => Ok(()),
            };
        };
        let Excerpt {
            line,
            column,
            text,
            width,
        } = excerpt;
        let margin = " ".repeat(line.to_string().len());
        let indent = " ".repeat(column - 1);
        let carets = "^".repeat(*width);
        writeln!(
            f,
            "{}:{line}:{column}: {}",
            self.path.display(),
            self.problem
        )?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{line} | {text}")?;
        write!(f, "{margin} | {indent}{carets}")?;
        match &self.advice {
            Some(advice) => write!(f, "\n{margin} = {advice}"),
            None => Ok(()),
        }
    }
}

/// All mistakes of a configuration, in the order of files and lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// At least one.
    pub mistakes: Vec<Mistake>,
}

impl ConfigErrors {
    /// The first mistake in one line, and how many more there are.
    pub fn summary(&self) -> String {
        let Some(first) = self.mistakes.first() else {
            return String::new();
        };
        let place = first
            .excerpt
            .as_ref()
            .map_or(String::new(), |e| format!(":{}:{}", e.line, e.column));
        let more = match self.mistakes.len() - 1 {
            0 => String::new(),
            1 => " (and one more mistake)".to_owned(),
            more => format!(" (and {more} more mistakes)"),
        };
        format!("{}{place}: {}{more}", first.path.display(), first.problem)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects mistakes while the files are read.
#[derive(Debug)]
pub(super) struct Mistakes<'s> {
    pub(super) sources: &'s [Source],
    list: Vec<(Option<Place>, Mistake)>,
}

impl<'s> Mistakes<'s> {
    pub(super) fn new(sources: &'s [Source]) -> Self {
        Self {
            sources,
            list: Vec::new(),
        }
    }

    /// A mistake at a place.
    pub(super) fn add(&mut self, place: Place, problem: impl Into<String>) {
        self.put(place, problem.into(), None);
    }

    /// A mistake at a place, and what to do about it.
    pub(super) fn advise(
        &mut self,
        place: Place,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.put(place, problem.into(), Some(advice.into()));
    }

    fn put(&mut self, place: Place, problem: String, advice: Option<String>) {
        let source = &self.sources[place.file];
        let excerpt = Some(excerpt(&source.text, place));
        self.list.push((
            Some(place),
            Mistake {
                path: source.path.clone(),
                problem,
                advice,
                excerpt,
                unreadable: false,
            },
        ));
    }

    /// A mistake of a file as a whole.
    pub(super) fn of_file(
        &mut self,
        path: PathBuf,
        problem: impl Into<String>,
        advice: Option<String>,
    ) {
        self.put_file(path, problem.into(), advice, false);
    }

    /// A file that nobody knows the content of.
    pub(super) fn unreadable(&mut self, path: PathBuf, why: &io::Error, advice: Option<String>) {
        self.put_file(path, format!("can't be read: {why}"), advice, true);
    }

    fn put_file(
        &mut self,
        path: PathBuf,
        problem: String,
        advice: Option<String>,
        unreadable: bool,
    ) {
        self.list.push((
            None,
            Mistake {
                path,
                problem,
                advice,
                excerpt: None,
                unreadable,
            },
        ));
    }

    /// `path:line` of a place, for a sentence about another one.
    pub(super) fn describe(&self, place: Place) -> String {
        let source = &self.sources[place.file];
        format!(
            "{}:{}",
            source.path.display(),
            excerpt(&source.text, place).line
        )
    }

    /// The file of a place.
    pub(super) fn path(&self, place: Place) -> &Path {
        &self.sources[place.file].path
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The error, if there is a mistake.
    pub(super) fn into_errors(mut self) -> Option<ConfigErrors> {
        if self.list.is_empty() {
            return None;
        }
        self.list
            .sort_by_key(|(place, _)| place.map(|place| (place.file, place.start)));
        Some(ConfigErrors {
            mistakes: self.list.into_iter().map(|(_, mistake)| mistake).collect(),
        })
    }
}

fn excerpt(text: &str, place: Place) -> Excerpt {
    let start = floor(text, place.start);
    let end = floor(text, place.end).max(start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    // A tab is one column, so that the caret stands under what it means.
    let line = text[line_start..line_end]
        .trim_end_matches('\r')
        .replace('\t', " ");
    let number = text[..start].matches('\n').count() + 1;
    // What is shown gets into logs: a secret on the line isn't.
    if let Some(value) = secret_value(&text[..line_start], &line) {
        let before = line[..value].chars().count();
        let column = text[line_start..start].chars().count();
        let is_behind = column >= before;
        return Excerpt {
            line: number,
            column: column.min(before) + 1,
            width: if is_behind {
                1
            } else {
                width(text, start, end.min(line_end)).min(before - column)
            },
            text: format!("{}…", &line[..value]),
        };
    }
    Excerpt {
        line: number,
        column: text[line_start..start].chars().count() + 1,
        width: width(text, start, end.min(line_end)),
        text: line,
    }
}

fn width(text: &str, start: usize, end: usize) -> usize {
    text[start..end].trim_end().chars().count().max(1)
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What was probably meant: the nearest of `known`, if it is near.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(from != *to))
                .min(above + 1)
                .min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

/// `a, b, c`, or the first dozen and how many more there are.
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(12);
    names.truncate(12);
    match more {
        0 => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_counts_characters_not_bytes() {
        let text = "a = 1\n\t\"ü\" = \"böse\"\n";
        let at = text.find("\"böse").unwrap();
        let found = excerpt(text, Place::new(0, at..at + "\"böse\"".len()));
        assert_eq!(
            found,
            Excerpt {
                line: 2,
                column: 8,
                text: " \"ü\" = \"böse\"".into(),
                width: 6
            }
        );
    }

    #[test]
    fn a_place_at_the_end_or_across_lines_still_has_a_caret() {
        assert_eq!(excerpt("ab", Place::new(0, 2..2)).column, 3);
        assert_eq!(excerpt("ab\ncd", Place::new(0, 1..5)).width, 1);
        assert_eq!(excerpt("", Place::new(0, 0..0)).line, 1);
        assert_eq!(excerpt("ü", Place::new(0, 1..9)).column, 1);
    }

    #[test]
    fn only_near_words_are_suggested() {
        assert_eq!(nearest("host", ["hosts", "authorities"]), Some("hosts"));
        assert_eq!(nearest("sallly", ["sally", "esme"]), Some("sally"));
        assert_eq!(nearest("colour", ["hosts", "authorities"]), None);
    }
}
