//! Pure: a configuration file cut into directives as nginx itself cuts it (`ngx_conf_read_token`).
//!
//! A quote, a brace or a `#` means something only where a word begins; inside one it is a character like any other, as
//! in `location ~ ^/[^']+$`. What nginx would refuse is still read: only what is close to the mistake is lost.

use std::borrow::Cow;

use super::lua;

/// What the text goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A directive that ends with `;`.
    Simple(Words<'a>),
    /// A directive that opens a block.
    Opens(Words<'a>),
    /// The end of a block.
    Closes,
}

/// The words of a directive, its name first, unquoted; none where a block has no name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words<'a> {
    pub(super) words: Vec<Cow<'a, str>>,
    /// Where the first of them begins, counted from 1.
    pub(super) line: u32,
}

/// Goes through the text of one file.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    /// The first mistake: its line, and what it is.
    pub(super) mistake: Option<(u32, &'static str)>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            // nginx knows no byte-order mark; a file that it takes has one in a comment at most.
            text: text.strip_prefix('\u{feff}').unwrap_or(text),
            at: 0,
            line: 1,
            mistake: None,
        }
    }

    pub(super) fn mistaken(&mut self, what: &'static str) {
        self.mistake.get_or_insert((self.line, what));
    }

    /// How far it came, in bytes: right behind the last item.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn advance(&mut self, to: usize) {
        let to = to.min(self.text.len());
        let passed = self.text.as_bytes().get(self.at..to).unwrap_or_default();
        let lines = passed.iter().filter(|byte| **byte == b'\n').count();
        self.line = self
            .line
            .saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.at = to;
    }

    /// Past blanks and comments.
    fn skip(&mut self) {
        while let Some(byte) = self.peek() {
            if is_blank(byte) {
                self.advance(self.at + 1);
            } else if byte == b'#' {
                let rest = &self.text.as_bytes()[self.at..];
                let length = rest.iter().position(|byte| *byte == b'\n');
                self.advance(self.at + length.unwrap_or(rest.len()));
            } else {
                return;
            }
        }
    }

    /// One word, which begins here, and what is right behind it.
    fn word(&mut self) -> Cow<'a, str> {
        if let Some(quote @ (b'"' | b'\'')) = self.peek() {
            let from = self.at + 1;
            if let Some(end) = self.closing_quote(from, quote) {
                self.advance(end + 1);
                return unescaped(self.text.get(from..end).unwrap_or_default());
            }
            // Left as a character of the word, so that it doesn't take the rest of the file along.
            self.mistaken("a quote that doesn't end");
        }
        let bytes = self.text.as_bytes();
        let from = self.at;
        let mut at = from;
        let mut variable = false;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'{' if variable => {}
                b'{' | b';' => break,
                byte if is_blank(*byte) => break,
                // Whatever is escaped belongs to the word.
                b'\\' => at += 1,
                _ => {}
            }
            variable = *byte == b'$' || (variable && *byte == b'{');
            at += 1;
        }
        self.advance(at);
        unescaped(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Where the quoted word that began at `from` ends; none if it doesn't, or ends where nginx refuses an end.
    fn closing_quote(&self, from: usize, quote: u8) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = from;
        while *bytes.get(at)? != quote {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        let ends = |byte: &u8| is_blank(*byte) || matches!(byte, b';' | b'{' | b')');
        bytes.get(at + 1).is_none_or(ends).then_some(at)
    }

    fn directive(&mut self, words: Words<'a>, opens: bool) -> Item<'a> {
        if !opens {
            return Item::Simple(words);
        }
        let by_lua = words.words.first().is_some_and(|name| lua::is_block(name));
        if by_lua {
            // Lua has quotes and comments of its own; nothing that we look for stands in it.
            let end = lua::closing(self.text.as_bytes(), self.at);
            self.advance(end.unwrap_or(self.text.len()));
        }
        Item::Opens(words)
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let mut found = Words::default();
        loop {
            self.skip();
            let Some(byte) = self.peek() else {
                if found.words.is_empty() {
                    return None;
                }
                self.mistaken("the last directive doesn't end");
                return Some(Item::Simple(found));
            };
            match byte {
                b';' | b'{' => {
                    let line = self.line;
                    self.advance(self.at + 1);
                    if !found.words.is_empty() {
                        return Some(self.directive(found, byte == b'{'));
                    }
                    self.mistaken("a directive has no name");
                    if byte == b'{' {
                        found.line = line;
                        return Some(Item::Opens(found));
                    }
                }
                b'}' if found.words.is_empty() => {
                    self.advance(self.at + 1);
                    return Some(Item::Closes);
                }
                b'}' => {
                    self.mistaken("a directive doesn't end before its block does");
                    return Some(Item::Simple(found));
                }
                _ => {
                    if found.words.is_empty() {
                        found.line = self.line;
                    }
                    let word = self.word();
                    found.words.push(word);
                }
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The escapes that nginx itself knows; any other backslash stays, as regular expressions need it.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some(quoted @ ('"' | '\'' | '\\')) => out.push(quoted),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('n') => out.push('\n'),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Vec<String> {
        Lexer::new(text)
            .map(|item| match item {
                Item::Simple(found) => format!("{}: {}", found.line, found.words.join("|")),
                Item::Opens(found) => format!("{}: {} {{", found.line, found.words.join("|")),
                Item::Closes => "}".to_owned(),
            })
            .collect()
    }

    #[test]
    fn words_are_cut_as_nginx_cuts_them() {
        for (text, expected) in [
            ("a b\tc\r\nd;", "1: a|b|c|d"),
            ("a \"b c\" 'd;{';", "1: a|b c|d;{"),
            ("a ~*it's b\"c d#e f}g;", "1: a|~*it's|b\"c|d#e|f}g"),
            ("a \\;b c\\ d \\\"e\\n;", "1: a|\\;b|c\\ d|\"e\n"),
            ("a ${b}c $d{", "1: a|${b}c|$d {"),
            ("\"a\" '' b;", "1: a||b"),
            ("# x\n\n  a b # c ; d\n  e;", "3: a|b|e"),
            ("if ($a = \"b)\") {", "1: if|($a|=|b)|) {"),
            ("\u{feff}a é;", "1: a|é"),
        ] {
            assert_eq!(shown(text)[0], expected, "{text:?}");
        }
    }

    #[test]
    fn a_mistake_costs_what_is_close_to_it_and_is_said_once() {
        for (text, line, expected) in [
            ("a 'b;\nc d;", 1, vec!["1: a|'b", "2: c|d"]),
            (
                "a 'b;\nc 'd;\ne f;",
                1,
                vec!["1: a|'b", "2: c|'d", "3: e|f"],
            ),
            (";\na;", 1, vec!["2: a"]),
            ("a {\n b }", 2, vec!["1: a {", "2: b", "}"]),
            ("a;\nb", 2, vec!["1: a", "2: b"]),
            ("{ a; }", 1, vec!["1:  {", "1: a", "}"]),
        ] {
            let mut lexer = Lexer::new(text);
            lexer.by_ref().for_each(drop);
            assert_eq!(lexer.mistake.map(|(line, _)| line), Some(line), "{text:?}");
            assert_eq!(shown(text), expected, "{text:?}");
        }
        let mut sound = Lexer::new("a 'b' \"c\"; d { e; }");
        sound.by_ref().for_each(drop);
        assert_eq!(sound.mistake, None);
    }

    #[test]
    fn lua_is_passed_over_by_its_own_rules() {
        let text = "content_by_lua_block {\n -- don't }\n x = { '}' } }\nlisten 80;";
        assert_eq!(
            shown(text),
            ["1: content_by_lua_block {", "}", "4: listen|80"]
        );
    }

    proptest! {
        #[test]
        fn every_text_ends_and_lines_are_counted(text in "(?s)[a-z{};#\"'$\\\\ \n\r]{0,200}|\\PC{0,100}") {
            let mut lexer = Lexer::new(&text);
            lexer.by_ref().for_each(drop);
            prop_assert_eq!(lexer.at, lexer.text.len());
            prop_assert_eq!(lexer.line as usize, text.matches('\n').count() + 1);
        }

        #[test]
        fn what_is_quoted_comes_back_as_it_was(words in proptest::collection::vec("[a-z{};#\"' é\n$]{0,12}", 1..6)) {
            let text: String = words.iter().map(|word| format!("\"{}\" ", word.replace('"', "\\\""))).collect();
            let items: Vec<_> = Lexer::new(&format!("{text};")).collect::<Vec<_>>().into_iter().map(|item| match item {
                Item::Simple(found) => found.words.into_iter().map(Cow::into_owned).collect::<Vec<_>>(),
                _ => Vec::new(),
            }).collect();
            prop_assert_eq!(items, vec![words]);
        }
    }
}
