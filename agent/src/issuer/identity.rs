//! `STATE/identity/`: who this host is to the issuer.
//!
//! ```text
//! bound.key                      made once, outlives identities
//! identity.key, identity.pem     the present identity
//! fleet.json                     fleet, host, endpoints, lineage, the fleet CA's certificate
//! enroll.csr                     while enrolling: a lost answer is asked for again with the same request
//! pending.key, pending.pem       the next identity: the key before it is asked for, the certificate before it is used
//! ```
//! Each file is whole or absent. An identity becomes the present one by renaming `pending.key`, then `pending.pem`; a
//! start that finds `pending.pem` goes on from there.

use std::{
    io,
    path::{Path, PathBuf},
};

use certwell_proto::{FleetName, HostName, Leaf, Lineage, pem};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::keys::{HostKey, KeyError};
use crate::disk::{
    Permissions,
    durable::{DiskError, remove_if_there, replace, sync_directory},
    permissions::{PermissionError, check_key_file},
};

/// Everything in it.
const FILES: [&str; 7] = [
    "pending.pem",
    "identity.pem",
    "pending.key",
    "identity.key",
    "enroll.csr",
    "fleet.json",
    "bound.key",
];

/// The directory.
#[derive(Debug, Clone)]
pub struct IdentityStore {
    root: PathBuf,
}

/// The present identity.
pub struct Identity {
    /// Its fleet.
    pub fleet: FleetName,
    /// This host.
    pub host: HostName,
    /// `host:port` of the issuer, as it last named them.
    pub endpoints: Vec<String>,
    /// The lineage that enrolled it.
    pub lineage: Option<Lineage>,
    /// DER of the fleet CA's certificate.
    pub fleet_ca: CertificateDer<'static>,
    /// DER of its certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: HostKey,
    /// First instant of its validity.
    pub not_before: Timestamp,
    /// Last instant of its validity.
    pub not_after: Timestamp,
}

/// `fleet.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FleetRecord {
    /// Its name.
    pub fleet: String,
    /// This host's name.
    pub host: String,
    /// `host:port`.
    pub endpoints: Vec<String>,
    /// UUID.
    pub lineage: String,
    /// Milliseconds since the Unix epoch.
    pub lineage_started_ms: i64,
    /// PEM of the fleet CA's certificate.
    pub fleet_ca: String,
}

/// An identity that isn't there, or can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is none.
    #[error(
        "this host is not enrolled: on the issuer run `certwell token create --host NAME`, then here `certwell-agent enroll TOKEN`"
    )]
    NotEnrolled,
    /// A file is not what it should be.
    #[error("{path} can't be used: {problem}; move it aside, and run `certwell-agent enroll --again TOKEN` with a new token", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Others could read or exchange it.
    #[error(transparent)]
    Permission(#[from] PermissionError),
    /// It can't be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl IdentityStore {
    /// The identity directory at `root`, which need not exist yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Makes the directory, for its owner alone.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create(&self) -> Result<(), IdentityError> {
        Ok(Permissions::default().make_lasting_directory(&self.root)?)
    }

    /// Whether an identity is there.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn is_enrolled(&self) -> Result<bool, IdentityError> {
        for name in ["identity.pem", "pending.pem"] {
            let path = self.path(name);
            if path
                .try_exists()
                .map_err(DiskError::about("looking at", &path))?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The present identity, after ending a change that a crash interrupted.
    ///
    /// # Errors
    /// When there is none, or it can't be used.
    pub fn load(&self) -> Result<Identity, IdentityError> {
        if !self.is_enrolled()? {
            return Err(IdentityError::NotEnrolled);
        }
        self.finish_switch()?;
        self.read("identity.pem", "identity.key")
    }

    /// The identity that [`IdentityStore::load`] would make the present one; nothing is changed.
    ///
    /// # Errors
    /// As for [`IdentityStore::load`].
    pub fn look(&self) -> Result<Identity, IdentityError> {
        if !self.is_enrolled()? {
            return Err(IdentityError::NotEnrolled);
        }
        let (pending, key) = (self.path("pending.pem"), self.path("pending.key"));
        match (pending.exists(), key.exists()) {
            (true, true) => self.read("pending.pem", "pending.key"),
            (true, false) => self.read("pending.pem", "identity.key"),
            (false, _) => self.read("identity.pem", "identity.key"),
        }
    }

    fn read(&self, certificate: &str, key: &str) -> Result<Identity, IdentityError> {
        let fleet_path = self.path("fleet.json");
        let damaged = |path: &Path, problem: &dyn std::fmt::Display| IdentityError::Damaged {
            path: path.to_owned(),
            problem: problem.to_string(),
        };
        let record: FleetRecord =
            serde_json::from_slice(&read(&fleet_path)?).map_err(|e| damaged(&fleet_path, &e))?;
        let fleet_ca =
            one_certificate(record.fleet_ca.as_bytes()).map_err(|e| damaged(&fleet_path, &e))?;
        let path = self.path(certificate);
        let certificate = one_certificate(&read(&path)?).map_err(|e| damaged(&path, &e))?;
        let leaf = Leaf::read(&certificate).map_err(|e| damaged(&path, &e))?;
        let key = self.key(key)?;
        check_key(&certificate, &key).map_err(|e| damaged(&path, &e))?;
        Ok(Identity {
            fleet: record.fleet.parse().map_err(|e| damaged(&fleet_path, &e))?,
            host: record.host.parse().map_err(|e| damaged(&fleet_path, &e))?,
            endpoints: record.endpoints,
            lineage: record.lineage.parse().ok().map(|id| Lineage {
                id,
                started_ms: record.lineage_started_ms,
            }),
            fleet_ca,
            certificate,
            key,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        })
    }

    /// A stored key, if others can't have read it.
    fn key(&self, name: &str) -> Result<HostKey, IdentityError> {
        let path = self.path(name);
        check_key_file(&path)?;
        let text = zeroize::Zeroizing::new(read(&path)?);
        HostKey::from_pem(&text).map_err(|e| IdentityError::Damaged {
            path,
            problem: e.to_string(),
        })
    }

    fn key_or_new(&self, name: &str) -> Result<HostKey, IdentityError> {
        let path = self.path(name);
        if path.exists() {
            return self.key(name);
        }
        let key = HostKey::generate()?;
        replace(&path, key.to_pem().as_bytes(), 0o600)?;
        Ok(key)
    }

    /// The bound key; made and on disk at the first call.
    ///
    /// # Errors
    /// When it can't be made, read or written.
    pub fn bound_key(&self) -> Result<HostKey, IdentityError> {
        self.key_or_new("bound.key")
    }

    /// The identity key of an enrollment, beside the present one if there is one; made and on disk at the first call.
    ///
    /// # Errors
    /// When it can't be made, read or written.
    pub fn enrollment_key(&self) -> Result<HostKey, IdentityError> {
        if self.is_enrolled()? {
            self.pending_key()
        } else {
            self.key_or_new("identity.key")
        }
    }

    /// The request of an enrollment: the stored one if it is for this host, else a new one, stored.
    ///
    /// # Errors
    /// When it can't be made, read or written.
    pub fn enrollment_request(
        &self,
        key: &HostKey,
        fleet: &FleetName,
        host: &HostName,
    ) -> Result<Vec<u8>, IdentityError> {
        let path = self.path("enroll.csr");
        let wanted = format!("certwell://{fleet}/agent/{host}");
        if let Ok(stored) = std::fs::read(&path)
            && is_request_for(&stored, &wanted, &key.public())
        {
            return Ok(stored);
        }
        let request = key.identity_request(fleet, host)?;
        replace(&path, &request, 0o600)?;
        Ok(request)
    }

    /// Makes an enrollment's answer the present identity.
    ///
    /// # Errors
    /// When it can't be written; enrolling once more ends it.
    pub fn enroll(&self, record: &FleetRecord, certificate: &[u8]) -> Result<(), IdentityError> {
        let again = self.is_enrolled()?;
        self.write_fleet(record)?;
        // Last: its presence is what makes a host enrolled.
        if again {
            self.switch(certificate)?;
        } else {
            replace(
                &self.path("identity.pem"),
                pem::certificates([certificate]).as_bytes(),
                0o600,
            )?;
        }
        remove_if_there(&self.path("enroll.csr"))?;
        Ok(())
    }

    /// Removes all of it, the bound key too: this host is in no fleet then. What makes it enrolled goes first.
    ///
    /// # Errors
    /// When something can't be removed; doing it again ends it.
    pub fn forget(&self) -> Result<(), IdentityError> {
        if !self.root.is_dir() {
            return Ok(());
        }
        for name in ["pending.pem", "identity.pem"] {
            remove_if_there(&self.path(name))?;
        }
        sync_directory(&self.root)?;
        for name in FILES {
            remove_if_there(&self.path(name))?;
        }
        Ok(sync_directory(&self.root)?)
    }

    /// Whether anything of it is there.
    pub fn is_begun(&self) -> bool {
        FILES
            .iter()
            .any(|name| std::fs::symlink_metadata(self.path(name)).is_ok())
    }

    fn write_fleet(&self, record: &FleetRecord) -> Result<(), IdentityError> {
        let path = self.path("fleet.json");
        let text = serde_json::to_vec_pretty(record).map_err(|e| IdentityError::Damaged {
            path: path.clone(),
            problem: e.to_string(),
        })?;
        Ok(replace(&path, &text, 0o600)?)
    }

    /// The key of the next identity: the pending one, else a new one, on disk before anybody hears of it.
    ///
    /// # Errors
    /// When it can't be made, read or written.
    pub fn pending_key(&self) -> Result<HostKey, IdentityError> {
        self.key_or_new("pending.key")
    }

    /// Makes the pending key with this certificate the present identity, on disk before its first use.
    ///
    /// # Errors
    /// When it can't be written; the present identity stays, or the next start ends the change.
    pub fn switch(&self, certificate: &[u8]) -> Result<Identity, IdentityError> {
        replace(
            &self.path("pending.pem"),
            pem::certificates([certificate]).as_bytes(),
            0o600,
        )?;
        self.load()
    }

    fn finish_switch(&self) -> Result<(), IdentityError> {
        let pending = self.path("pending.pem");
        if !pending.exists() {
            return Ok(());
        }
        let rename = |from: &Path, to: &str| {
            let to = self.path(to);
            std::fs::rename(from, &to).map_err(DiskError::about("replacing", &to))
        };
        let key = self.path("pending.key");
        if key.exists() {
            rename(&key, "identity.key")?;
            sync_directory(&self.root)?;
        }
        rename(&pending, "identity.pem")?;
        sync_directory(&self.root)?;
        Ok(())
    }
}

/// Whether a certificate is for this key.
///
/// # Errors
/// When it isn't, in words.
pub fn check_key(certificate: &[u8], key: &HostKey) -> Result<(), String> {
    use x509_parser::prelude::FromDer as _;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|e| e.to_string())?;
    if parsed.public_key().raw == key.public() {
        Ok(())
    } else {
        Err("the certificate is for another key".into())
    }
}

fn is_request_for(request: &[u8], uri: &str, public: &[u8]) -> bool {
    use x509_parser::{
        extensions::{GeneralName, ParsedExtension},
        prelude::FromDer as _,
    };
    let Ok((_, parsed)) =
        x509_parser::certification_request::X509CertificationRequest::from_der(request)
    else {
        return false;
    };
    let same_name = parsed.requested_extensions().is_some_and(|mut extensions| {
        extensions.any(|extension| {
            matches!(extension, ParsedExtension::SubjectAlternativeName(san)
                if san.general_names.contains(&GeneralName::URI(uri)))
        })
    });
    same_name && parsed.certification_request_info.subject_pki.raw == public
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            IdentityError::Damaged {
                path: path.to_owned(),
                problem: "it is gone".into(),
            }
        } else {
            DiskError {
                what: "reading",
                path: path.to_owned(),
                source: error,
            }
            .into()
        }
    })
}

fn one_certificate(text: &[u8]) -> Result<CertificateDer<'static>, String> {
    let mut list = pem::read_certificates(text).map_err(|e| format!("{e:?}"))?;
    if list.len() == 1 {
        Ok(list.remove(0))
    } else {
        Err(format!("it holds {} certificates, not one", list.len()))
    }
}
