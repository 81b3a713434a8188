//! `store/NAME/GENERATION/`: the files of one generation, whole or not there.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use certwell_proto::{Bundle, CertificateName, Generation, KeyPair, fingerprint, pem};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use zeroize::Zeroizing;

use super::{
    Permissions, StagedRecord,
    durable::{DiskError, create, remove_directory_if_there, sync_directory},
};

/// How many generations older than the active one are kept.
const OLDER_KEPT: usize = 2;

/// The staged generations of all certificates.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    permissions: Permissions,
}

/// What a look at a staged generation found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Every file is as it was written.
    Whole,
    /// The directory isn't there.
    Missing,
    /// A file is gone, can't be read, or has other bytes, mode or group; the first of them.
    Damaged(String),
}

impl Store {
    /// The store below `root`, which is made if need be.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(root: PathBuf, permissions: Permissions) -> Result<Self, DiskError> {
        permissions.make_lasting_directory(&root)?;
        Ok(Self { root, permissions })
    }

    /// The store below `root` as it is, to look at: nothing is made.
    pub fn at(root: PathBuf) -> Self {
        Self {
            root,
            permissions: Permissions::default(),
        }
    }

    /// Where a generation is, or would be.
    pub fn path(&self, name: &CertificateName, generation: Generation) -> PathBuf {
        self.root.join(name.as_str()).join(generation.to_string())
    }

    /// Whether nothing is left of a generation. One that can't be looked at isn't gone.
    pub fn is_gone(&self, name: &CertificateName, generation: Generation) -> bool {
        std::fs::symlink_metadata(self.path(name, generation))
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Which generation of which certificate a path of the store is.
    pub fn generation_at(&self, name: &CertificateName, path: &Path) -> Option<Generation> {
        let rest = path.strip_prefix(self.root.join(name.as_str())).ok()?;
        rest.to_str()?.parse().ok().map(Generation)
    }

    /// Writes a bundle's files and forces them to disk; then, in one rename, the generation is there. A damaged
    /// one is exchanged for the new one in one step, so that a link to it never leads nowhere.
    ///
    /// # Errors
    /// When any step fails: nothing that was there has changed.
    pub fn stage(&self, bundle: &Bundle) -> Result<StagedRecord, DiskError> {
        let directory = self.root.join(bundle.certificate.as_str());
        self.permissions.make_lasting_directory(&directory)?;
        let target = self.path(&bundle.certificate, bundle.generation);
        let temporary = directory.join(format!("{}.tmp", bundle.generation));
        remove_directory_if_there(&temporary)?;
        let result = self.write_files(&temporary, bundle).and_then(|record| {
            self.put(&temporary, &target, bundle)?;
            sync_directory(&directory)?;
            Ok(record)
        });
        if result.is_err() {
            // The first error is the one to tell, and a leftover is removed at the next attempt.
            let _ = std::fs::remove_dir_all(&temporary);
        }
        result
    }

    fn write_files(&self, directory: &Path, bundle: &Bundle) -> Result<StagedRecord, DiskError> {
        self.permissions.make_directory(directory)?;
        let mut files = BTreeMap::new();
        let mut open: Vec<(PathBuf, File)> = Vec::new();
        for (name, content) in contents(&bundle.key_pairs) {
            let path = directory.join(&name);
            let file = create(&path, content.as_bytes(), self.permissions.file_mode())?;
            let group = file
                .metadata()
                .map_err(DiskError::about("looking at", &path))?
                .gid();
            self.permissions.own(&path, group)?;
            files.insert(
                name,
                fingerprint::hex(&fingerprint::sha256(content.as_bytes())),
            );
            open.push((path, file));
        }
        // Written first and forced together: the first force carries most of the others' work.
        for (path, file) in open {
            file.sync_all()
                .map_err(DiskError::about("forcing to disk", &path))?;
        }
        sync_directory(directory)?;
        Ok(StagedRecord {
            files,
            fingerprints: bundle
                .fingerprints()
                .iter()
                .map(ToString::to_string)
                .collect(),
        })
    }

    fn put(&self, temporary: &Path, target: &Path, bundle: &Bundle) -> Result<(), DiskError> {
        if std::fs::symlink_metadata(target).is_err() {
            return std::fs::rename(temporary, target).map_err(DiskError::about("placing", target));
        }
        renameat2(
            AT_FDCWD,
            temporary,
            AT_FDCWD,
            target,
            RenameFlags::RENAME_EXCHANGE,
        )
        .map_err(|errno| DiskError {
            what: "exchanging",
            path: target.to_owned(),
            source: errno.into(),
        })?;
        // What was asked for is done; the damaged one is removed when the store is pruned.
        if let Err(error) = remove_directory_if_there(temporary) {
            tracing::warn!(certificate = %bundle.certificate, generation = bundle.generation.0, %error, "a damaged generation was replaced, but stays behind");
        }
        Ok(())
    }

    /// Compares what is on disk with what was written.
    pub fn inspect(
        &self,
        name: &CertificateName,
        generation: Generation,
        record: &StagedRecord,
    ) -> Condition {
        let directory = self.path(name, generation);
        if !directory.is_dir() {
            return Condition::Missing;
        }
        for (file, digest) in &record.files {
            let path = directory.join(file);
            let fault = std::fs::metadata(&path)
                .ok()
                .and_then(|meta| self.permissions.fault(&meta));
            if let Some(fault) = fault {
                return Condition::Damaged(format!("{} {fault}", path.display()));
            }
            match std::fs::read(&path).map(Zeroizing::new) {
                Ok(content) if fingerprint::hex(&fingerprint::sha256(&content)) == *digest => {}
                Ok(_) => {
                    return Condition::Damaged(format!(
                        "{} holds other bytes than were written",
                        path.display()
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Condition::Damaged(format!("{} is gone", path.display()));
                }
                Err(error) => {
                    return Condition::Damaged(format!(
                        "{} can't be read: {error}",
                        path.display()
                    ));
                }
            }
        }
        Condition::Whole
    }

    /// The certificates of a staged generation, leaf first; empty when they can't be read.
    pub fn fullchain(&self, name: &CertificateName, generation: Generation) -> Vec<Vec<u8>> {
        read_fullchain(&self.path(name, generation))
    }

    /// The leaf of each key pair of a staged generation; without those that can't be read.
    pub fn leaves(
        &self,
        name: &CertificateName,
        generation: Generation,
        record: &StagedRecord,
    ) -> Vec<Vec<u8>> {
        let directory = self.path(name, generation);
        record
            .files
            .keys()
            .filter(|file| file.starts_with("cert"))
            .filter_map(|file| read_chain(&directory.join(file)).into_iter().next())
            .collect()
    }

    /// The generations of a certificate that are there, whole or not.
    pub fn generations(&self, name: &CertificateName) -> Vec<Generation> {
        let entries = std::fs::read_dir(self.root.join(name.as_str()));
        let names = entries.into_iter().flatten().flatten();
        names
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Generation))
            .collect()
    }

    /// Removes what a crash left half-written, and generations that are neither active nor wanted nor among the
    /// two before the active one. Returns those that were removed.
    ///
    /// # Errors
    /// When something can't be removed.
    pub fn prune(
        &self,
        name: &CertificateName,
        active: Option<Generation>,
        wanted: Generation,
    ) -> Result<Vec<Generation>, DiskError> {
        let directory = self.root.join(name.as_str());
        let Ok(entries) = std::fs::read_dir(&directory) else {
            return Ok(Vec::new());
        };
        let mut generations = Vec::new();
        for entry in entries.flatten() {
            let text = entry.file_name().to_string_lossy().into_owned();
            match text.parse() {
                Ok(number) => generations.push(Generation(number)),
                Err(_) if text.ends_with(".tmp") => remove_directory_if_there(&entry.path())?,
                // Not ours, so not ours to remove.
                Err(_) => {}
            }
        }
        let removed = superfluous(&generations, active, wanted);
        for generation in &removed {
            remove_directory_if_there(&self.path(name, *generation))?;
        }
        Ok(removed)
    }
}

/// The certificates in `directory`, leaf first; empty when they can't be read.
pub fn read_fullchain(directory: &Path) -> Vec<Vec<u8>> {
    read_chain(&directory.join("fullchain.pem"))
}

fn read_chain(file: &Path) -> Vec<Vec<u8>> {
    std::fs::read(file)
        .ok()
        .and_then(|text| pem::read_certificates(&text).ok())
        .map(|certificates| certificates.iter().map(|der| der.to_vec()).collect())
        .unwrap_or_default()
}

/// Which generations to remove: all but the active one, the wanted one, and the newest two before the active one.
fn superfluous(
    present: &[Generation],
    active: Option<Generation>,
    wanted: Generation,
) -> Vec<Generation> {
    // With nothing active nothing is known to be unneeded.
    let Some(active) = active else {
        return Vec::new();
    };
    let mut older: Vec<Generation> = present.iter().copied().filter(|g| *g < active).collect();
    older.sort_unstable_by(|a, b| b.cmp(a));
    let kept = &older[..older.len().min(OLDER_KEPT)];
    present
        .iter()
        .copied()
        .filter(|g| *g != active && *g != wanted && !kept.contains(g) && *g < active.max(wanted))
        .collect()
}

/// File names and contents of all key pairs. The first pair has the plain names; a twin's carry its kind of key.
fn contents(pairs: &[KeyPair]) -> Vec<(String, Zeroizing<String>)> {
    let mut files = Vec::with_capacity(pairs.len() * 5);
    for (index, pair) in pairs.iter().enumerate() {
        let suffix = match index {
            0 => String::new(),
            1 => format!("-{}", kind_of_key(pair.leaf_der())),
            _ => format!("-{}-{index}", kind_of_key(pair.leaf_der())),
        };
        let key = pem::private_key(pair.private_key.expose());
        let fullchain = pem::certificates(pair.fullchain.iter().map(Vec::as_slice));
        let cert = pem::certificates(pair.fullchain.iter().take(1).map(Vec::as_slice));
        let chain = pem::certificates(pair.fullchain.iter().skip(1).map(Vec::as_slice));
        let mut combined = Zeroizing::new(String::with_capacity(fullchain.len() + key.len()));
        combined.push_str(&fullchain);
        combined.push_str(&key);
        files.push((format!("privkey{suffix}.pem"), key));
        files.push((format!("cert{suffix}.pem"), Zeroizing::new(cert)));
        files.push((format!("chain{suffix}.pem"), Zeroizing::new(chain)));
        files.push((format!("fullchain{suffix}.pem"), Zeroizing::new(fullchain)));
        files.push((format!("combined{suffix}.pem"), combined));
    }
    files
}

fn kind_of_key(leaf: &[u8]) -> &'static str {
    if has_rsa_key(leaf) { "rsa" } else { "ecdsa" }
}

/// Whether a leaf's public key is an RSA key.
pub fn has_rsa_key(leaf: &[u8]) -> bool {
    use x509_parser::{oid_registry::OID_PKCS1_RSAENCRYPTION, prelude::FromDer as _};
    x509_parser::certificate::X509Certificate::from_der(leaf)
        .is_ok_and(|(_, leaf)| leaf.public_key().algorithm.algorithm == OID_PKCS1_RSAENCRYPTION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(list: &[u64]) -> Vec<Generation> {
        list.iter().copied().map(Generation).collect()
    }

    #[test]
    fn two_older_generations_are_kept() {
        assert_eq!(
            superfluous(
                &numbers(&[0, 1, 2, 3, 4, 5]),
                Some(Generation(5)),
                Generation(5)
            ),
            numbers(&[0, 1, 2])
        );
        assert_eq!(
            superfluous(&numbers(&[4, 5, 6]), Some(Generation(5)), Generation(6)),
            numbers(&[])
        );
        assert_eq!(
            superfluous(&numbers(&[1, 2]), None, Generation(2)),
            numbers(&[])
        );
        // A host may be ahead of what the issuer wants.
        assert_eq!(
            superfluous(&numbers(&[5, 6, 7]), Some(Generation(5)), Generation(5)),
            numbers(&[])
        );
    }

    proptest! {
        #[test]
        fn neither_active_nor_wanted_is_ever_removed(present in proptest::collection::vec(0_u64..20, 0..10), active in 0_u64..20, wanted in 0_u64..20) {
            let removed = superfluous(&numbers(&present), Some(Generation(active)), Generation(wanted));
            prop_assert!(!removed.contains(&Generation(active)) && !removed.contains(&Generation(wanted)));
        }
    }
}
