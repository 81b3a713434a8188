//! Pure: blanks out the Lua inside `*_by_lua_block { … }`.
//!
//! The parser reads Lua as if it were nginx's own words, and one apostrophe in a comment makes it lose the closing
//! brace. Nothing that we look for stands in Lua: it is replaced by blanks, lines and offsets kept.

use std::borrow::Cow;

const MARK: &str = "_by_lua_block";

/// The same text with Lua blocks emptied.
pub(crate) fn blanked(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains(MARK) {
        return text;
    }
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    while let Some(found) = find(&bytes, at, MARK.as_bytes()) {
        at = found + MARK.len();
        let open = bytes[at..]
            .iter()
            .position(|byte| !byte.is_ascii_whitespace())
            .map(|skip| at + skip);
        let Some(open) = open.filter(|open| bytes[*open] == b'{') else {
            continue;
        };
        let close = closing(&bytes, open + 1).unwrap_or(bytes.len());
        for byte in &mut bytes[open + 1..close] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = close;
    }
    // Whole characters are blanked, since braces are ASCII.
    String::from_utf8(bytes).map_or(text, Cow::Owned)
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes
        .get(from..)?
        .windows(what.len())
        .position(|window| window == what)
        .map(|at| from + at)
}

/// Where the block that begins at `at` has its closing brace, by Lua's own comments and strings.
fn closing(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 1_u32;
    loop {
        match *bytes.get(at)? {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            quote @ (b'"' | b'\'') => {
                at += 1;
                while *bytes.get(at)? != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = match long(bytes, at + 2) {
                    Some(end) => end?,
                    None => at + bytes[at..].iter().position(|byte| *byte == b'\n')?,
                };
            }
            b'[' => {
                if let Some(end) = long(bytes, at) {
                    at = end?;
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// A long bracket (`[[`, `[==[`) at `at`: the index of its last byte, or `Some(None)` when it never ends.
#[expect(
    clippy::option_option,
    reason = "no long bracket, an open one and a closed one are three cases"
)]
fn long(bytes: &[u8], at: usize) -> Option<Option<usize>> {
    if bytes.get(at) != Some(&b'[') {
        return None;
    }
    let level = bytes[at + 1..]
        .iter()
        .take_while(|byte| **byte == b'=')
        .count();
    if bytes.get(at + 1 + level) != Some(&b'[') {
        return None;
    }
    let end = [b"]".as_slice(), &vec![b'='; level], b"]"].concat();
    Some(find(bytes, at + 2 + level, &end).map(|found| found + end.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn apostrophes_and_braces_in_lua_do_not_hide_what_follows() {
        for lua in [
            "-- don't }\n local t = { a = '}' }",
            "--[[ it's } ]] x = [==[ }} ]] ]==]",
            "s = \"\\\"}\"",
            "",
        ] {
            let text = format!("content_by_lua_block {{{lua}}}\nlisten 80;");
            let blanked = blanked(Cow::Borrowed(&text));
            assert_eq!(blanked.len(), text.len());
            assert_eq!(blanked.matches('\n').count(), text.matches('\n').count());
            assert!(blanked.ends_with("}\nlisten 80;"), "{blanked:?}");
            assert!(!blanked.contains('\''), "{blanked:?}");
        }
    }

    proptest! {
        #[test]
        fn length_and_lines_stay(text in "(_by_lua_block|[{}\\[\\]='\" \n-]|é){0,60}") {
            let blanked = blanked(Cow::Borrowed(&text));
            prop_assert_eq!(blanked.len(), text.len());
            prop_assert_eq!(blanked.matches('\n').count(), text.matches('\n').count());
        }
    }
}
