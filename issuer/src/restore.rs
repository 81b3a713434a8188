//! `certwell-issuer restore`: the fleet of a backup goes on, on a machine that has nothing of it yet.
//!
//! What is wrong is found before the first byte is written: [`Backup::read`] looks at the backup and at the place where
//! it is to go, [`Backup::restore`] first opens every secret by the recovery key. The store gets its name last, by one
//! rename; a run that was cut off before is simply made again.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use certwell_proto::{FleetName, HostName, Lineage, v1::EventKind};
use jiff::Timestamp;

use crate::{
    backup::{self, BackupError, CONFIG},
    clock,
    config::{self, Config, ConfigErrors},
    fleet::revocations::{Revocations, RevocationsError},
    making::{MakeError, Undo, give, hand_over},
    store::{
        EventRecord, Store as _, StoreError,
        keys::{Kek, KeyError, NoRandomness, RecoveryKey},
        sqlite::{self, DATABASE, SqliteStore},
    },
};

/// Where the store is made, inside the state directory, until it is whole.
const UNFINISHED: &str = ".restoring";

/// A backup that was looked at.
#[derive(Debug)]
pub struct Backup {
    directory: PathBuf,
    config: PathBuf,
    /// Of this machine, where it has one.
    present: Option<Config>,
    revocations: Vec<PathBuf>,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// The backup's directory.
    pub backup: PathBuf,
    /// The configuration file, and whether it came from the backup.
    pub config: (PathBuf, bool),
    /// The key-encryption key's file, and whether it was made.
    pub key_file: (PathBuf, bool),
    /// The store's directory.
    pub state_directory: PathBuf,
    /// What the store is from now on.
    pub lineage: Lineage,
    /// Hosts that the backup knows.
    pub hosts: usize,
    /// Hosts of which a revocation is known, of whichever time.
    pub revoked: Vec<HostName>,
    /// Why the service may not go on with the backups that are there.
    pub backups: Option<BackupError>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Not a backup.
    #[error("{0} holds no backup: there is no {DATABASE} in it, and no directory certwell-TIME")]
    NoBackup(PathBuf),
    /// There is a store.
    #[error(
        "there is a store at {0} already, and nothing is overwritten; if it is to go, stop the issuer and move its directory away"
    )]
    Store(PathBuf),
    /// Neither the machine nor the backup has a configuration.
    #[error(
        "{0} doesn't exist, and the backup holds no configuration; write one, or take another backup"
    )]
    NoConfig(PathBuf),
    /// The configuration is another fleet's.
    #[error(
        "the configuration {path} is for the fleet {declared}, the backup is of the fleet {backed_up}; move the configuration away, or correct `fleet`"
    )]
    Fleet {
        /// The configuration.
        path: PathBuf,
        /// In it.
        declared: FleetName,
        /// In the backup.
        backed_up: FleetName,
    },
    /// The configuration has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The key-encryption key that is there isn't accepted.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The backup is damaged or can't be unsealed, or the store can't be made.
    #[error(transparent)]
    Opening(#[from] StoreError),
    /// A file or directory isn't made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// A list of revocations can't be used.
    #[error(transparent)]
    Revocations(#[from] RevocationsError),
    /// The system gave no randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The file system failed.
    #[error(
        "the restore failed at {path}, and is undone; check its rights, and that the disk isn't full"
    )]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    move |source| RestoreError::Io {
        path: path.clone(),
        source,
    }
}

impl Backup {
    /// Looks at a backup (or at a directory of backups: the newest one), and at where it is to go.
    ///
    /// # Errors
    /// When it isn't whole, when this machine has a store, or when its configuration has mistakes.
    pub async fn read(
        from: &Path,
        config: &Path,
        revocations: &[PathBuf],
    ) -> Result<Self, RestoreError> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(failed(path));
        let (from, config) = (absolute(from)?, absolute(config)?);
        let directory = if from.join(DATABASE).is_file() {
            from
        } else {
            backup::newest(&from)
                .map_err(failed(&from))?
                .ok_or(RestoreError::NoBackup(from))?
        };
        let present = match config.symlink_metadata() {
            Ok(_) => Some(Config::load(&config)?),
            Err(_) if directory.join(CONFIG).is_file() => None,
            Err(_) => return Err(RestoreError::NoConfig(config)),
        };
        if let Some(present) = &present {
            no_store(&present.issuer.state_directory)?;
        }
        for given in revocations {
            File::open(given).map_err(failed(given))?;
        }
        sqlite::verify(&directory.join(DATABASE)).await?;
        Ok(Self {
            directory,
            config,
            present,
            revocations: revocations.to_vec(),
        })
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Restores it.
    ///
    /// # Errors
    /// When the recovery key or a secret isn't right, or a step fails; what was made by then is removed.
    pub async fn restore(self, recovery: &RecoveryKey) -> Result<Restored, RestoreError> {
        let now = clock::now();
        let copy = self.directory.join(DATABASE);
        let ca = sqlite::prove(&copy, recovery).await?;

        let mut undo = Undo::default();
        let brought = self.present.is_none();
        if brought {
            self.bring_configuration(&mut undo)?;
        }
        let config = match self.present {
            Some(present) => present,
            None => Config::load(&self.config)?,
        };
        let issuer = &config.issuer;
        if issuer.fleet != ca.fleet {
            return Err(RestoreError::Fleet {
                path: self.config,
                declared: issuer.fleet.clone(),
                backed_up: ca.fleet,
            });
        }
        let state = &issuer.state_directory;
        no_store(state)?;
        let beside = self.directory.parent().unwrap_or(Path::new("/"));
        let mut lists = vec![
            Revocations::in_directory(&self.directory),
            Revocations::in_directory(beside),
            Revocations::in_directory(&issuer.backup_directory),
            // Of a run that was cut off.
            Revocations::in_directory(state),
        ];
        lists.extend(self.revocations.iter().cloned().map(Revocations::at));
        let revoked = union(&lists)?;

        undo.directory(state, 0o700)?;
        fs::set_permissions(state, fs::Permissions::from_mode(0o700)).map_err(failed(state))?;
        let made = !issuer.key_encryption_key.exists();
        if made {
            if let Some(parent) = issuer.key_encryption_key.parent() {
                undo.directory(parent, 0o700)?;
            }
            let text = Kek::generate()?.to_text();
            undo.file(&issuer.key_encryption_key, text.as_bytes(), 0o600)?;
        }
        let kek = Kek::load(&issuer.key_encryption_key, None, state)?;
        let own = Revocations::in_directory(state);
        if !own.path().exists() {
            undo.made(own.path());
        }
        for (host, at) in &revoked {
            own.append(host, *at)?;
        }

        let unfinished = state.join(UNFINISHED);
        remove_directory(&unfinished)?;
        undo.tree(&unfinished);
        fs::create_dir(&unfinished).map_err(failed(&unfinished))?;
        let started = sqlite::lineage(&copy).await?.started_ms + 1;
        let lineage = Lineage {
            id: uuid::Uuid::new_v4(),
            started_ms: now.as_millisecond().max(started),
        };
        let store =
            SqliteStore::restore(&unfinished, &copy, (&kek, recovery), lineage, now).await?;
        let told = told(&store, &self.directory, &revoked, now).await;
        store.close().await;
        let hosts = told?;
        let database = state.join(DATABASE);
        File::open(unfinished.join(DATABASE))
            .and_then(|file| file.sync_all())
            .map_err(failed(&unfinished))?;
        hand_over_all(state, &unfinished)?;
        fs::rename(unfinished.join(DATABASE), &database).map_err(failed(&database))?;
        File::open(state)
            .and_then(|directory| directory.sync_all())
            .map_err(failed(state))?;
        undo.keep();
        remove_directory(&unfinished)?;
        // The fleet is restored; whether the service may go on with its backups is another matter.
        let backups = backup::take_over(&issuer.backup_directory, state).err();
        Ok(Restored {
            backup: self.directory,
            config: (self.config, brought),
            key_file: (issuer.key_encryption_key.clone(), made),
            state_directory: state.clone(),
            lineage,
            hosts,
            revoked: revoked.into_keys().collect(),
            backups,
        })
    }

    fn bring_configuration(&self, undo: &mut Undo) -> Result<(), RestoreError> {
        let more = self.config.with_file_name(config::DIRECTORY);
        undo.directory(&more, 0o755)?;
        let backed_up = self.directory.join(CONFIG);
        for file in config::source_files(&backed_up).map_err(failed(&backed_up))? {
            let to = match file == backed_up {
                true => self.config.clone(),
                false => more.join(file.file_name().unwrap_or_default()),
            };
            if to.symlink_metadata().is_ok() {
                continue;
            }
            let content = fs::read(&file).map_err(failed(&file))?;
            undo.file(&to, &content, 0o644)?;
        }
        Ok(())
    }
}

fn no_store(state: &Path) -> Result<(), RestoreError> {
    let database = state.join(DATABASE);
    match database.symlink_metadata() {
        Ok(_) => Err(RestoreError::Store(database)),
        Err(_) => Ok(()),
    }
}

/// The latest revocation of each host, by all lists.
fn union(lists: &[Revocations]) -> Result<BTreeMap<HostName, Timestamp>, RevocationsError> {
    let mut all = BTreeMap::new();
    for list in lists {
        for (host, at) in list.read()? {
            let known = all.entry(host).or_insert(at);
            *known = (*known).max(at);
        }
    }
    Ok(all)
}

/// What the restored store is told at once: who is revoked, and where it came from. The hosts that it knows.
async fn told(
    store: &SqliteStore,
    backup: &Path,
    revoked: &BTreeMap<HostName, Timestamp>,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let hosts = store.hosts().await?;
    for mut host in hosts.iter().cloned() {
        if let Some(&at) = revoked.get(&host.name) {
            host.revoked = host.revoked.max(Some(at));
            store.put_host(&host).await?;
        }
    }
    store
        .add_event(&EventRecord {
            id: 0,
            at: now,
            kind: EventKind::Recovery,
            certificate: None,
            host: None,
            generation: 0.into(),
            text: format!(
                "restored from {}; join tokens made before are void",
                backup.display()
            ),
        })
        .await?;
    Ok(hosts.len())
}

/// To whom the state directory belongs: its own files, and those that are about to come into it.
fn hand_over_all(state: &Path, unfinished: &Path) -> Result<(), RestoreError> {
    let owner = fs::metadata(state).map_err(failed(state))?;
    let present = fs::metadata(unfinished).map_err(failed(unfinished))?;
    if (owner.uid(), owner.gid()) != (present.uid(), present.gid()) {
        give(unfinished, &owner).map_err(failed(unfinished))?;
    }
    hand_over(unfinished)?;
    Ok(hand_over(state)?)
}

fn remove_directory(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}
