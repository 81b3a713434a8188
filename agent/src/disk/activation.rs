//! `live/NAME`: one link, replaced by one rename, so that key and chain switch together.

use std::{
    fs::Metadata,
    io,
    path::{Path, PathBuf},
};

use certwell_proto::{CertificateName, Generation};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};

use super::{
    Store,
    durable::{DiskError, remove_if_there, sync_directory},
    permissions::make_public_directory,
};

/// The directory whose entries nginx's configuration names.
#[derive(Debug, Clone)]
pub struct LiveDirectory {
    root: PathBuf,
}

/// What lies at `live/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// Nothing.
    Absent,
    /// A link to one of our generations, which may be gone or damaged.
    Ours(Generation),
    /// A link to somewhere else.
    ForeignLink(PathBuf),
    /// A plain directory, of an operator or of another ACME client.
    Directory,
    /// Neither link nor directory.
    Other,
}

/// What an activation replaced: the way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// There was nothing.
    Nothing,
    /// A link to one of our generations.
    Link(PathBuf),
    /// A plain directory, or somebody's link to elsewhere, kept here.
    Aside(PathBuf),
}

/// Why a generation wasn't activated, or not rolled back.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// Something that no certificate lives in.
    #[error("{path} is neither a directory nor a link; move it away, and the certificate is put there", path = .0.display())]
    InTheWay(PathBuf),
    /// The file system can't exchange it.
    #[error(
        "{path} can't be exchanged for a link in one step ({errno}: it lies on another file system, or on an overlay's lower layer); move it away by hand",
        path = .path.display()
    )]
    Exchange {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A step failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl LiveDirectory {
    /// The live directory at `root`, which is made if need be.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(root: PathBuf) -> Result<Self, DiskError> {
        make_public_directory(&root)?;
        Ok(Self { root })
    }

    /// Makes the live directory anew, where somebody has removed all of it.
    ///
    /// # Errors
    /// When it can't be made, or something else lies in its place.
    pub fn make(&self) -> Result<(), DiskError> {
        make_public_directory(&self.root)
    }

    /// The live directory at `root` as it is, to look at: nothing is made.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where nginx finds this certificate.
    pub fn path(&self, name: &CertificateName) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// Looks, without following a link.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn look(&self, name: &CertificateName, store: &Store) -> Result<Live, DiskError> {
        let path = self.path(name);
        let Some(meta) = metadata(&path)? else {
            return Ok(Live::Absent);
        };
        if meta.is_dir() {
            return Ok(Live::Directory);
        }
        if !meta.is_symlink() {
            return Ok(Live::Other);
        }
        let target =
            std::fs::read_link(&path).map_err(DiskError::about("reading the link", &path))?;
        Ok(match store.generation_at(name, &target) {
            Some(generation) => Live::Ours(generation),
            None => Live::ForeignLink(target),
        })
    }

    /// Points `live/NAME` at a staged generation in one step, and forces that to disk.
    ///
    /// # Errors
    /// When it can't be done; `live/NAME` is then as it was.
    pub fn activate(
        &self,
        name: &CertificateName,
        generation: Generation,
        store: &Store,
    ) -> Result<Before, ActivationError> {
        let path = self.path(name);
        self.finish(name, store)?;
        let before = match metadata(&path)? {
            None => Before::Nothing,
            Some(meta) if meta.is_symlink() => self.before_link(name, &path, store)?,
            Some(meta) if meta.is_dir() => Before::Aside(self.free_place_aside(name)),
            Some(_) => return Err(ActivationError::InTheWay(path)),
        };
        let link = self.make_link(name, &store.path(name, generation))?;
        if let Err(error) = switch(&link, &path, &before) {
            // The first error is the one to tell, and a leftover is removed at the next attempt.
            let _ = self.finish(name, store);
            return Err(error);
        }
        if let Err(error) = sync_directory(&self.root) {
            // Nobody could say what would be there after a loss of power: as it was, then.
            self.roll_back(name, &before)?;
            return Err(error.into());
        }
        Ok(before)
    }

    /// Somebody's link to elsewhere is all that tells where they keep theirs: it isn't replaced, but kept.
    fn before_link(
        &self,
        name: &CertificateName,
        path: &Path,
        store: &Store,
    ) -> Result<Before, DiskError> {
        let target =
            std::fs::read_link(path).map_err(DiskError::about("reading the link", path))?;
        Ok(match store.generation_at(name, &target) {
            Some(_) => Before::Link(target),
            None => Before::Aside(self.free_place_aside(name)),
        })
    }

    /// Puts back what an activation replaced.
    ///
    /// # Errors
    /// When it can't be done; `live/NAME` is then as it was.
    pub fn roll_back(
        &self,
        name: &CertificateName,
        before: &Before,
    ) -> Result<(), ActivationError> {
        let path = self.path(name);
        match before {
            Before::Nothing => remove_if_there(&path)?,
            Before::Link(target) => return Ok(self.point(name, target)?),
            Before::Aside(kept) => {
                exchange(kept, &path)?;
                remove_if_there(kept)?;
            }
        }
        sync_directory(&self.root)?;
        Ok(())
    }

    /// Points `live/NAME` somewhere in one step, whatever link was there, and forces that to disk.
    ///
    /// # Errors
    /// When it can't be done; `live/NAME` is then as it was.
    pub fn point(&self, name: &CertificateName, target: &Path) -> Result<(), DiskError> {
        let path = self.path(name);
        let link = self.make_link(name, target)?;
        std::fs::rename(&link, &path).map_err(DiskError::about("replacing", &path))?;
        sync_directory(&self.root)
    }

    /// Ends what a crash in the middle of an activation left: a link of ours under its first name is removed; a
    /// directory, or a link to elsewhere, that had just been exchanged is put in its place aside.
    ///
    /// # Errors
    /// When it can't be moved.
    pub fn finish(&self, name: &CertificateName, store: &Store) -> Result<(), DiskError> {
        let link = self.link_place(name);
        let exchanged = match metadata(&link)? {
            Some(meta) if meta.is_symlink() => {
                matches!(self.before_link(name, &link, store)?, Before::Aside(_))
            }
            Some(meta) => meta.is_dir(),
            None => return Ok(()),
        };
        if exchanged {
            let kept = self.free_place_aside(name);
            std::fs::rename(&link, &kept).map_err(DiskError::about("keeping aside", &kept))?;
            sync_directory(&self.root)
        } else {
            remove_if_there(&link)
        }
    }

    fn link_place(&self, name: &CertificateName) -> PathBuf {
        self.root.join(format!(".{name}.new"))
    }

    fn make_link(&self, name: &CertificateName, target: &Path) -> Result<PathBuf, DiskError> {
        let link = self.link_place(name);
        remove_if_there(&link)?;
        std::os::unix::fs::symlink(target, &link).map_err(DiskError::about("making", &link))?;
        Ok(link)
    }

    /// What was last kept aside for this certificate.
    pub fn kept_aside(&self, name: &CertificateName) -> Option<PathBuf> {
        self.places_aside(name)
            .take_while(|place| std::fs::symlink_metadata(place).is_ok())
            .last()
    }

    /// Nothing of an operator's is overwritten.
    fn free_place_aside(&self, name: &CertificateName) -> PathBuf {
        self.places_aside(name)
            .find(|place| std::fs::symlink_metadata(place).is_err())
            .unwrap_or_else(|| self.first_place_aside(name))
    }

    /// `.NAME.before-certwell`, and with numbers where that is taken.
    fn places_aside(&self, name: &CertificateName) -> impl Iterator<Item = PathBuf> {
        let first = self.first_place_aside(name);
        (1..1_000).map(move |n| match n {
            1 => first.clone(),
            n => first.with_extension(format!("before-certwell-{n}")),
        })
    }

    fn first_place_aside(&self, name: &CertificateName) -> PathBuf {
        self.root.join(format!(".{name}.before-certwell"))
    }
}

fn metadata(path: &Path) -> Result<Option<Metadata>, DiskError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        // A file in the place of the directory above is said when something is to be put there.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(source) => Err(DiskError {
            what: "looking at",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Puts a link in its place, and what was there aside.
fn switch(link: &Path, path: &Path, before: &Before) -> Result<(), ActivationError> {
    let Before::Aside(kept) = before else {
        return Ok(std::fs::rename(link, path).map_err(DiskError::about("replacing", path))?);
    };
    exchange(link, path)?;
    // What was the link's place now holds what was found.
    if let Err(error) = std::fs::rename(link, kept) {
        exchange(link, path)?;
        return Err(DiskError::about("keeping aside", kept)(error).into());
    }
    Ok(())
}

fn exchange(a: &Path, b: &Path) -> Result<(), ActivationError> {
    let exchanged = renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE);
    exchanged.map_err(|errno| match errno {
        Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS => ActivationError::Exchange {
            path: b.to_owned(),
            errno,
        },
        other => DiskError::about("exchanging", b)(other.into()).into(),
    })
}
