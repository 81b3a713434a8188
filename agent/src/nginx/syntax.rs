//! Pure: the text of `nginx -T` to a tree of directives, includes resolved in context.
//!
//! The dump holds each file once, however often it is included, and nginx's own `include` patterns are all answered
//! by files of the dump: no file system is needed to resolve them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use super::{
    glob,
    lexer::{Item, Lexer, Words},
    servers::Place,
};

/// nginx refuses a file that includes itself; this stops what a damaged dump could pretend.
const INCLUDE_DEPTH: usize = 32;
/// Real blocks nest about six deep; a hostile file must not choose the depth of what is gone through by recursion.
const BLOCK_DEPTH: usize = 32;

/// A file that isn't whole at a header is looked at up to this many headers further.
const HEADERS_TRIED: usize = 64;

/// A directive, its arguments unquoted, its variables unexpanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directive<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) args: Vec<Cow<'a, str>>,
    pub(crate) line: u32,
    /// Empty for blocks that nobody looks into.
    pub(crate) block: Option<Vec<Directive<'a>>>,
}

/// All files of a dump, parsed.
#[derive(Debug, Default)]
pub(crate) struct Tree<'a> {
    /// The file that nginx was started with.
    root: String,
    /// By path, in the order of bytes, in which glob(3) names them.
    files: BTreeMap<String, Vec<Directive<'a>>>,
    /// What names a certificate for an upstream, in whatever block, each with its file.
    pub(crate) for_upstreams: Vec<(String, Directive<'a>)>,
    pub(crate) warnings: Vec<String>,
}

/// A directive as it takes effect in a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effective<'a> {
    pub(crate) directive: &'a Directive<'a>,
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

impl<'a> Tree<'a> {
    /// Parses every file of a dump. Whatever can't be parsed is said in `warnings`, the rest is used. `directory` is
    /// nginx's own, to which its paths are relative where it was started with a relative prefix.
    pub(crate) fn parse(dump: &'a str, directory: &Path) -> Self {
        let mut tree = Self::default();
        let headers = headers(dump, directory);
        if let Some(root) = headers.first() {
            tree.root.clone_from(&root.path);
        }
        let mut includes = Includes::of(parent(&tree.root));
        let mut at = 0;
        while let Some(header) = headers.get(at) {
            let (next, file) = section(dump, &headers, at, &mut includes);
            at = next;
            if let Some((line, what)) = file.mistake {
                tree.warnings.push(format!(
                    "{}:{line}: not understood ({what}); what is before and after it is used",
                    header.path
                ));
            }
            let named = file.for_upstreams.into_iter();
            tree.for_upstreams
                .extend(named.map(|directive| (header.path.clone(), directive)));
            tree.files.insert(header.path.clone(), file.directives);
        }
        tree
    }

    /// Paths of all files, the root first.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let others = self.files.keys().filter(|path| **path != self.root);
        Some(&self.root)
            .filter(|root| !root.is_empty())
            .into_iter()
            .chain(others)
            .map(PathBuf::from)
            .collect()
    }

    /// Relative includes and certificates are relative to the directory of the root file.
    pub(crate) fn absolute(&self, path: &str) -> PathBuf {
        normal(&parent(&self.root).join(path))
    }

    /// The same with each `..` left in, which may stand behind a link.
    pub(crate) fn joined(&self, path: &str) -> PathBuf {
        parent(&self.root).join(path).components().collect()
    }

    /// The root file's directives, includes resolved.
    pub(crate) fn top(&self) -> Vec<Effective<'_>> {
        let mut out = Vec::new();
        if let Some((root, items)) = self.files.get_key_value(&self.root) {
            self.collect(Path::new(root), items, None, 0, &mut out);
        }
        out
    }

    /// The directives of a block, includes resolved.
    pub(crate) fn inside<'t>(&'t self, outer: Effective<'t>) -> Vec<Effective<'t>> {
        let mut out = Vec::new();
        if let Some(block) = &outer.directive.block {
            self.collect(outer.file, block, None, 0, &mut out);
        }
        out
    }

    fn collect<'t>(
        &'t self,
        file: &'t Path,
        items: &'t [Directive<'a>],
        enters: Option<(&'t Path, u32)>,
        depth: usize,
        out: &mut Vec<Effective<'t>>,
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
                        self.collect(Path::new(path), inner, Some(entry), depth + 1, out);
                    }
                }
            }
        }
    }

    /// What the includes of a block name, those of included files among them; absolute.
    pub(crate) fn includes_inside(&self, outer: Effective<'_>) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(block) = &outer.directive.block {
            self.collect_includes(block, 0, &mut found);
        }
        found
    }

    fn collect_includes(&self, items: &[Directive<'a>], depth: usize, found: &mut Vec<String>) {
        let includes = items
            .iter()
            .filter(|item| item.name == "include" && item.block.is_none());
        for pattern in includes.flat_map(|include| &include.args) {
            found.push(self.absolute(pattern).to_string_lossy().into_owned());
            if depth < INCLUDE_DEPTH {
                for (_, inner) in self.included(pattern) {
                    self.collect_includes(inner, depth + 1, found);
                }
            }
        }
    }

    /// The files that an include names, in the order in which nginx reads them.
    fn included(&self, pattern: &str) -> Vec<(&String, &Vec<Directive<'a>>)> {
        let pattern = self.absolute(pattern).to_string_lossy().into_owned();
        if !glob::is_pattern(&pattern) {
            return self.files.get_key_value(&pattern).into_iter().collect();
        }
        let literal = glob::literal_prefix(&pattern);
        self.files
            .range(literal.to_owned()..)
            .take_while(|(path, _)| path.starts_with(literal))
            .filter(|(path, _)| glob::matches(&pattern, path))
            .collect()
    }
}

fn parent(path: &str) -> &Path {
    Path::new(path).parent().unwrap_or(Path::new("/"))
}

/// A line that nginx puts before each file that it shows.
struct Header {
    path: String,
    /// Where the line begins, and where what it announces does.
    from: usize,
    body: usize,
}

/// Every line that looks like a header, each path once: nginx shows no file twice.
fn headers(dump: &str, directory: &Path) -> Vec<Header> {
    let mut seen = HashSet::new();
    let mut found: Vec<Header> = Vec::new();
    let mut from = 0;
    for line in dump.split_inclusive('\n') {
        let body = from + line.len();
        let path = line
            .strip_prefix("# configuration file ")
            .and_then(|rest| rest.trim_end_matches(['\n', '\r']).strip_suffix(':'));
        if let Some(path) = path.filter(|path| seen.insert(*path)) {
            let path = normal(&directory.join(path)).to_string_lossy().into_owned();
            found.push(Header { path, from, body });
        }
        from = body;
    }
    found
}

/// The file that the header at `at` announces, and the header after it.
///
/// A line like a header may stand in any file, where somebody made it out of another dump. So a header counts where
/// an include before it names its path, and the file that it ends is whole. A file that never is ends at the first
/// that is named.
fn section<'a>(
    dump: &'a str,
    headers: &[Header],
    at: usize,
    includes: &mut Includes,
) -> (usize, File<'a>) {
    let from = headers.get(at).map_or(dump.len(), |header| header.body);
    let mut damaged = None;
    for next in at + 1..=headers.len() {
        let header = headers.get(next);
        let end = header.map_or(dump.len(), |header| header.from);
        let file = File::parse(dump.get(from..end).unwrap_or_default());
        includes.add(&file.includes);
        if header.is_some_and(|header| !includes.name(&header.path)) {
            continue;
        }
        if file.mistake.is_none() {
            return (next, file);
        }
        // A line inside a block; what is damaged otherwise isn't mended by the next file.
        let goes_on = file.is_open && next - at < HEADERS_TRIED;
        damaged.get_or_insert((next, file));
        if !goes_on {
            break;
        }
    }
    damaged.unwrap_or_else(|| (headers.len(), File::default()))
}

/// What the includes seen so far name.
struct Includes<'a> {
    directory: &'a Path,
    paths: HashSet<String>,
    patterns: HashSet<String>,
}

impl<'a> Includes<'a> {
    fn of(directory: &'a Path) -> Self {
        Self {
            directory,
            paths: HashSet::new(),
            patterns: HashSet::new(),
        }
    }

    fn add(&mut self, written: &[Cow<'_, str>]) {
        for written in written {
            let path = normal(&self.directory.join(&**written));
            let path = path.to_string_lossy().into_owned();
            if glob::is_pattern(&path) {
                self.patterns.insert(path);
            } else {
                self.paths.insert(path);
            }
        }
    }

    fn name(&self, path: &str) -> bool {
        self.paths.contains(path)
            || self
                .patterns
                .iter()
                .any(|pattern| glob::matches(pattern, path))
    }
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

/// One file, parsed.
#[derive(Debug, Default)]
struct File<'a> {
    directives: Vec<Directive<'a>>,
    /// What its includes name, as written, those in blocks that nobody looks into as well.
    includes: Vec<Cow<'a, str>>,
    /// What names a certificate for an upstream, in such blocks as well.
    for_upstreams: Vec<Directive<'a>>,
    /// The first thing that isn't understood: its line, and what it is.
    mistake: Option<(u32, &'static str)>,
    /// Nothing is wrong but that a block doesn't end.
    is_open: bool,
}

impl<'a> File<'a> {
    fn parse(text: &'a str) -> Self {
        let mut file = Self::default();
        let mut lexer = Lexer::new(text);
        // The blocks that are open, each with what it holds so far.
        let mut open: Vec<(Words<'a>, Vec<Directive<'a>>)> = Vec::new();
        // How deep it is in a block that is passed over.
        let mut passed = 0_usize;
        while let Some(item) = lexer.next() {
            if let Item::Simple(words) = &item
                && let [name, args @ ..] = words.words.as_slice()
                && name == "include"
            {
                file.includes.extend_from_slice(args);
            }
            if let Item::Simple(words) = &item
                && is_for_upstreams(words)
            {
                file.for_upstreams.push(directive(words.clone(), None));
            }
            match item {
                Item::Opens(_) if passed > 0 => passed += 1,
                Item::Closes if passed > 0 => passed -= 1,
                Item::Simple(_) if passed > 0 => {}
                Item::Simple(words) => file.put(&mut open, directive(words, None)),
                Item::Opens(words) if is_looked_into(&words) && open.len() < BLOCK_DEPTH => {
                    open.push((words, Vec::new()));
                }
                Item::Opens(words) => {
                    file.put(&mut open, directive(words, Some(Vec::new())));
                    passed = 1;
                }
                Item::Closes if open.is_empty() => lexer.mistaken("a block ends that didn't begin"),
                Item::Closes => file.close(&mut open),
            }
        }
        if passed > 0 || !open.is_empty() {
            file.is_open = lexer.mistake.is_none();
            lexer.mistaken("a block doesn't end before its file does");
        }
        while !open.is_empty() {
            file.close(&mut open);
        }
        file.mistake = lexer.mistake;
        file
    }

    /// Ends the innermost open block.
    fn close(&mut self, open: &mut Vec<(Words<'a>, Vec<Directive<'a>>)>) {
        if let Some((words, inside)) = open.pop() {
            self.put(open, directive(words, Some(inside)));
        }
    }

    fn put(&mut self, open: &mut [(Words<'a>, Vec<Directive<'a>>)], directive: Directive<'a>) {
        open.last_mut()
            .map_or(&mut self.directives, |(_, inside)| inside)
            .push(directive);
    }
}

/// Nothing that we look for is in other blocks; to keep what is in them would take most of the memory.
fn is_looked_into(words: &Words<'_>) -> bool {
    words.words.first().is_some_and(|name| {
        matches!(
            &**name,
            "http" | "stream" | "mail" | "server" | "if" | "map"
        )
    })
}

/// What nginx itself presents, as a client.
fn is_for_upstreams(words: &Words<'_>) -> bool {
    words.words.first().is_some_and(|name| {
        matches!(
            &**name,
            "proxy_ssl_certificate" | "grpc_ssl_certificate" | "uwsgi_ssl_certificate"
        )
    })
}

fn directive<'a>(words: Words<'a>, block: Option<Vec<Directive<'a>>>) -> Directive<'a> {
    let mut all = words.words.into_iter();
    Directive {
        name: all.next().unwrap_or_default(),
        args: all.collect(),
        line: words.line,
        block,
    }
}

#[cfg(test)]
mod tests;
