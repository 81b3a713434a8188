//! One lineage under way: looks at the disk, performs what `plan::adopt` says next, tells nginx, sees what is served.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_proto::{CertificateName, Generation, Leaf};
use tokio::time::Instant;

use super::{
    Adopted, Places,
    lineage::{self, read_leaf},
    note::Adoption,
    proof::{Listeners, Proof},
    wrong::{WorkError, not_loaded},
};
use crate::{
    clock,
    config::Config,
    disk::{Live, LiveDirectory, Store},
    inventory::{algorithm, entry_of, leaves, spellings},
    nginx::{
        Endpoint, Nginx, Tested,
        dump::{self, DumpError},
        edits,
        master::MasterError,
        reload, run,
        workers::Rights,
    },
    plan::{
        adopt::{self, Conflict, Entry, Found, Spot, Step, Successor},
        edit,
    },
};

/// For one run of nginx, as in the daemon.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// Workers that a reload of a moment ago sends away are gone by then.
const RELOADED: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// certwell takes it over.
    Adopt,
    /// certbot gets it back.
    Undo,
}

/// What nginx was like before anything was changed.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// The listeners that use the lineage; absent where nginx refused its configuration.
    pub listeners: Option<Listeners>,
    healthy: HashMap<(Endpoint, Option<String>), bool>,
    /// Of its workers, or of those that it will have.
    workers: Option<Rights>,
    /// A configuration file that is newer than they are.
    edited: Option<PathBuf>,
}

/// What came of telling nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It isn't running; `nginx -t` passed.
    Stopped,
    /// It was told, and asked.
    Told(Proof),
    /// It couldn't be told: why.
    Untold(String),
    /// `nginx -t` failed, with these words.
    Refused(String),
}

/// One lineage, and the certificate that takes, or took, its place.
pub struct Work<'a> {
    config: &'a Config,
    /// Where things lie.
    pub places: Places,
    lineage: String,
    certificate: String,
    adopted: Adopted,
}

impl<'a> Work<'a> {
    /// On this lineage; the certificate isn't known yet.
    ///
    /// # Errors
    /// When the note can't be read.
    pub fn on(config: &'a Config, lineage: &str) -> Result<Self, WorkError> {
        Ok(Self {
            config,
            places: Places::new(&config.certbot_directory, lineage),
            lineage: lineage.to_owned(),
            certificate: String::new(),
            adopted: Adopted::load(&config.adopted_file())?,
        })
    }

    /// The certificate from now on.
    pub fn by(&mut self, certificate: String) {
        self.certificate = certificate;
    }

    /// Where the link leads: itself a link, which the running agent switches.
    pub fn target(&self) -> PathBuf {
        self.config.live_directory.join(&self.certificate)
    }

    /// What the note says of this lineage.
    pub fn note(&self) -> Option<&Adoption> {
        self.adopted.lineages.get(&self.lineage)
    }

    /// What lies on disk.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn look(&self) -> Result<Found, WorkError> {
        let noted = self
            .note()
            .is_some_and(|note| !note.settled && note.certificate == self.certificate);
        Ok(self.places.look(noted)?)
    }

    /// The certificate whose link lies where certbot's directory was, or is on its way there.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn linked(&self) -> Result<Option<String>, WorkError> {
        let found = self.look()?;
        let live = spellings(&self.config.live_directory);
        let links = [&found.live, &found.aside].into_iter();
        Ok(links
            .filter_map(|entry| match entry {
                Entry::Link(to) => entry_of(&live, to),
                _ => None,
            })
            .next())
    }

    /// `live/LINEAGE`, in every way that it is written.
    pub fn live(&self) -> Vec<PathBuf> {
        spellings(&self.config.certbot_directory)
            .into_iter()
            .map(|directory| directory.join("live").join(&self.lineage))
            .collect()
    }

    /// What nginx is like now, or its words where it refuses its configuration.
    ///
    /// # Errors
    /// When it can't be asked.
    pub async fn before(&self) -> Result<Result<Before, String>, WorkError> {
        let nginx = self.nginx()?;
        let agent = Path::new(dump::SELF);
        let parsed = match dump::listeners(agent, &nginx.invocation, RUN_LIMIT).await {
            Ok(parsed) => parsed,
            Err(DumpError::Refused { words }) => return Ok(Err(words)),
            Err(error) => return Err(error.into()),
        };
        let listeners = Listeners {
            live: self.live(),
            parsed,
        };
        let healthy = match nginx.master {
            Some(_) => listeners.healthy().await,
            None => HashMap::new(),
        };
        let workers = match &nginx.master {
            Some(master) => master.active().find_map(|worker| Rights::of(worker.pid)),
            None => {
                let user = match listeners.parsed.user.clone() {
                    Some(user) => user,
                    None => run::built_for(&nginx.invocation, RUN_LIMIT).await?,
                };
                Rights::of_user(&user)
            }
        };
        Ok(Ok(Before {
            edited: self.edited(&listeners.parsed.files).await,
            listeners: Some(listeners),
            healthy,
            workers,
        }))
    }

    /// The configuration file that is newer than nginx's workers.
    async fn edited(&self, files: &[PathBuf]) -> Option<PathBuf> {
        let until = Instant::now() + RELOADED;
        loop {
            let since = self.nginx().ok()?.master?.serving_since();
            let change = edits::newest_foreign_change(
                files,
                &self.config.live_directory,
                &self.config.nginx.challenge_map,
                clock::now(),
            )?;
            if !edit::in_progress(Some(change.at), since) {
                return None;
            }
            if Instant::now() >= until {
                return Some(change.file);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn nginx(&self) -> Result<Nginx, MasterError> {
        Nginx::find(&self.config.nginx, clock::now())
    }

    /// The generation that takes the lineage's place.
    ///
    /// # Errors
    /// When none may.
    pub fn fit(&self, before: &Before) -> Result<Generation, WorkError> {
        // Of certbot's own leaf, wherever its directory lies by now.
        let lineage = [self.places.aside(), self.places.live()]
            .into_iter()
            .filter(|path| !path.is_symlink())
            .map(|path| path.join("fullchain.pem"))
            .find(|path| path.exists());
        let leaf = lineage.as_ref().and_then(|path| read_leaf(path).ok());
        let identifiers = leaf.map_or_else(Vec::new, |(leaf, _)| leaf.identifiers);
        let blocks = before.listeners.iter().flat_map(Listeners::blocks);
        let needed = adopt::needed(&identifiers, blocks);
        let successor = self.successor()?;
        let generation = adopt::fit(&self.certificate, &successor, &needed, clock::now())?;
        if let Some(path) = lineage {
            let keys = (algorithm(&path), algorithm(&self.file("fullchain.pem")));
            let blocks = before.listeners.iter().flat_map(Listeners::blocks);
            adopt::keeps_twins(&self.certificate, keys, blocks)?;
        }
        self.stays_readable(before)?;
        Ok(generation)
    }

    /// A file of the certificate, by the link that the running agent switches.
    fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.target().join(name)
    }

    /// What nginx's workers read by themselves now, they must be able to read of certwell's.
    fn stays_readable(&self, before: &Before) -> Result<(), WorkError> {
        let (Some(listeners), Some(workers)) = (&before.listeners, &before.workers) else {
            return Ok(());
        };
        let closed = listeners
            .read_by_workers()
            .filter(|(path, _)| path.exists() && workers.kept_from(path).is_none())
            .find_map(|(path, at)| {
                let file = self.file(path.file_name()?);
                workers.closed(&file, &at, &self.config.state_directory)
            });
        closed.map_or(Ok(()), |why| {
            Err(WorkError::Closed(format!("{}: {why}", self.lineage)))
        })
    }

    /// Whether a reload loads nothing but what takes the lineage's place.
    ///
    /// # Errors
    /// When an operator's edit is in progress.
    pub fn may_reload(&self, before: &Before) -> Result<(), WorkError> {
        before.edited.as_ref().map_or(Ok(()), |file| {
            Err(WorkError::Edited {
                lineage: self.lineage.clone(),
                file: file.clone(),
            })
        })
    }

    fn successor(&self) -> Result<Successor, WorkError> {
        // A lineage may be called what no certificate of certwell's is.
        let Ok(name) = self.certificate.parse::<CertificateName>() else {
            return Ok(Successor::Absent);
        };
        let live = LiveDirectory::at(self.config.live_directory.clone());
        let store = Store::at(self.config.store_directory());
        Ok(match live.look(&name, &store)? {
            Live::Absent => Successor::Absent,
            Live::ForeignLink(_) | Live::Directory | Live::Other => Successor::Foreign,
            Live::Ours(generation) => {
                let leaf = leaves(&store.path(&name, generation)).into_iter().next();
                leaf.map_or(Successor::Damaged(generation), |leaf| {
                    Successor::Active(generation, Box::new(leaf))
                })
            }
        })
    }

    /// The next step, if there is nothing in the way.
    ///
    /// # Errors
    /// When there is.
    pub fn next(&self, direction: Direction) -> Result<Step, WorkError> {
        let found = self.look()?;
        let next = match direction {
            Direction::Adopt => adopt::adopt(&found, &self.target()),
            Direction::Undo => adopt::undo(&found, &self.target()),
        };
        next.map_err(|conflict| WorkError::Conflict {
            lineage: self.lineage.clone(),
            path: match &conflict {
                Conflict::TwoConfs => self.places.conf(),
                Conflict::Stranger(Spot::Live, _) => self.places.live(),
                Conflict::Stranger(Spot::Aside, _) | Conflict::Lost => self.places.aside(),
            },
            conflict,
        })
    }

    /// Step by step to the end of this direction.
    ///
    /// # Errors
    /// When a step fails; those before it stay, and the next walk goes on from there.
    pub fn walk(&mut self, direction: Direction) -> Result<(), WorkError> {
        loop {
            match self.next(direction)? {
                Step::Done => return Ok(()),
                Step::Note => self.save(false)?,
                step => self.places.perform(step, &self.target())?,
            }
        }
    }

    /// Has nginx test, and reload where it runs; handshakes then tell what it serves.
    ///
    /// # Errors
    /// When it can't be asked.
    pub async fn apply(&self, before: &Before) -> Result<Applied, WorkError> {
        let nginx = self.nginx()?;
        let took = match run::test(&nginx.invocation, RUN_LIMIT).await? {
            Tested::Passed { took } => took,
            Tested::Refused { words } => return Ok(Applied::Refused(words)),
        };
        let Some(master) = nginx.master else {
            return Ok(Applied::Stopped);
        };
        let listeners = match &before.listeners {
            Some(listeners) => listeners.clone(),
            // nginx couldn't tell them before; it takes its configuration now.
            None => match self.before().await? {
                Ok(Before {
                    edited: Some(file), ..
                }) => return Ok(Applied::Untold(not_loaded(&file))),
                Ok(Before {
                    listeners: Some(listeners),
                    ..
                }) => listeners,
                Ok(_) => return Ok(Applied::Refused(String::new())),
                Err(words) => return Ok(Applied::Refused(words)),
            },
        };
        if let Err(error) = reload::reload(&self.config.nginx, &master, RUN_LIMIT).await {
            return Ok(Applied::Untold(error.to_string()));
        }
        let proof = listeners
            .confirm(&self.config.nginx, &master, &before.healthy, took)
            .await;
        Ok(Applied::Told(proof))
    }

    /// What certbot ran after it renewed the lineage, and nobody runs now.
    pub fn hooks(&self) -> Vec<String> {
        lineage::hooks(&self.config.certbot_directory, &self.places.conf_aside())
    }

    /// The leaf that lies on the lineage's path now.
    pub fn leaf(&self) -> Option<Leaf> {
        let path = self.places.live().join("fullchain.pem");
        Some(read_leaf(&path).ok()?.0)
    }

    /// Notes that it is adopted, and whether nginx is known to serve it.
    ///
    /// # Errors
    /// When the note can't be written.
    pub fn save(&mut self, settled: bool) -> Result<(), WorkError> {
        let adoption = Adoption {
            certificate: self.certificate.clone(),
            settled,
        };
        self.adopted.lineages.insert(self.lineage.clone(), adoption);
        Ok(self.adopted.save(&self.config.adopted_file())?)
    }

    /// Notes nothing of it any more.
    ///
    /// # Errors
    /// When the note can't be written.
    pub fn forget(&mut self) -> Result<(), WorkError> {
        self.adopted.lineages.remove(&self.lineage);
        Ok(self.adopted.save(&self.config.adopted_file())?)
    }
}
