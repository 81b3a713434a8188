//! A directory with configuration files.

use std::{fs, path::PathBuf};

use certwell_issuer::config::{Config, ConfigErrors};

/// An `[issuer]` that is right.
pub(crate) const ISSUER: &str =
    "[issuer]\nfleet = \"hachyderm\"\nendpoints = [\"issuer.example.org:7443\"]\n";

/// An authority that is right.
pub(crate) const AUTHORITY: &str =
    "[authority.letsencrypt]\ndirectory = \"https://ca.example/directory\"\n";

pub(crate) struct Files {
    pub(crate) directory: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new(main: &str) -> Self {
        let files = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        files.write("issuer.toml", main);
        files
    }

    pub(crate) fn main(&self) -> PathBuf {
        self.directory.path().join("issuer.toml")
    }

    /// Writes as an editor does: beside, then renamed.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_file_name(".new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, path).unwrap();
    }

    pub(crate) fn load(&self) -> Result<Config, ConfigErrors> {
        Config::load(&self.main())
    }

    /// What a person sees, with the directory left out.
    pub(crate) fn told(&self) -> String {
        let errors = self.load().expect_err("a mistake was due");
        errors
            .to_string()
            .replace(&format!("{}/", self.directory.path().display()), "")
    }
}

/// A self-signed root in PEM.
pub(crate) fn root_pem() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).unwrap().pem()
}
