//! System calls as strace tells of them, and what they do to files.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::program::Program;

/// Every call that changes files, directories or what is said of them, or forces that to disk. Those that a kind of
/// processor lacks are passed over (`?`).
pub(crate) const CALLS: &str = "?open,openat,?openat2,?creat,write,pwrite64,writev,pwritev,?pwritev2,truncate,ftruncate,\
    fallocate,copy_file_range,sendfile,splice,fsync,fdatasync,sync_file_range,sync,syncfs,?rename,?renameat,renameat2,\
    ?symlink,symlinkat,?link,linkat,?unlink,unlinkat,?rmdir,?mkdir,mkdirat,?mknod,mknodat,?chmod,fchmod,fchmodat,\
    ?chown,fchown,?lchown,fchownat,utimensat,setxattr,fsetxattr,lsetxattr,removexattr,fremovexattr,lremovexattr,bind,\
    io_uring_setup,chdir";

/// A call that came to its end, or was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which thread made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// As strace prints them, with every string and path in hexadecimal.
    arguments: Vec<String>,
    /// What it answered; nothing where it never did.
    pub answer: Option<i64>,
}

/// What a call does to files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Opens for writing, and makes or empties the file where it is told to.
    Open {
        /// The file.
        path: PathBuf,
        /// Made if it isn't there.
        makes: bool,
        /// Emptied if it is.
        empties: bool,
        /// The mode of one that is made.
        mode: u32,
    },
    /// Writes at the end of what was written through this descriptor.
    Write {
        /// The file.
        path: PathBuf,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Forces a file's bytes, or a directory's entries, to disk.
    Force(PathBuf),
    /// Renames, over what is there.
    Rename(PathBuf, PathBuf),
    /// Exchanges two entries.
    Exchange(PathBuf, PathBuf),
    /// Makes a link.
    Link {
        /// What it says.
        target: PathBuf,
        /// Where it is.
        path: PathBuf,
    },
    /// Removes a file or a link.
    Remove(PathBuf),
    /// Removes an empty directory.
    RemoveDirectory(PathBuf),
    /// Makes a directory of this mode.
    MakeDirectory(PathBuf, u32),
    /// Sets a mode.
    Mode(PathBuf, u32),
    /// Changes something in another way.
    Other(PathBuf),
}

impl Deed {
    /// What it is about; of two paths both.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Rename(one, other) | Self::Exchange(one, other) => vec![one, other],
            Self::Open { path, .. }
            | Self::Write { path, .. }
            | Self::Link { path, .. }
            | Self::Force(path)
            | Self::Remove(path)
            | Self::RemoveDirectory(path)
            | Self::MakeDirectory(path, _)
            | Self::Mode(path, _)
            | Self::Other(path) => vec![path],
        }
    }
}

impl Call {
    /// What it does, or would have done; nothing where it only reads.
    ///
    /// # Errors
    /// When strace tells of it in a way that isn't understood.
    pub fn deed(&self) -> Result<Option<Deed>> {
        let deed = || -> Option<Option<Deed>> {
            Some(Some(match self.name.as_str() {
                "open" => return self.opening(self.text(0)?, 1),
                "openat" => return self.opening(self.path_at(0)?, 2),
                "creat" => Deed::Open {
                    path: self.text(0)?,
                    makes: true,
                    empties: true,
                    mode: self.octal(1)?,
                },
                "write" => {
                    let Some(path) = self.file(0) else {
                        return Some(None);
                    };
                    Deed::Write {
                        path,
                        bytes: unquoted(self.arguments.get(1)?)?,
                    }
                }
                "fsync" | "fdatasync" | "syncfs" => Deed::Force(self.file(0)?),
                "rename" => Deed::Rename(self.text(0)?, self.text(1)?),
                "renameat" => Deed::Rename(self.path_at(0)?, self.path_at(2)?),
                "renameat2" => {
                    let (one, other) = (self.path_at(0)?, self.path_at(2)?);
                    if self.arguments.get(4)?.contains("RENAME_EXCHANGE") {
                        Deed::Exchange(one, other)
                    } else {
                        Deed::Rename(one, other)
                    }
                }
                "symlink" => Deed::Link {
                    target: self.text(0)?,
                    path: self.text(1)?,
                },
                "symlinkat" => Deed::Link {
                    target: self.text(0)?,
                    path: self.path_at(1)?,
                },
                "unlink" => Deed::Remove(self.text(0)?),
                "rmdir" => Deed::RemoveDirectory(self.text(0)?),
                "unlinkat" if self.arguments.get(2)?.contains("AT_REMOVEDIR") => {
                    Deed::RemoveDirectory(self.path_at(0)?)
                }
                "unlinkat" => Deed::Remove(self.path_at(0)?),
                "mkdir" => Deed::MakeDirectory(self.text(0)?, self.octal(1)?),
                "mkdirat" => Deed::MakeDirectory(self.path_at(0)?, self.octal(2)?),
                "chmod" => Deed::Mode(self.text(0)?, self.octal(1)?),
                "fchmod" => Deed::Mode(self.file(0)?, self.octal(1)?),
                "fchmodat" => Deed::Mode(self.path_at(0)?, self.octal(2)?),
                "bind" if !self.arguments.get(1)?.contains("AF_UNIX") => return Some(None),
                "bind" => {
                    let Some((_, name)) = self.arguments.get(1)?.split_once("sun_path=\"") else {
                        return Some(None);
                    };
                    Deed::Other(PathBuf::from(OsString::from_vec(unhex(
                        name.split('"').next()?,
                    )?)))
                }
                "chdir" => return Some(None),
                // Whatever else there is: the first descriptor of a file, or the first path.
                _ => match self.file(0).or_else(|| self.text(0)) {
                    Some(path) => Deed::Other(path),
                    None => return Some(None),
                },
            }))
        };
        deed().with_context(|| format!("strace tells of a call that isn't understood: {self:?}"))
    }

    fn opening(&self, path: PathBuf, at: usize) -> Option<Option<Deed>> {
        let flags = self.arguments.get(at)?;
        let has = |flag| flags.split('|').any(|one| one == flag);
        let writes = has("O_WRONLY") || has("O_RDWR") || has("O_CREAT") || has("O_TRUNC");
        Some(writes.then(|| Deed::Open {
            path,
            makes: has("O_CREAT"),
            empties: has("O_TRUNC"),
            mode: self.octal(at + 1).unwrap_or(0),
        }))
    }

    /// The directory that the thread is in from here on.
    pub(crate) fn goes_to(&self) -> Option<PathBuf> {
        (self.name == "chdir").then(|| self.text(0))?
    }

    /// The path by which strace's own filter finds this call again.
    pub(crate) fn key(&self) -> Option<PathBuf> {
        let at = match self.name.as_str() {
            "symlink" | "symlinkat" => 1,
            _ => 0,
        };
        let relative = |at: usize| {
            let named = self.text(at + 1)?;
            if named.is_absolute() {
                Some(named)
            } else {
                descriptor(self.arguments.get(at)?)
            }
        };
        self.text(at)
            .or_else(|| relative(at))
            .or_else(|| self.file(at))
    }

    /// Whether strace's filter of `path` lets it through.
    pub(crate) fn is_about(&self, path: &Path) -> bool {
        let mut found = (0..self.arguments.len())
            .filter_map(|at| self.text(at).or_else(|| descriptor(&self.arguments[at])));
        found.any(|other| other == path)
    }

    fn text(&self, at: usize) -> Option<PathBuf> {
        let bytes = unquoted(self.arguments.get(at)?)?;
        Some(OsString::from_vec(bytes).into())
    }

    /// What a descriptor leads to, where that is a file or a directory; nothing for the standard ones, sockets, pipes
    /// and devices.
    fn file(&self, at: usize) -> Option<PathBuf> {
        let argument = self.arguments.get(at)?;
        if matches!(argument.split('<').next()?, "0" | "1" | "2") {
            return None;
        }
        descriptor(argument).filter(|path| path.is_absolute() && !path.starts_with("/dev"))
    }

    /// A directory's descriptor and a name after it.
    fn path_at(&self, at: usize) -> Option<PathBuf> {
        let name = self.text(at + 1)?;
        if name.is_absolute() {
            return Some(name);
        }
        Some(descriptor(self.arguments.get(at)?)?.join(name))
    }

    fn octal(&self, at: usize) -> Option<u32> {
        u32::from_str_radix(self.arguments.get(at)?, 8).ok()
    }
}

/// strace before `program`, telling of `calls` to `log`, every string whole and in hexadecimal.
pub(crate) fn before(program: &Program, calls: &str, options: &[String], log: &Path) -> Program {
    let log = log.display().to_string();
    let trace = format!("trace={calls}");
    let fixed = ["-y", "-xx", "-s", "1000000", "-o", &log, "-e", &trace];
    let mut arguments: Vec<String> = fixed.map(str::to_owned).to_vec();
    arguments.extend_from_slice(options);
    arguments.push(program.file.display().to_string());
    arguments.extend_from_slice(&program.args);
    Program {
        name: format!("strace of {}", program.name),
        file: "strace".into(),
        args: arguments,
        env: program.env.clone(),
    }
}

/// The calls that a log tells of, each where it began.
///
/// # Errors
/// When it can't be read, or a line isn't understood.
pub fn read(log: &Path) -> Result<Vec<Call>> {
    let text = fs::read_to_string(log).with_context(|| log.display().to_string())?;
    let mut lines: Vec<(u32, String)> = Vec::new();
    let mut begun: HashMap<u32, usize> = HashMap::new();
    for line in text.lines() {
        // Threads are told apart only where there are several.
        let (thread, rest) = match line.split_once(' ') {
            Some((number, rest)) if number.parse::<u32>().is_ok() => {
                (number.parse()?, rest.trim_start())
            }
            _ => (0, line),
        };
        if rest.starts_with("---") || rest.starts_with("+++") {
            continue;
        }
        if let Some(end) = rest.strip_prefix("<... ") {
            let (_, end) = end
                .split_once(" resumed>")
                .with_context(|| format!("strace: {line}"))?;
            let at = begun
                .remove(&thread)
                .with_context(|| format!("strace: an end without a beginning: {line}"))?;
            lines[at].1.push_str(end);
        } else if let Some(beginning) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, lines.len());
            lines.push((thread, beginning.to_owned()));
        } else {
            lines.push((thread, rest.to_owned()));
        }
    }
    lines
        .iter()
        .map(|(thread, line)| parse(*thread, line).with_context(|| format!("strace: {line}")))
        .collect()
}

fn parse(thread: u32, line: &str) -> Result<Call> {
    let (name, rest) = line.split_once('(').context("no call")?;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        bail!("{name} is no name of a call");
    }
    let mut arguments = vec![String::new()];
    let (mut depth, mut quoted) = (0_u32, false);
    let mut end = rest.len();
    for (at, c) in rest.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' | '[' | '{' | '<' if !quoted => depth += 1,
            // Arrows in flags don't occur; the last bracket ends the call.
            ')' if !quoted && depth == 0 => {
                end = at;
                break;
            }
            ')' | ']' | '}' | '>' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = arguments.last_mut()
            && !(c == ' ' && last.is_empty())
        {
            last.push(c);
        }
    }
    let answer = rest
        .get(end..)
        .and_then(|tail| tail.split_once("= "))
        .and_then(|(_, answer)| {
            let digits = answer.split([' ', '<']).next()?;
            digits.parse().ok()
        });
    Ok(Call {
        thread,
        name: name.to_owned(),
        arguments,
        answer,
    })
}

fn unquoted(argument: &str) -> Option<Vec<u8>> {
    unhex(argument.strip_prefix('"')?.strip_suffix('"')?)
}

/// What a descriptor leads to, by strace's note after its number.
fn descriptor(argument: &str) -> Option<PathBuf> {
    let (_, rest) = argument.split_once('<')?;
    let path = unhex(rest.split('>').next()?)?;
    Some(OsString::from_vec(path).into())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.strip_prefix("\\x")?
        .split("\\x")
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect()
}

/// The same path with the number of a process taken out, as the names of temporary directories have it.
pub(crate) fn without_process(path: &Path) -> PathBuf {
    path.iter()
        .map(|part| {
            let text = String::from_utf8_lossy(part.as_bytes());
            match text.strip_prefix(".candidate-") {
                Some(numbers) => {
                    let number = numbers.split('-').nth(1).unwrap_or_default();
                    OsString::from(format!(".candidate-PID-{number}"))
                }
                None => part.to_owned(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "7 openat(AT_FDCWD<\\x2f\\x61>, \"\\x2f\\x62\", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 9<\\x2f\\x62>\n\
        7 write(9<\\x2f\\x62>, \"\\x68\\x29\\x2c\", 3 <unfinished ...>\n\
        8 rename(\"\\x2f\\x63\", \"\\x2f\\x64\") = -1 ENOENT (No such file or directory)\n\
        7 <... write resumed>)             = 3\n\
        7 --- SIGCHLD {si_signo=SIGCHLD} ---\n\
        7 unlinkat(3<\\x2f\\x65>, \"\\x66\", 0) = ?\n\
        7 renameat2(AT_FDCWD<\\x2f>, \"\\x2f\\x63\", AT_FDCWD<\\x2f>, \"\\x2f\\x64\", RENAME_EXCHANGE) = 0\n\
        7 fchmod(9<\\x2f\\x62>, 0600)         = 0\n\
        7 write(5<\\x61\\x6e\\x6f\\x6e>, \"\\x01\", 1) = 1\n\
        7 +++ killed by SIGKILL +++\n";

    #[test]
    fn what_strace_tells_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(&log, LOG).unwrap();
        let calls = read(&log).unwrap();
        let deeds: Vec<Option<Deed>> = calls.iter().map(|call| call.deed().unwrap()).collect();
        assert_eq!(
            deeds,
            [
                Some(Deed::Open {
                    path: "/b".into(),
                    makes: true,
                    empties: false,
                    mode: 0o600
                }),
                Some(Deed::Write {
                    path: "/b".into(),
                    bytes: b"h),".to_vec()
                }),
                Some(Deed::Rename("/c".into(), "/d".into())),
                Some(Deed::Remove("/e/f".into())),
                Some(Deed::Exchange("/c".into(), "/d".into())),
                Some(Deed::Mode("/b".into(), 0o600)),
                None,
            ]
        );
        let answers: Vec<Option<i64>> = calls.iter().map(|call| call.answer).collect();
        assert_eq!(
            answers,
            [Some(9), Some(3), Some(-1), None, Some(0), Some(0), Some(1)]
        );
        assert_eq!(calls[0].key(), Some("/b".into()));
        assert_eq!(calls[1].key(), Some("/b".into()));
        assert_eq!(calls[3].key(), Some("/e".into()));
        assert!(calls[4].is_about(Path::new("/d")) && !calls[4].is_about(Path::new("/b")));
    }
}
