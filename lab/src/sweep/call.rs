//! A system call, and what it does to files.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// A call that came to its end, or was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which thread made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// As strace prints them, with every string and path in hexadecimal.
    pub(super) arguments: Vec<String>,
    /// What it answered; nothing where it never did.
    pub answer: Option<i64>,
    /// Whether that was strace's answer, and the call wasn't made.
    pub injected: bool,
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
