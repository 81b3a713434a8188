//! `certwell-issuer init`: a new fleet. Nothing that exists is overwritten, and when a step fails, what this run
//! made is removed again.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use certwell_proto::{Fingerprint, FleetName, Lineage, Secret};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};

use crate::{
    clock,
    config::{self, Config, ConfigErrors},
    making::{MakeError, Undo, hand_over},
    store::{
        FleetCa, Store as _, StoreError,
        keys::{Kek, KeyError, NoRandomness, RecoveryKey},
        sqlite::{DATABASE, SqliteStore},
    },
};

/// The file that packages install; `init` fills in its own values.
const TEMPLATE: &str = include_str!("../../packaging/config/issuer.toml");
const CA_LIFE: SignedDuration = SignedDuration::from_hours(20 * 365 * 24);
/// The CA is valid a little before it is made, for hosts whose clocks are behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// What to make.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// The fleet's name.
    pub fleet: FleetName,
    /// `host:port` as agents reach the issuer; at least one.
    pub endpoints: Vec<String>,
    /// Where agents connect; at least one.
    pub listen: Vec<SocketAddr>,
    /// The store's directory.
    pub state_directory: PathBuf,
    /// The key-encryption key; beside the configuration by default.
    pub key_file: Option<PathBuf>,
    /// The Unix socket behind `certwell`.
    pub admin_socket: PathBuf,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// To be shown once, and kept nowhere here.
    pub recovery_key: RecoveryKey,
    /// The configuration file.
    pub config: PathBuf,
    /// The key-encryption key's file.
    pub key_file: PathBuf,
    /// The store's directory.
    pub state_directory: PathBuf,
    /// Of the fleet CA's certificate.
    pub ca: Fingerprint,
}

/// Why there is no new fleet.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file or directory isn't made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// A path that can't be written into TOML.
    #[error("the path {0:?} isn't UTF-8")]
    Path(PathBuf),
    /// The fleet CA can't be made.
    #[error("can't make the fleet CA: {0}")]
    Ca(rcgen::Error),
    /// The system gave no randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The key file's place isn't accepted.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store can't be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was written isn't accepted.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The recovery key couldn't be shown.
    #[error("the recovery key can't be shown, so nothing was set up")]
    Show(#[source] io::Error),
}

/// Makes configuration, key-encryption key, store and fleet CA, and shows the recovery key by `show`.
///
/// # Errors
/// When something exists already, or a step fails; what was made by then is removed.
pub async fn init(
    options: Options,
    show: impl FnOnce(&Made) -> io::Result<()>,
) -> Result<Made, InitError> {
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|source| MakeError::Make {
            path: path.to_owned(),
            source,
        })
    };
    let config = absolute(&options.config)?;
    let key_file = match &options.key_file {
        Some(path) => absolute(path)?,
        None => config.with_file_name("issuer.kek"),
    };
    let state_directory = absolute(&options.state_directory)?;
    for path in [&config, &key_file, &state_directory.join(DATABASE)] {
        if path.symlink_metadata().is_ok() {
            return Err(MakeError::Exists { path: path.clone() }.into());
        }
    }

    let now = clock::now();
    let text = configuration(&options, &key_file, &state_directory)?;
    let (kek, recovery_key) = (Kek::generate()?, RecoveryKey::generate()?);
    let fleet_ca = fleet_ca(&options.fleet, now).map_err(InitError::Ca)?;
    let ca = Fingerprint::of(&fleet_ca.certificate);
    let lineage = Lineage {
        id: uuid::Uuid::new_v4(),
        started_ms: now.as_millisecond(),
    };

    let mut undo = Undo::default();
    undo.directory(&config.with_file_name(config::DIRECTORY), 0o755)?;
    if let Some(parent) = key_file.parent() {
        undo.directory(parent, 0o700)?;
    }
    undo.file(&key_file, kek.to_text().as_bytes(), 0o600)?;
    undo.directory(&state_directory, 0o700)?;
    let store =
        SqliteStore::create(&state_directory, &kek, &recovery_key, lineage, &fleet_ca).await;
    if !matches!(
        store,
        Err(StoreError::Conflict(_) | StoreError::InUse { .. })
    ) {
        undo.store(&state_directory);
    }
    store?.close().await;
    hand_over(&state_directory)?;
    undo.file(&config, text.as_bytes(), 0o644)?;
    // As `serve` is going to: the key's place, and every value.
    let config_read = Config::load(&config)?;
    Kek::load(&key_file, None, &config_read.issuer.state_directory)?;

    let made = Made {
        recovery_key,
        config,
        key_file,
        state_directory,
        ca,
    };
    show(&made).map_err(InitError::Show)?;
    undo.keep();
    Ok(made)
}

/// The fleet CA: a new key, and a certificate that may sign leaves only.
fn fleet_ca(fleet: &FleetName, now: Timestamp) -> Result<FleetCa, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("certwell fleet CA {fleet}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date(now - BACKDATED).into();
    params.not_after = date(now + CA_LIFE).into();
    let certificate = params.self_signed(&key)?.der().to_vec();
    Ok(FleetCa {
        fleet: fleet.clone(),
        certificate,
        key: Secret::new(key.serialize_der()),
    })
}

fn date(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.as_second().unsigned_abs())
}

/// The packaged configuration, with this fleet's values.
fn configuration(options: &Options, key_file: &Path, state: &Path) -> Result<String, InitError> {
    let path = |path: &Path| {
        path.to_str()
            .map(quoted)
            .ok_or_else(|| InitError::Path(path.to_owned()))
    };
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    let values = [
        ("fleet", quoted(options.fleet.as_str())),
        ("state-directory", path(state)?),
        (
            "listen",
            list(
                options
                    .listen
                    .iter()
                    .map(|address| quoted(&address.to_string()))
                    .collect(),
            ),
        ),
        (
            "endpoints",
            list(
                options
                    .endpoints
                    .iter()
                    .map(|endpoint| quoted(endpoint))
                    .collect(),
            ),
        ),
        ("admin-socket", path(&options.admin_socket)?),
        ("key-encryption-key", path(key_file)?),
    ];
    let mut text = String::with_capacity(TEMPLATE.len() + 256);
    for line in TEMPLATE.lines() {
        let key = line.split_once(" = ").map_or("", |(key, _)| key);
        match values.iter().find(|(name, _)| *name == key) {
            Some((name, value)) => text.push_str(&format!("{name} = {value}")),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    Ok(text)
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
