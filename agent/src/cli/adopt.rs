//! `certwell-agent adopt LINEAGE [--undo]`: gathers what lies on disk, asks `plan::adopt` for the next step, performs
//! it; then has nginx test and reload, and proves what is served.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use certwell_proto::{CertificateName, Exit, Generation};

use super::{Failure, exit_of_io, say};
use crate::{
    certbot::{
        Adopted, Places,
        adoption::StepError,
        lineage::read_leaf,
        lock::{CertbotLock, LockError},
        note::Adoption,
        proof::Listeners,
    },
    clock,
    config::Config,
    disk::{Live, LiveDirectory, Permissions, Store, durable::DiskError},
    inventory::{entry_of, leaves, spellings},
    nginx::{
        Endpoint, Nginx, Parsed, Tested,
        dump::{self, DumpError},
        reload, run,
    },
    plan::{
        adopt::{self, Conflict, Entry, Found, Step, Successor},
        confirm::Verdict,
    },
};

/// For one run of nginx, as in the daemon.
const RUN_LIMIT: Duration = Duration::from_secs(120);

type NextStep = fn(&Found, &std::path::Path) -> Result<Step, Conflict>;

pub(super) async fn perform(
    config: &Config,
    lineage: &str,
    certificate: Option<&CertificateName>,
    back: bool,
) -> Result<Exit, Failure> {
    if config.exec.is_some() {
        return Err(Failure::new(
            Exit::Configuration,
            format!(
                "this host's server isn't nginx ([exec] in agent.toml), and only nginx's listeners can be followed to certbot's files: name {}/NAME in its configuration instead",
                config.live_directory.display()
            ),
        ));
    }
    let places = Places::new(&config.certbot_directory, lineage);
    if !places.exists().map_err(disk)? {
        return Err(Failure::new(
            Exit::NotFound,
            format!(
                "certbot has no lineage {lineage} in {}; `certwell-agent inventory` lists those that there are",
                config.certbot_directory.display()
            ),
        ));
    }
    Permissions::new(config.file_group.as_deref())
        .map_err(|error| Failure::new(Exit::Configuration, error))?
        .make_directory(&config.state_directory)
        .map_err(disk)?;
    let _lock = CertbotLock::take(&config.certbot_directory).map_err(|error| match error {
        LockError::Held(_) => Failure::new(Exit::Conflict, error),
        LockError::Disk(error) => disk(error),
    })?;
    let adopted = Adopted::load(&config.adopted_file())
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    let mut work = Work {
        config,
        lineage: lineage.to_owned(),
        certificate: String::new(),
        places,
        adopted,
    };
    if back {
        work.give_back().await
    } else {
        work.take_over(certificate).await
    }
}

struct Work<'a> {
    config: &'a Config,
    lineage: String,
    /// The one that takes, or took, the lineage's place.
    certificate: String,
    places: Places,
    adopted: Adopted,
}

/// What nginx was like before anything was changed.
struct Before {
    listeners: Listeners,
    healthy: HashMap<(Endpoint, Option<String>), bool>,
}

impl Work<'_> {
    /// Where the link leads: itself a link, which the running agent switches.
    fn target(&self) -> PathBuf {
        self.config.live_directory.join(&self.certificate)
    }

    fn note(&self) -> Option<&Adoption> {
        self.adopted.lineages.get(&self.lineage)
    }

    fn look(&self) -> Result<Found, Failure> {
        let noted = self
            .note()
            .is_some_and(|note| !note.settled && note.certificate == self.certificate);
        self.places.look(noted).map_err(disk)
    }

    /// The certificate whose link lies where certbot's directory was, or is on its way there.
    fn linked(&self) -> Result<Option<String>, Failure> {
        let found = self.look()?;
        let live = spellings(&self.config.live_directory);
        let linked = [&found.live, &found.aside]
            .into_iter()
            .find_map(|entry| match entry {
                Entry::Link(to) => entry_of(&live, to),
                _ => None,
            });
        Ok(linked)
    }

    async fn take_over(&mut self, wanted: Option<&CertificateName>) -> Result<Exit, Failure> {
        // A run that was cut off goes on with the certificate that it began with.
        let noted = self.note().map(|note| note.certificate.clone());
        self.certificate = match wanted {
            Some(name) => name.to_string(),
            None => noted.clone().unwrap_or_else(|| self.lineage.clone()),
        };
        let found = self.look()?;
        let in_place = matches!(&found.live, Entry::Link(to) if *to == self.target());
        if in_place && self.note().is_some_and(|note| note.settled) {
            say(format_args!(
                "{} is adopted already: {} leads to {}",
                self.lineage,
                self.places.live().display(),
                self.target().display()
            ));
            return Ok(Exit::Done);
        }
        if let Entry::Link(_) = &found.live
            && !in_place
            && let Some(by) = self.linked()?
        {
            return Err(Failure::new(
                Exit::Conflict,
                format!(
                    "{0} is adopted as {by} already; give it back first: certwell-agent adopt --undo {0}",
                    self.lineage
                ),
            ));
        }
        let before = match self.before().await? {
            Ok(before) => before,
            // It may be just this adoption that it refuses: then it goes back below.
            Err(_) if in_place => Before {
                listeners: self.listeners(Parsed::default()),
                healthy: HashMap::new(),
            },
            Err(words) => return Err(self.refused_before(&words)),
        };
        // Nothing is known to be in the way before anything is touched.
        adopt::adopt(&found, &self.target()).map_err(|conflict| self.conflict(&conflict))?;
        let generation = self.fit(&before.listeners)?;
        match self.walk(adopt::adopt) {
            Ok(()) => {}
            Err(Walk::CannotExchange(error)) => {
                self.walk(adopt::undo).map_err(|error| self.failed(error))?;
                self.forget()?;
                return Err(Failure::new(Exit::Conflict, error));
            }
            Err(error) => return Err(self.failed(error)),
        }
        let ended = self.apply(&before).await?;
        let said = match ended {
            Applied::Refused(words) => {
                self.go_back(&before).await?;
                return Err(Failure::new(
                    Exit::NginxRefused,
                    format!(
                        "{}: nginx -t failed with certwell's certificate, so certbot's directory was put back: {words}",
                        self.lineage
                    ),
                ));
            }
            Applied::Regressed(why) => {
                self.go_back(&before).await?;
                return Err(Failure::new(
                    Exit::NotConverged,
                    format!(
                        "{}: {why}; certbot's directory was put back, and nginx reloaded",
                        self.lineage
                    ),
                ));
            }
            Applied::Pending(why) => {
                return Err(Failure::new(
                    Exit::NotConverged,
                    format!(
                        "{0} is adopted on disk, and not served yet: {why}; see to that, and run this again (or certwell-agent adopt --undo {0})",
                        self.lineage
                    ),
                ));
            }
            Applied::Done(said) => said,
        };
        self.settle()?;
        say(format_args!(
            "{} is adopted: {} leads to {}, generation {generation}",
            self.lineage,
            self.places.live().display(),
            self.target().display()
        ));
        say(said);
        say(format_args!(
            "certbot leaves it alone: its renewal configuration is {}",
            self.places.conf_aside().display()
        ));
        Ok(Exit::Done)
    }

    async fn give_back(&mut self) -> Result<Exit, Failure> {
        let noted = self.note().map(|note| note.certificate.clone());
        let Some(certificate) = noted.or(self.linked()?) else {
            return Err(Failure::new(
                Exit::NotFound,
                format!("{} is not adopted: there is nothing to undo", self.lineage),
            ));
        };
        self.certificate = certificate;
        adopt::undo(&self.look()?, &self.target()).map_err(|conflict| self.conflict(&conflict))?;
        let before = match self.before().await? {
            Ok(before) => before,
            // What is wrong with it may be just what is to be undone.
            Err(_) => Before {
                listeners: self.listeners(Parsed::default()),
                healthy: HashMap::new(),
            },
        };
        self.walk(adopt::undo).map_err(|error| self.failed(error))?;
        let said = match self.apply(&before).await? {
            Applied::Refused(words) => {
                // certbot's own pair is what nginx refuses: certwell's stays.
                self.walk(adopt::adopt)
                    .map_err(|error| self.failed(error))?;
                self.apply(&before).await?;
                self.settle()?;
                return Err(Failure::new(
                    Exit::NginxRefused,
                    format!(
                        "{}: nginx -t failed with certbot's own files, so it stays adopted: {words}",
                        self.lineage
                    ),
                ));
            }
            Applied::Regressed(why) | Applied::Pending(why) => {
                return Err(Failure::new(
                    Exit::NotConverged,
                    format!(
                        "{} is certbot's again on disk, and not served yet: {why}; see to that, and run this again",
                        self.lineage
                    ),
                ));
            }
            Applied::Done(said) => said,
        };
        self.forget()?;
        say(format_args!(
            "{} is certbot's again: {} and {} are as they were",
            self.lineage,
            self.places.live().display(),
            self.places.conf().display()
        ));
        say(said);
        Ok(Exit::Done)
    }

    fn listeners(&self, parsed: Parsed) -> Listeners {
        Listeners {
            live: spellings(&self.config.certbot_directory)
                .into_iter()
                .map(|directory| directory.join("live").join(&self.lineage))
                .collect(),
            parsed,
        }
    }

    /// What nginx is like now, or its words where it refuses its configuration.
    async fn before(&self) -> Result<Result<Before, String>, Failure> {
        let nginx = self.nginx()?;
        let agent = std::path::Path::new(dump::SELF);
        let parsed = match dump::listeners(agent, &nginx.invocation, RUN_LIMIT).await {
            Ok(parsed) => parsed,
            Err(DumpError::Refused { words }) => return Ok(Err(words)),
            Err(error) => return Err(Failure::new(Exit::Internal, error)),
        };
        let listeners = self.listeners(parsed);
        let healthy = match nginx.master {
            Some(_) => listeners.healthy().await,
            None => HashMap::new(),
        };
        Ok(Ok(Before { listeners, healthy }))
    }

    fn nginx(&self) -> Result<Nginx, Failure> {
        Nginx::find(&self.config.nginx, clock::now())
            .map_err(|error| Failure::new(Exit::NotFound, error))
    }

    /// The generation that takes the lineage's place.
    fn fit(&self, listeners: &Listeners) -> Result<Generation, Failure> {
        let name: CertificateName = self.certificate.parse().map_err(|error| {
            Failure::new(
                Exit::NotFound,
                format!("{error}, so certwell has none of this name; name another one with --as"),
            )
        })?;
        let live = LiveDirectory::at(self.config.live_directory.clone());
        let store = Store::at(self.config.store_directory());
        let successor = match live.look(&name, &store).map_err(disk)? {
            Live::Absent => Successor::Absent,
            Live::ForeignLink(_) | Live::Directory | Live::Other => Successor::Foreign,
            Live::Ours(generation) => {
                let leaf = leaves(&store.path(&name, generation)).into_iter().next();
                leaf.map_or(Successor::Damaged(generation), |leaf| {
                    Successor::Active(generation, Box::new(leaf))
                })
            }
        };
        // Of certbot's own leaf, wherever its directory lies by now.
        let lineage = [self.places.aside(), self.places.live()]
            .iter()
            .filter(|path| !path.is_symlink())
            .find_map(|path| read_leaf(&path.join("fullchain.pem")).ok())
            .map(|(leaf, _)| leaf.identifiers)
            .unwrap_or_default();
        let needed = adopt::needed(&lineage, listeners.blocks());
        adopt::fit(&self.certificate, &successor, &needed, clock::now())
            .map_err(|unfit| Failure::new(Exit::Conflict, unfit))
    }

    /// Step by step to the end of this direction.
    fn walk(&mut self, next: NextStep) -> Result<(), Walk> {
        loop {
            let found = self.look().map_err(Walk::Failed)?;
            match next(&found, &self.target()).map_err(Walk::Conflict)? {
                Step::Done => return Ok(()),
                Step::Note => self.save(false).map_err(Walk::Failed)?,
                step => match self.places.perform(step, &self.target()) {
                    Ok(()) => {}
                    Err(error @ StepError::CannotExchange { .. }) => {
                        return Err(Walk::CannotExchange(error));
                    }
                    Err(StepError::Disk(error)) => return Err(Walk::Failed(disk(error))),
                },
            }
        }
    }

    /// Test, reload, handshakes.
    async fn apply(&self, before: &Before) -> Result<Applied, Failure> {
        let nginx = self.nginx()?;
        let took = match run::test(&nginx.invocation, RUN_LIMIT)
            .await
            .map_err(|error| Failure::new(Exit::Internal, error))?
        {
            Tested::Passed { took } => took,
            Tested::Refused { words } => return Ok(Applied::Refused(words)),
        };
        let Some(master) = nginx.master else {
            return Ok(Applied::Done(
                "nginx takes it (nginx -t), and is not running: it is served when nginx is started"
                    .into(),
            ));
        };
        if let Err(error) = reload::reload(&self.config.nginx, &master, RUN_LIMIT).await {
            return Ok(Applied::Pending(error.to_string()));
        }
        let proof = before
            .listeners
            .confirm(&self.config.nginx, &master, &before.healthy, took)
            .await;
        Ok(match proof.verdict {
            Verdict::Converged if proof.proven + proof.exempt == 0 => Applied::Done(
                "nginx was tested and reloaded; no server block of it uses this lineage".into(),
            ),
            Verdict::Converged => Applied::Done(format!(
                "nginx was tested and reloaded; {} listener{} and name{} serve it by {} handshakes{}",
                proof.proven,
                plural(proof.proven),
                plural(proof.proven),
                proof.handshakes,
                if proof.exempt == 0 {
                    String::new()
                } else {
                    format!(", {} can't be asked", proof.exempt)
                },
            )),
            Verdict::Regressed => Applied::Regressed(proof.why),
            Verdict::NotApplied | Verdict::Wait => Applied::Pending(proof.why),
        })
    }

    /// certbot's directory is put back; nginx, which was well with it, is told.
    async fn go_back(&mut self, before: &Before) -> Result<(), Failure> {
        self.walk(adopt::undo).map_err(|error| self.failed(error))?;
        match self.apply(before).await? {
            Applied::Done(_) => self.forget(),
            Applied::Refused(why) | Applied::Regressed(why) | Applied::Pending(why) => {
                // The note stays: a run with --undo asks nginx again.
                say(format_args!("after going back: {why}"));
                Ok(())
            }
        }
    }

    fn save(&mut self, settled: bool) -> Result<(), Failure> {
        let adoption = Adoption {
            certificate: self.certificate.clone(),
            settled,
        };
        self.adopted.lineages.insert(self.lineage.clone(), adoption);
        self.adopted.save(&self.config.adopted_file()).map_err(disk)
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.save(true)
    }

    fn forget(&mut self) -> Result<(), Failure> {
        self.adopted.lineages.remove(&self.lineage);
        self.adopted.save(&self.config.adopted_file()).map_err(disk)
    }

    fn refused_before(&self, words: &str) -> Failure {
        Failure::new(
            Exit::NginxRefused,
            format!(
                "{}: nginx refuses its configuration as it is, so nothing was touched: {words}",
                self.lineage
            ),
        )
    }

    fn conflict(&self, conflict: &Conflict) -> Failure {
        Failure::new(
            Exit::Conflict,
            format!("{}: {conflict} ({})", self.lineage, self.whereabouts()),
        )
    }

    fn whereabouts(&self) -> String {
        format!(
            "{}, {}",
            self.places.live().display(),
            self.places.conf().display()
        )
    }

    fn failed(&self, walk: Walk) -> Failure {
        match walk {
            Walk::CannotExchange(error) => Failure::new(Exit::Conflict, error),
            Walk::Conflict(conflict) => self.conflict(&conflict),
            Walk::Failed(failure) => failure,
        }
    }
}

/// Why a walk ended early.
enum Walk {
    CannotExchange(StepError),
    Conflict(Conflict),
    Failed(Failure),
}

/// What came of telling nginx.
enum Applied {
    Done(String),
    Refused(String),
    Regressed(String),
    Pending(String),
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn disk(error: DiskError) -> Failure {
    Failure::new(exit_of_io(&error.source), error)
}
