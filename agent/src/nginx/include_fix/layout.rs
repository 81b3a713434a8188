//! Pure: where the blocks and directives of one file begin and end.

use std::ops::Range;

use crate::nginx::lexer::{Item, Lexer};

/// One file, by offsets in bytes.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// In the order in which they begin.
    pub(super) blocks: Vec<Block>,
    /// Directives without a block.
    pub(super) simple: Vec<Simple>,
}

/// A block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) name: String,
    /// Where its name stands, counted from 1.
    pub(super) line: u32,
    /// From behind its `{` to before its `}`.
    pub(super) inside: Range<usize>,
}

/// A directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Simple {
    pub(super) words: Vec<String>,
    pub(super) line: u32,
    /// From its name to behind its `;`.
    pub(super) span: Range<usize>,
}

impl Layout {
    /// The error is the line of the first thing that isn't understood, and what it is.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, (u32, &'static str)> {
        // Byte for byte, so that offsets hold: nothing that nginx's own language needs lies outside of ASCII.
        let text: String = bytes
            .iter()
            .map(|byte| {
                if byte.is_ascii() {
                    char::from(*byte)
                } else {
                    'x'
                }
            })
            .collect();
        let mut lexer = Lexer::new(&text);
        let mut layout = Self::default();
        let mut open: Vec<usize> = Vec::new();
        loop {
            let from = lexer.at();
            let Some(item) = lexer.next() else { break };
            let to = lexer.at();
            match item {
                Item::Simple(words) => layout.simple.push(Simple {
                    words: words.words.iter().map(ToString::to_string).collect(),
                    line: words.line,
                    span: begin(&text, from)..to,
                }),
                Item::Opens(words) => {
                    open.push(layout.blocks.len());
                    layout.blocks.push(Block {
                        name: words
                            .words
                            .first()
                            .map(ToString::to_string)
                            .unwrap_or_default(),
                        line: words.line,
                        inside: to..to,
                    });
                }
                Item::Closes => match open.pop() {
                    Some(at) => layout.blocks[at].inside.end = to - 1,
                    None => lexer.mistaken("a block ends that didn't begin"),
                },
            }
        }
        if !open.is_empty() {
            lexer.mistaken("a block doesn't end before its file does");
        }
        match lexer.mistake {
            None => Ok(layout),
            Some(mistake) => Err(mistake),
        }
    }

    /// The blocks of this name that begin on this line.
    pub(super) fn blocks_at(&self, name: &str, line: u32) -> Vec<&Block> {
        let found = self.blocks.iter();
        found
            .filter(|block| block.name == name && block.line == line)
            .collect()
    }
}

/// Past blanks and comments.
fn begin(text: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        at += blank;
        let rest = &rest[blank..];
        if !rest.starts_with('#') {
            return at;
        }
        at += rest.find('\n').unwrap_or(rest.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_directives_are_found_to_the_byte() {
        let text = b"# caf\xe9 {\nhttp{ a b; # c;\n  server # d {\n  { e 'f;}' \"{\"; }\n}\n";
        let layout = Layout::of(text).unwrap();
        let cut = |range: &Range<usize>| String::from_utf8_lossy(&text[range.clone()]).into_owned();
        let simple: Vec<_> = layout
            .simple
            .iter()
            .map(|found| (found.line, cut(&found.span)))
            .collect();
        assert_eq!(
            simple,
            [(2, "a b;".to_owned()), (4, "e 'f;}' \"{\";".to_owned())]
        );
        assert_eq!(layout.simple[1].words, ["e", "f;}", "{"]);
        let server = layout.blocks_at("server", 3);
        assert_eq!(cut(&server[0].inside), " e 'f;}' \"{\"; ");
        let http = &layout.blocks_at("http", 2)[0].inside;
        assert!(cut(http).starts_with(" a b;") && cut(http).ends_with("; }\n"));
        assert!(layout.blocks_at("server", 4).is_empty());
    }

    #[test]
    fn what_is_not_understood_is_said_with_its_line() {
        for (text, line) in [("a {\n b;\n", 3), ("a;\n}", 2), ("a 'b;", 1)] {
            assert_eq!(Layout::of(text.as_bytes()).unwrap_err().0, line, "{text:?}");
        }
    }
}
