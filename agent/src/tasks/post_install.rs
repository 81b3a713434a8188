//! Runs the operator's post-install hook after an install that converged. A hook that fails, or hangs until its time is
//! over, is told of and changes nothing: installs go on meanwhile.
//!
//! What ran is written down after it ended, so that a hook runs once for each generation, or once more after a crash.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_proto::{CertificateName, v1};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Shutdown, asked_to_stop, observed::Observed};
use crate::{
    disk::{
        durable,
        permissions::{PermissionError, check_way},
    },
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
        let ran = match check(&settings.path) {
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

/// Refuses what isn't a program that root alone could have put there.
fn check(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let meta = std::fs::metadata(path).map_err(|error| {
        format!(
            "post-install {shown} can't be run: {error}; put it there, or leave the setting out"
        )
    })?;
    if !meta.is_file() {
        return Err(format!(
            "post-install {shown} isn't run: it is no regular file; name a program"
        ));
    }
    check_way(path).map_err(|error| match error {
        PermissionError::Untrusted {
            path,
            problem,
            remedy,
        } => format!(
            "post-install {shown} isn't run: {} {problem}, so that another user could change what root runs; {remedy}",
            path.display()
        ),
        error => format!("post-install {shown} isn't run: {error}"),
    })?;
    if meta.permissions().mode() & 0o020 != 0 {
        return Err(format!(
            "post-install {shown} isn't run: it can be written by group {}; chmod g-w {shown}",
            meta.gid()
        ));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(format!(
            "post-install {shown} can't be run: it isn't executable; chmod +x {shown}"
        ));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_program_of_roots_is_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hook");
        let said = || check(&path).err().unwrap_or_default();
        let mode = |mode: u32| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(said().contains("put it there"), "{}", said());
        fs::write(&path, "#!/bin/sh\n").unwrap();
        for (bits, words) in [
            (0o644, "chmod +x"),
            (0o757, "can be written by everybody"),
            (0o775, "can be written by group"),
            (0o755, ""),
            (0o700, ""),
        ] {
            mode(bits);
            assert!(said().contains(words), "{bits:o}: {}", said());
            assert_eq!(said().is_empty(), words.is_empty(), "{bits:o}");
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(said().contains("could change what root runs"), "{}", said());
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            assert!(said().contains("belongs to user 65534"), "{}", said());
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(said().contains("no regular file"), "{}", said());
    }
}
