//! Certificates of the lab's own making: a root, server certificates under it, and expired self-signed ones.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// A root that the lab's HTTPS servers (Pebble's own, the gate's) are certified by.
#[derive(Debug)]
pub struct LabRoot {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM and DER.
#[derive(Debug)]
pub struct Pair {
    /// Certificate, PEM.
    pub certificate: String,
    /// PKCS#8, PEM.
    pub key: String,
    /// Certificate, DER.
    pub certificate_der: Vec<u8>,
    /// PKCS#8, DER.
    pub key_der: Vec<u8>,
}

impl LabRoot {
    /// Makes a new one.
    ///
    /// # Errors
    /// When a key can't be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "certwell lab root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server at `address`.
    ///
    /// # Errors
    /// When a key can't be made.
    pub fn server(&self, address: IpAddr) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![address.to_string()])?;
        Ok(Pair::of(&params.signed_by(&key, &self.issuer)?, &key))
    }
}

impl Pair {
    fn of(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            certificate_der: certificate.der().to_vec(),
            key_der: key.serialize_der(),
        }
    }

    /// A self-signed certificate for `names` that expired on 2023-02-28.
    ///
    /// # Errors
    /// When a key can't be made.
    pub fn expired(names: &[String]) -> Result<Self> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name.push(
            DnType::CommonName,
            names.first().map_or("nobody", String::as_str),
        );
        params.not_before = date_time_ymd(2022, 11, 30);
        params.not_after = date_time_ymd(2023, 2, 28);
        let key = KeyPair::generate()?;
        Ok(Self::of(&params.self_signed(&key)?, &key))
    }

    /// Writes it as `fullchain.pem` and `privkey.pem` into a plain directory, as a person would.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write_into(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        fs::write(directory.join("fullchain.pem"), &self.certificate)?;
        fs::write(directory.join("privkey.pem"), &self.key)?;
        Ok(())
    }
}
