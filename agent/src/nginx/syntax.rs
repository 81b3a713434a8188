//! Pure: the text of `nginx -T` to a tree of directives, includes resolved in context.
//!
//! The dump holds each file once, however often it is included, and nginx's own `include` patterns are all answered
//! by files of the dump: no file system is needed to resolve them.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use nginx_lint_parser::{
    ast::{Argument, ArgumentValue, ConfigItem},
    parse_string_with_errors,
};

use super::{glob, lua, servers::Place};

/// nginx refuses a file that includes itself; this stops what a damaged dump could pretend.
const INCLUDE_DEPTH: usize = 32;
/// Real blocks nest about six deep; the parser recurses, so a hostile file must not choose the depth.
const BLOCK_DEPTH: usize = 100;

/// A directive, its arguments unquoted, its variables unexpanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) line: u32,
    pub(crate) block: Option<Vec<Directive>>,
}

/// All files of a dump, parsed.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The file that nginx was started with.
    root: PathBuf,
    files: BTreeMap<PathBuf, Vec<Directive>>,
    pub(crate) warnings: Vec<String>,
}

/// A directive as it takes effect in a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effective<'a> {
    pub(crate) directive: &'a Directive,
    /// The file that it stands in.
    pub(crate) file: &'a Path,
    /// Where it enters the block: itself, or the outermost include that brings it.
    pub(crate) enters: (&'a Path, u32),
}

impl Effective<'_> {
    pub(crate) fn place(&self) -> Place {
        Place {
            file: self.file.to_owned(),
            line: self.directive.line,
        }
    }

    pub(crate) fn entry(&self) -> Place {
        Place {
            file: self.enters.0.to_owned(),
            line: self.enters.1,
        }
    }
}

impl Tree {
    /// Parses every file of a dump. Whatever can't be parsed is said in `warnings`, the rest is used.
    pub(crate) fn parse(dump: &str) -> Self {
        let mut tree = Self::default();
        for (path, text) in split(dump) {
            if tree.root.as_os_str().is_empty() {
                tree.root.clone_from(&path);
            }
            let directives = parse_file(&path, text, &mut tree.warnings);
            tree.files.insert(path, directives);
        }
        tree
    }

    /// Paths of all files, the root first.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let others = self
            .files
            .keys()
            .filter(|path| **path != self.root)
            .cloned();
        Some(self.root.clone())
            .filter(|root| !root.as_os_str().is_empty())
            .into_iter()
            .chain(others)
            .collect()
    }

    /// The directory of the root file: relative includes and certificates are relative to it.
    pub(crate) fn absolute(&self, path: &str) -> PathBuf {
        let directory = self.root.parent().unwrap_or(Path::new("/"));
        normal(&directory.join(path))
    }

    /// The root file's directives, includes resolved.
    pub(crate) fn top(&self) -> Vec<Effective<'_>> {
        let mut out = Vec::new();
        if let Some((root, items)) = self.files.get_key_value(&self.root) {
            self.collect(root, items, None, 0, &mut out);
        }
        out
    }

    /// The directives of a block, includes resolved.
    pub(crate) fn inside<'a>(&'a self, outer: Effective<'a>) -> Vec<Effective<'a>> {
        let mut out = Vec::new();
        if let Some(block) = &outer.directive.block {
            self.collect(outer.file, block, None, 0, &mut out);
        }
        out
    }

    fn collect<'a>(
        &'a self,
        file: &'a Path,
        items: &'a [Directive],
        enters: Option<(&'a Path, u32)>,
        depth: usize,
        out: &mut Vec<Effective<'a>>,
    ) {
        for directive in items {
            let entry = enters.unwrap_or((file, directive.line));
            if directive.name != "include" || directive.block.is_some() {
                out.push(Effective {
                    directive,
                    file,
                    enters: entry,
                });
            } else if depth < INCLUDE_DEPTH {
                for pattern in &directive.args {
                    for (path, inner) in self.included(pattern) {
                        self.collect(path, inner, Some(entry), depth + 1, out);
                    }
                }
            }
        }
    }

    /// The files that an include names, in the order in which nginx reads them.
    fn included(&self, pattern: &str) -> impl Iterator<Item = (&PathBuf, &Vec<Directive>)> {
        let pattern = self.absolute(pattern);
        let pattern = pattern.to_string_lossy().into_owned();
        let plain = !glob::is_pattern(&pattern);
        self.files.iter().filter(move |(path, _)| {
            let path = path.to_string_lossy();
            if plain {
                path == pattern
            } else {
                glob::matches(&pattern, &path)
            }
        })
    }
}

/// The files of a dump, cut at nginx's own header lines.
fn split(dump: &str) -> Vec<(PathBuf, &str)> {
    let mut files: Vec<(PathBuf, usize, usize)> = Vec::new();
    let mut at = 0;
    for line in dump.split_inclusive('\n') {
        let path = line
            .trim_end_matches(['\n', '\r'])
            .strip_prefix("# configuration file /")
            .and_then(|rest| rest.strip_suffix(':'))
            .map(|rest| normal(&Path::new("/").join(rest)))
            // Each file is shown once: a second header of the same is a comment inside some file.
            .filter(|path| !files.iter().any(|(seen, ..)| seen == path));
        if let Some(path) = path {
            if let Some(last) = files.last_mut() {
                last.2 = at;
            }
            files.push((path, at + line.len(), dump.len()));
        }
        at += line.len();
    }
    files
        .into_iter()
        .map(|(path, from, to)| (path, dump.get(from..to).unwrap_or_default()))
        .collect()
}

/// Without `.`, `..` and doubled slashes; links are left alone.
pub(crate) fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    path.components().fold(PathBuf::new(), |mut out, part| {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
        out
    })
}

fn parse_file(path: &Path, text: &str, warnings: &mut Vec<String>) -> Vec<Directive> {
    if depth(text) > BLOCK_DEPTH {
        warnings.push(format!(
            "{}: blocks are nested over {BLOCK_DEPTH} deep; this file is passed over",
            path.display()
        ));
        return Vec::new();
    }
    // nginx takes a carriage return for a blank, the parser doesn't; offsets stay the same.
    let text = if text.contains('\r') {
        Cow::Owned(text.replace('\r', " "))
    } else {
        Cow::Borrowed(text)
    };
    let text = lua::blanked(text);
    let (config, errors) = parse_string_with_errors(&text);
    if let Some(error) = errors.first() {
        let before = text.get(..error.offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        warnings.push(format!(
            "{}:{line}: not understood ({}); what is before and after it is used",
            path.display(),
            error.message
        ));
    }
    convert(&config.items)
}

fn convert(items: &[ConfigItem]) -> Vec<Directive> {
    items
        .iter()
        .filter_map(|item| match item {
            ConfigItem::Directive(directive) => Some(directive),
            ConfigItem::Comment(_) | ConfigItem::BlankLine(_) => None,
        })
        .map(|directive| Directive {
            name: directive.name.clone(),
            args: words(&directive.args),
            line: u32::try_from(directive.span.start.line).unwrap_or(u32::MAX),
            block: directive.block.as_ref().map(|block| convert(&block.items)),
        })
        .collect()
}

/// The parser cuts `/etc/$name.pem` in three: what touches is one word to nginx.
fn words(args: &[Argument]) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(args.len());
    let mut end = None;
    for arg in args {
        let text = match &arg.value {
            ArgumentValue::Variable(_) => arg.raw.clone(),
            _ => unescaped(arg.as_str()),
        };
        match out
            .last_mut()
            .filter(|_| end == Some(arg.span.start.offset))
        {
            Some(last) => last.push_str(&text),
            None => out.push(text),
        }
        end = Some(arg.span.end.offset);
    }
    out
}

/// The escapes that nginx itself knows; any other backslash stays, as regular expressions need it.
fn unescaped(text: &str) -> String {
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
    out
}

/// How deep the braces nest, comments and quoted words left out.
fn depth(text: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    let mut previous = b'\n';
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let begins = previous.is_ascii_whitespace() || matches!(previous, b';' | b'{' | b'}');
        match byte {
            b'#' if begins => {
                bytes.by_ref().find(|byte| *byte == b'\n');
                previous = b'\n';
                continue;
            }
            b'"' | b'\'' if begins => {
                while let Some(inner) = bytes.next() {
                    if inner == b'\\' {
                        bytes.next();
                    } else if inner == byte {
                        break;
                    }
                }
            }
            b'{' => {
                now += 1;
                most = most.max(now);
            }
            b'}' => now = now.saturating_sub(1),
            _ => {}
        }
        previous = byte;
    }
    most
}

#[cfg(test)]
mod tests;
