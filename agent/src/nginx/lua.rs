//! Pure: where the Lua of a `*_by_lua_block { … }` ends.
//!
//! Lua has quotes, comments and braces of its own: read as nginx's words, an apostrophe in a comment would hide the
//! closing brace.

/// Whether a directive of this name has Lua in its block.
pub(super) fn is_block(name: &str) -> bool {
    name.ends_with("_by_lua_block")
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes
        .get(from..)?
        .windows(what.len())
        .position(|window| window == what)
        .map(|at| from + at)
}

/// Where the block that begins at `at` has its closing brace, by Lua's own comments and strings.
pub(super) fn closing(bytes: &[u8], mut at: usize) -> Option<usize> {
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
    fn apostrophes_and_braces_in_lua_do_not_hide_the_end() {
        for lua in [
            "-- don't }\n local t = { a = '}' }",
            "--[[ it's } ]] x = [==[ }} ]] ]==]",
            "s = \"\\\"}\"",
            "",
        ] {
            let text = format!("{lua}}}\nlisten 80;");
            assert_eq!(closing(text.as_bytes(), 0), Some(lua.len()), "{lua}");
        }
        assert_eq!(closing(b"x = '}'", 0), None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_a_brace(text in "([{}\\[\\]='\" \n-]|é){0,60}") {
            if let Some(end) = closing(text.as_bytes(), 0) {
                prop_assert_eq!(text.as_bytes()[end], b'}');
            }
        }
    }
}
