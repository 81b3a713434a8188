//! Runs the operator's post-install hook after an install that converged. A hook that fails, or hangs until its time is
//! over, is told of and changes nothing: installs go on meanwhile.
//!
//! What ran is written down after it ended, so that a hook runs once for each generation, or once more after a crash.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_notice::trust;
use certwell_proto::{CertificateName, v1};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Shutdown, asked_to_stop, observed::Observed};
use crate::{
    disk::durable,
    exec::command,
    plan::post_install::{Facts, Last, due},
};

/// The setting's name.
const KEY: &str = "post-install";

/// What `agent.toml` says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file.
    pub path: PathBuf,
    /// For each run.
    pub limit: Duration,
}

/// For each run, unless `post-install-limit` says otherwise.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What stands in the way of the hook, by certificate: of which generation, in one sentence.
pub type Problems = BTreeMap<CertificateName, (u64, String)>;

/// `post-install.json`, by certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record(BTreeMap<String, Run>);

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    generation: u64,
    /// Empty when it ended well.
    problem: String,
    /// The hook as it was: a failed one runs again when it was changed.
    file: String,
}

/// The task.
pub struct PostInstallTask {
    /// Without it there is nothing to do.
    pub settings: Option<Settings>,
    /// `post-install.json`.
    pub record_path: PathBuf,
    /// Where `live/NAME` lie.
    pub live_directory: PathBuf,
    /// What is so.
    pub observed: watch::Receiver<Observed>,
    /// What stands in the way.
    pub problems: watch::Sender<Problems>,
    /// The end.
    pub shutdown: Shutdown,
}

impl PostInstallTask {
    /// Until shutdown, which ends a hook that runs.
    pub async fn run(mut self) {
        let Some(settings) = self.settings.clone() else {
            return asked_to_stop(&mut self.shutdown).await;
        };
        let mut record = self.read();
        self.publish(&record);
        loop {
            let next = self.next(&settings, &record);
            let mut shutdown = self.shutdown.clone();
            let Some((name, generation, file)) = next else {
                tokio::select! {
                    () = asked_to_stop(&mut shutdown) => return,
                    changed = self.observed.changed() => if changed.is_err() { return },
                }
                continue;
            };
            let problem = tokio::select! {
                // It is run again at the next start.
                () = asked_to_stop(&mut shutdown) => return,
                problem = self.hook(&settings, &name, generation) => problem,
            };
            let run = Run {
                generation,
                problem,
                file,
            };
            record.0.insert(name.to_string(), run);
            self.write(&record);
            self.publish(&record);
        }
    }

    fn next(
        &mut self,
        settings: &Settings,
        record: &Record,
    ) -> Option<(CertificateName, u64, String)> {
        let file = stamp(&settings.path);
        let observed = self.observed.borrow_and_update();
        observed.certificates.iter().find_map(|(name, seen)| {
            let converged = seen.report.outcome() == v1::Outcome::Converged;
            let last = record.0.get(name.as_str()).map(|run| Last {
                generation: run.generation,
                failed: !run.problem.is_empty(),
                file: &run.file,
            });
            let generation = due(&Facts {
                active: seen.active,
                converged: converged.then_some(seen.report.outcome_generation),
                last,
                file: &file,
            })?;
            Some((name.clone(), generation, file.clone()))
        })
    }

    /// What stands in its way; empty when it ended well.
    async fn hook(&self, settings: &Settings, name: &CertificateName, generation: u64) -> String {
        let directory = self.live_directory.join(name.as_str());
        let number = generation.to_string();
        let environment: [(&str, &OsStr); 3] = [
            ("CERTWELL_CERTIFICATE", name.as_str().as_ref()),
            ("CERTWELL_GENERATION", number.as_ref()),
            ("CERTWELL_DIRECTORY", directory.as_ref()),
        ];
        let ran = match trust::check_program(KEY, &settings.path) {
            Err(problem) => Err(problem),
            Ok(()) => command::run_file(KEY, &settings.path, &environment, settings.limit)
                .await
                .map_err(|error| error.to_string()),
        };
        match ran {
            Ok(took) => {
                tracing::info!(certificate = %name, generation, ms = took.as_secs_f64() * 1000.0, "the post-install hook ran");
                String::new()
            }
            Err(problem) => {
                tracing::error!(certificate = %name, generation, problem, "the post-install hook failed");
                problem
            }
        }
    }

    fn publish(&self, record: &Record) {
        let problems: Problems = record
            .0
            .iter()
            .filter(|(_, run)| !run.problem.is_empty())
            .filter_map(|(name, run)| {
                Some((name.parse().ok()?, (run.generation, run.problem.clone())))
            })
            .collect();
        self.problems.send_if_modified(|present| {
            let news = *present != problems;
            *present = problems;
            news
        });
    }

    /// One that can't be read is begun anew: the hook runs once more.
    fn read(&self) -> Record {
        let bytes = std::fs::read(&self.record_path).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn write(&self, record: &Record) {
        let written = serde_json::to_vec(record)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                durable::replace(&self.record_path, &bytes, 0o600)
                    .map_err(|error| error.to_string())
            });
        if let Err(problem) = written {
            tracing::warn!(
                problem,
                "that the post-install hook ran isn't written down: after a restart it runs once more"
            );
        }
    }
}

/// Changes when the file does, by content, mode or owner.
fn stamp(path: &Path) -> String {
    std::fs::metadata(path).map_or_else(
        |error| format!("{path:?} {}", error.kind()),
        |meta| {
            let (ino, seconds, nanoseconds) = (meta.ino(), meta.ctime(), meta.ctime_nsec());
            format!("{path:?} {ino} {seconds}.{nanoseconds}")
        },
    )
}

/// The sentence of a certificate with that of its hook, where there is one for what is active.
pub(super) fn with_hook(
    sentence: String,
    active: Option<u64>,
    hook: Option<&(u64, String)>,
) -> String {
    match hook.filter(|(generation, _)| active == Some(*generation)) {
        Some((_, problem)) if sentence.is_empty() => problem.clone(),
        Some((_, problem)) => format!("{sentence}; {problem}"),
        None => sentence,
    }
}
