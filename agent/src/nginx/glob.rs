//! Pure: the patterns of `include`, as glob(3) without flags matches them: `*`, `?`, `[…]` and `\`, never across a
//! slash, and a leading dot only by itself.

/// Whether nginx takes this path for a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The part of a pattern that every path that it names begins with.
pub(crate) fn literal_prefix(pattern: &str) -> &str {
    let end = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
    pattern.get(..end).unwrap_or_default()
}

/// Whether `path` is among what `pattern` names.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let mut patterns = pattern.split('/');
    let mut parts = path.split('/');
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if component(pattern, part) => {}
            _ => return false,
        }
    }
}

fn component(pattern: &str, text: &str) -> bool {
    if text.starts_with('.') && !pattern.starts_with('.') && !pattern.starts_with("\\.") {
        return text.is_empty() && pattern.is_empty();
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // One way back suffices: a later star makes every earlier one moot.
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        if p == pattern.len() && t == text.len() {
            return true;
        }
        if pattern.get(p) == Some(&'*') {
            back = Some((p + 1, t));
            p += 1;
            continue;
        }
        if let Some((next, true)) = text
            .get(t)
            .and_then(|character| one(&pattern, p, *character))
        {
            p = next;
            t += 1;
            continue;
        }
        match back {
            Some((star, from)) if from < text.len() => {
                back = Some((star, from + 1));
                p = star;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

/// Where the pattern goes on after its element at `p`, and whether that element takes `character`.
fn one(pattern: &[char], p: usize, character: char) -> Option<(usize, bool)> {
    match *pattern.get(p)? {
        '?' => Some((p + 1, true)),
        '[' => Some(set(pattern, p, character).unwrap_or((p + 1, character == '['))),
        '\\' if p + 1 < pattern.len() => Some((p + 2, pattern[p + 1] == character)),
        plain => Some((p + 1, plain == character)),
    }
}

/// A bracket expression; `None` when it isn't closed, so that `[` stands for itself.
fn set(pattern: &[char], open: usize, character: char) -> Option<(usize, bool)> {
    let mut at = open + 1;
    let negated = matches!(pattern.get(at), Some('!' | '^'));
    if negated {
        at += 1;
    }
    let first = at;
    let mut found = false;
    loop {
        let low = *pattern.get(at)?;
        if low == ']' && at > first {
            return Some((at + 1, found != negated));
        }
        let high = pattern
            .get(at + 2)
            .filter(|high| pattern.get(at + 1) == Some(&'-') && **high != ']');
        match high {
            Some(high) => {
                found |= (low..=*high).contains(&character);
                at += 3;
            }
            None => {
                found |= low == character;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_the_shell_does() {
        for (pattern, path, expected) in [
            ("/e/conf.d/*.conf", "/e/conf.d/a.conf", true),
            ("/e/conf.d/*.conf", "/e/conf.d/.a.conf", false),
            ("/e/conf.d/.*.conf", "/e/conf.d/.a.conf", true),
            ("/e/conf.d/*.conf", "/e/conf.d/a.conf.bak", false),
            ("/e/*", "/e/a/b", false),
            ("/e/*/b", "/e/a/b", true),
            ("/e/[a-c]?[!x]", "/e/bzy", true),
            ("/e/[a-c]?[!x]", "/e/bzx", false),
            ("/e/[]]", "/e/]", true),
            ("/e/[", "/e/[", true),
            ("/e/\\*", "/e/*", true),
            ("/e/\\*", "/e/a", false),
            ("/e/*a*b*", "/e/xaxxbx", true),
            ("/e/*a*b", "/e/xbxa", false),
            ("/e/*", "/e/", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_path_matches_itself_escaped_and_nothing_panics(path in "/[a-z/.*?\\[\\]\\\\-]{0,30}", pattern in "[a-z/.*?\\[\\]!\\\\-]{0,30}") {
            let escaped: String = path.chars().flat_map(|c| (!"/.".contains(c)).then_some('\\').into_iter().chain([c])).collect();
            prop_assert!(matches(&escaped, &path));
            let _ = matches(&pattern, &path);
        }
    }
}
