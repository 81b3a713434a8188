//! Pure: one file's bytes with the includes where they belong. Nothing else of it changes.

use std::{ops::Range, path::Path};

use super::layout::{Block, Layout, Simple};

/// What is wanted of one file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Server blocks that are to begin with the include: the line, and how many on the same line come before.
    pub(super) first: Vec<(u32, usize)>,
    /// Lines of includes that come too late: each is taken out where it says nothing else.
    pub(super) late: Vec<u32>,
    /// The line of the `http` block that is to include this file.
    pub(super) map: Option<(u32, String)>,
}

/// One edit: these bytes are replaced by that text.
type Edit = (Range<usize>, String);

/// The edited bytes; the error is a sentence's end, such as "line 3 isn't understood (…)".
pub(super) fn edited(bytes: &[u8], wishes: &Wishes, include: &str) -> Result<Vec<u8>, String> {
    let layout = Layout::of(bytes)
        .map_err(|(line, what)| format!("line {line} isn't understood ({what})"))?;
    let newline = newline(bytes);
    let mut edits: Vec<Edit> = Vec::new();
    for (line, nth) in &wishes.first {
        let servers = layout.blocks_at("server", *line);
        // A file that is included twice shows each of its blocks twice.
        match servers.get(*nth) {
            Some(server) => edits.push(first(bytes, server, include, newline)),
            None if *nth > 0 && !servers.is_empty() => {}
            None => return Err(format!("line {line} begins no server block any more")),
        }
    }
    for line in &wishes.late {
        let late = layout.simple.iter().filter(|found| found.line == *line);
        edits.extend(
            late.filter(|found| is_include(found))
                .map(|found| without(bytes, found)),
        );
    }
    if let Some((line, include)) = &wishes.map {
        let http = layout.blocks_at("http", *line);
        let http = http
            .first()
            .ok_or_else(|| format!("line {line} begins no http block any more"))?;
        edits.push(last(bytes, http, include, newline));
    }
    edits.sort_by_key(|(range, _)| std::cmp::Reverse((range.start, range.end)));
    let mut out = bytes.to_vec();
    for (range, text) in edits {
        out.splice(range, text.into_bytes());
    }
    Ok(out)
}

/// Whether it includes the snippet, and nothing besides.
fn is_include(found: &Simple) -> bool {
    let named = |path: &String| {
        let path = Path::new(path);
        path.file_name()
            .is_some_and(|name| name == "certwell-acme.conf")
            && path
                .parent()
                .is_some_and(|parent| parent.ends_with("snippets"))
    };
    matches!(found.words.as_slice(), [name, path] if name == "include" && named(path))
}

/// Ahead of all else in a block: on a line of its own where the block's `{` ends one.
fn first(bytes: &[u8], server: &Block, include: &str, newline: &str) -> Edit {
    let at = server.inside.start;
    match end_of_blank_line(bytes, at) {
        Some(next) if next <= server.inside.end => {
            let indent = indent_after(bytes, next)
                .unwrap_or_else(|| format!("{}    ", indent_of_line(bytes, at)));
            (next..next, format!("{indent}{include}{newline}"))
        }
        _ => (at..at, format!(" {include}")),
    }
}

/// Behind all else in a block: a map may not come ahead of settings like `map_hash_bucket_size`.
fn last(bytes: &[u8], block: &Block, include: &str, newline: &str) -> Edit {
    let at = block.inside.end;
    let line = line_start(bytes, at);
    if line < block.inside.start || !is_blank(&bytes[line..at]) {
        let space = if bytes[..at].ends_with(b" ") { "" } else { " " };
        return (at..at, format!("{space}{include} "));
    }
    let own =
        end_of_blank_line(bytes, block.inside.start).and_then(|next| indent_after(bytes, next));
    let indent = own.unwrap_or_else(|| format!("{}    ", indent_of_line(bytes, at)));
    (line..line, format!("{indent}{include}{newline}"))
}

/// With its line, where nothing else stands there.
fn without(bytes: &[u8], found: &Simple) -> Edit {
    let Range { start, end } = found.span.clone();
    let line = line_start(bytes, start);
    let next = line_end(bytes, end);
    if is_blank(&bytes[line..start]) && is_blank(&bytes[end..next]) {
        return (line..next, String::new());
    }
    let space = usize::from(bytes.get(end) == Some(&b' '));
    (start..end + space, String::new())
}

/// As most of the file has it: as its first line does.
fn newline(bytes: &[u8]) -> &'static str {
    let first = bytes.iter().position(|byte| *byte == b'\n');
    match first {
        Some(at) if at > 0 && bytes[at - 1] == b'\r' => "\r\n",
        _ => "\n",
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_whitespace)
}

fn line_start(bytes: &[u8], at: usize) -> usize {
    bytes[..at]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |found| found + 1)
}

/// Behind the end of the line.
fn line_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes[at..].iter().position(|byte| *byte == b'\n');
    rest.map_or(bytes.len(), |found| at + found + 1)
}

/// Behind the end of the line, where nothing but blanks or a comment is left of it.
fn end_of_blank_line(bytes: &[u8], at: usize) -> Option<usize> {
    let end = line_end(bytes, at);
    let rest = bytes[at..end].trim_ascii();
    (bytes[..end].ends_with(b"\n") && (rest.is_empty() || rest.starts_with(b"#"))).then_some(end)
}

/// Of the first line from here on that isn't blank; none where it ends a block.
fn indent_after(bytes: &[u8], from: usize) -> Option<String> {
    let mut at = from;
    while at < bytes.len() {
        let end = line_end(bytes, at);
        let line = &bytes[at..end];
        if !is_blank(line) {
            let is_end = line.trim_ascii_start().starts_with(b"}");
            return (!is_end).then(|| indent_of_line(bytes, at));
        }
        at = end;
    }
    None
}

fn indent_of_line(bytes: &[u8], at: usize) -> String {
    let line = &bytes[line_start(bytes, at)..];
    let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
    blanks.map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INCLUDE: &str = "include snippets/certwell-acme.conf;";

    fn with(text: &str, wishes: &Wishes) -> String {
        let out = edited(text.as_bytes(), wishes, INCLUDE).unwrap();
        String::from_utf8(out).unwrap().replace(INCLUDE, "I;")
    }

    fn first_at(line: u32) -> Wishes {
        Wishes {
            first: vec![(line, 0)],
            ..Wishes::default()
        }
    }

    #[test]
    fn the_include_is_the_first_thing_in_the_block_as_its_neighbours_are_written() {
        for (text, line, expected) in [
            (
                "server {\n  listen 80;\n}\n",
                1,
                "server {\n  I;\n  listen 80;\n}\n",
            ),
            (
                "server {\n\tlisten 80;\n}\n",
                1,
                "server {\n\tI;\n\tlisten 80;\n}\n",
            ),
            (
                "server {\r\n  listen 80;\r\n}\r\n",
                1,
                "server {\r\n  I;\r\n  listen 80;\r\n}\r\n",
            ),
            (
                "server { # main {\n\n   listen 80;\n}",
                1,
                "server { # main {\n   I;\n\n   listen 80;\n}",
            ),
            ("server\n{\n  a;\n}", 1, "server\n{\n  I;\n  a;\n}"),
            (
                "server{listen 80;return 301 x;}",
                1,
                "server{ I;listen 80;return 301 x;}",
            ),
            ("server { listen 80; }", 1, "server { I; listen 80; }"),
            (
                "  server { listen 80;\n }",
                1,
                "  server { I; listen 80;\n }",
            ),
            ("\n  server {\n  }\n", 2, "\n  server {\n      I;\n  }\n"),
            (
                "http { server {\n    # c\n    a; } }",
                1,
                "http { server {\n    I;\n    # c\n    a; } }",
            ),
        ] {
            assert_eq!(with(text, &first_at(line)), expected, "{text:?}");
        }
        let several = Wishes {
            first: vec![(1, 1), (2, 0)],
            ..Wishes::default()
        };
        let text = "server { a; } server { b; }\nserver { c; }\n";
        assert_eq!(
            with(text, &several),
            "server { a; } server { I; b; }\nserver { I; c; }\n"
        );
        // Shown twice by nginx, since it is included twice.
        let twice = Wishes {
            first: vec![(1, 0), (1, 1)],
            ..Wishes::default()
        };
        assert_eq!(with("server { a; }", &twice), "server { I; a; }");
    }

    #[test]
    fn an_include_that_comes_too_late_goes_where_it_says_nothing_else() {
        for (text, late, expected) in [
            (
                "server {\n  return 301 x;\n  include snippets/certwell-acme.conf;\n  a;\n}\n",
                3,
                "server {\n  I;\n  return 301 x;\n  a;\n}\n",
            ),
            (
                "server {\n  return 301 x; include /etc/nginx/snippets/certwell-acme.conf; a;\n}\n",
                2,
                "server {\n  I;\n  return 301 x; a;\n}\n",
            ),
            (
                "server {\n  a;\n  include snippets/certwell-acme.conf; # ours\n}\n",
                3,
                "server {\n  I;\n  a;\n  # ours\n}\n",
            ),
            // What else it brings isn't known.
            (
                "server {\n  a;\n  include snippets/all.conf;\n}\n",
                3,
                "server {\n  I;\n  a;\n  include snippets/all.conf;\n}\n",
            ),
        ] {
            let wishes = Wishes {
                late: vec![late],
                ..first_at(1)
            };
            assert_eq!(with(text, &wishes), expected, "{text:?}");
        }
    }

    #[test]
    fn the_map_is_included_behind_all_else() {
        for (text, expected) in [
            (
                "http {\n  a;\n  b { }\n}\n",
                "http {\n  a;\n  b { }\n  include m;\n}\n",
            ),
            ("http { a; }", "http { a; include m; }"),
            ("http {a;}", "http {a; include m; }"),
            ("http {\n}\n", "http {\n    include m;\n}\n"),
            ("http {\n\ta; }\n", "http {\n\ta; include m; }\n"),
        ] {
            let wishes = Wishes {
                map: Some((1, "include m;".into())),
                ..Wishes::default()
            };
            assert_eq!(with(text, &wishes), expected, "{text:?}");
        }
    }

    #[test]
    fn what_changed_meanwhile_or_is_not_understood_is_not_edited() {
        for (text, wishes) in [
            ("\nserver { }", first_at(1)),
            ("server {", first_at(1)),
            (
                "x { }",
                Wishes {
                    map: Some((1, String::new())),
                    ..Wishes::default()
                },
            ),
        ] {
            assert!(edited(text.as_bytes(), &wishes, INCLUDE).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_the_include_is_added(
            before in "(a;|# b\n|[ \t\n]){0,6}", gap in "[ \t\r\n]{0,4}(# c\n)?",
            inside in "([ \t\n]|a b;|l \\{ c; \\}|# d\n|'\\};' e;){0,8}", tail in "\n?[ \t]*"
        ) {
            let head = format!("{before} server {{{gap}{inside}");
            let text = if head.trim_end_matches([' ', '\t']).ends_with("\n") { format!("{head}}}{tail}") } else { format!("{head}\n}}{tail}") };
            let layout = Layout::of(text.as_bytes()).unwrap();
            let server = layout.blocks.iter().find(|block| block.name == "server").unwrap();
            let out = with(&text, &first_at(server.line));
            prop_assert_eq!(out.matches("I;").count(), 1);
            let squeezed = |text: &str| text.replace("I;", "").split_whitespace().collect::<String>();
            prop_assert_eq!(squeezed(&out), squeezed(&text));
            // nginx reads it first.
            let layout = Layout::of(out.as_bytes()).unwrap();
            let server = layout.blocks.iter().find(|block| block.name == "server").unwrap();
            let inside = layout.simple.iter().find(|found| found.span.start >= server.inside.start);
            prop_assert_eq!(&inside.unwrap().words[0], "I");
        }
    }
}
