//! `ledger.json`: what the agent knows it put on disk, and the lineage that it believes in.
//!
//! The link `live/NAME` says what is active; the ledger says what should be there, byte for byte, and what came of
//! it. It is replaced whole: a crash leaves the old or the new one.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use certwell_proto::{CertificateName, Fingerprint, Generation, Lineage};
use serde::{Deserialize, Serialize};

use super::durable::{DiskError, replace};

const VERSION: u32 = 1;

/// Everything in `ledger.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    version: u32,
    /// The newest lineage that an issuer has shown.
    pub lineage: Option<LineageRecord>,
    /// By name; a certificate that is no longer assigned stays, since its files do.
    pub certificates: BTreeMap<String, LedgerEntry>,
    /// The last activation before which nginx ran as a unit of systemd's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// See [`Ledger::activation`]. An agent of before this was kept passes over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// The unit that nginx ran as.
    pub unit: String,
    /// Id of the boot of this machine at which it was.
    pub boot: String,
    /// Milliseconds since that boot.
    pub at_ms: u64,
    /// When nginx was started for it, having failed: the host's clock, milliseconds since the Unix epoch.
    #[serde(default)]
    pub started_ms: Option<i64>,
}

/// A lineage as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageRecord {
    id: String,
    started_ms: i64,
}

/// One certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerEntry {
    /// What `live/NAME` was last made to point at; 0 is the placeholder.
    pub active: Option<u64>,
    /// Whether an issued generation was ever active.
    pub ever_real: bool,
    /// Each generation on disk, by number.
    pub staged: BTreeMap<u64, StagedRecord>,
    /// The highest generation ever staged, with its leaves: nothing lower is taken, nor other bytes at it.
    pub highest: Option<Highest>,
    /// Generations that are not taken again, with the reason.
    pub rejected: BTreeMap<u64, String>,
    /// How often this generation regressed.
    pub regressed: Option<Regressed>,
    /// The facts that were reported last.
    pub facts: Facts,
}

/// The files of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedRecord {
    /// SHA-256 of each, in hex.
    pub files: BTreeMap<String, String>,
    /// Of the leaves, in the bundle's order, in hex.
    pub fingerprints: Vec<String>,
}

/// See [`LedgerEntry::highest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Highest {
    /// Its number.
    pub generation: u64,
    /// Of its leaves, in hex.
    pub fingerprints: Vec<String>,
    /// Id of the lineage under which it was staged.
    #[serde(default)]
    pub lineage: Option<String>,
}

impl Highest {
    /// Its leaves.
    pub fn leaves(&self) -> Vec<Fingerprint> {
        self.fingerprints
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect()
    }
}

/// See [`LedgerEntry::regressed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regressed {
    /// Which one.
    pub generation: u64,
    /// How often.
    pub times: u32,
}

/// The latest of each fact about one certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Its bundle came over the wire.
    pub fetched: Option<Fact>,
    /// It is active on disk.
    pub installed: Option<Fact>,
    /// nginx took the configuration with it.
    pub tested: Option<Fact>,
    /// nginx was told.
    pub reloaded: Option<Fact>,
}

/// A generation, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Which one.
    pub generation: u64,
    /// The host's clock, milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// A ledger that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It can't be read.
    #[error(
        "{path} can't be read: {source}; run the agent as root, and see whether the disk is well",
        path = .path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It is no ledger.
    #[error(
        "{path} is damaged ({problem}); move it aside to begin a new one: the certificates on disk stay, and are drawn again",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        problem: String,
    },
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            version: VERSION,
            lineage: None,
            certificates: BTreeMap::new(),
            activation: None,
        }
    }
}

impl Ledger {
    /// Reads it; a new one when there is no file.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or a newer agent wrote it.
    pub fn load(path: &Path) -> Result<Self, LedgerError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(LedgerError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let damaged = |problem: String| LedgerError::Damaged {
            path: path.to_owned(),
            problem,
        };
        let ledger: Self = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if ledger.version > VERSION {
            return Err(damaged(format!(
                "a newer certwell-agent wrote version {} of it",
                ledger.version
            )));
        }
        Ok(ledger)
    }

    /// Replaces the file and forces it to disk.
    ///
    /// # Errors
    /// When it can't be written; the file is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), DiskError> {
        let text = serde_json::to_vec(self).map_err(|e| DiskError {
            what: "writing",
            path: path.to_owned(),
            source: io::Error::other(e),
        })?;
        replace(path, &text, 0o600)
    }

    /// The lineage that it believes in.
    pub fn lineage(&self) -> Option<Lineage> {
        let record = self.lineage.as_ref()?;
        Some(Lineage {
            id: record.id.parse().ok()?,
            started_ms: record.started_ms,
        })
    }

    /// Believes in this lineage from now on.
    pub fn set_lineage(&mut self, lineage: Lineage) {
        self.lineage = Some(LineageRecord {
            id: lineage.id.to_string(),
            started_ms: lineage.started_ms,
        });
    }

    /// What is known of a certificate.
    pub fn entry(&self, name: &CertificateName) -> Option<&LedgerEntry> {
        self.certificates.get(name.as_str())
    }

    /// The same, to be changed; begun when there is none.
    pub fn entry_mut(&mut self, name: &CertificateName) -> &mut LedgerEntry {
        self.certificates
            .entry(name.as_str().to_owned())
            .or_default()
    }
}

impl LedgerEntry {
    /// The active generation.
    pub fn active(&self) -> Option<Generation> {
        self.active.map(Generation)
    }

    /// Which of our generations, among those on disk, this leaf belongs to.
    pub fn generation_of(&self, leaf: &Fingerprint) -> Option<Generation> {
        let text = leaf.to_string();
        self.staged
            .iter()
            .find(|(_, record)| record.fingerprints.contains(&text))
            .map(|(number, _)| Generation(*number))
    }

    /// Takes note of a generation that was staged under a lineage.
    pub fn record_staged(
        &mut self,
        generation: Generation,
        record: StagedRecord,
        lineage: Option<String>,
    ) {
        let taken_over =
            |highest: &Highest| highest.generation <= generation.0 || highest.lineage != lineage;
        if generation.0 > 0 && self.highest.as_ref().is_none_or(taken_over) {
            let fingerprints = record.fingerprints.clone();
            self.highest = Some(Highest {
                generation: generation.0,
                fingerprints,
                lineage,
            });
        }
        self.staged.insert(generation.0, record);
    }

    /// Takes note that a generation was brought to its end: it is what is active, however it came to be so.
    /// Whether that is news.
    pub fn record_served(&mut self, generation: Generation, now: Fact) -> bool {
        let before = self.clone();
        self.active = Some(generation.0);
        self.ever_real = true;
        let facts = &mut self.facts;
        // It is served, so it was installed, tested and reloaded, even where a crash kept that from being noted.
        for one in [&mut facts.installed, &mut facts.tested, &mut facts.reloaded] {
            if one.is_none_or(|fact| fact.generation != generation.0) {
                *one = Some(now);
            }
        }
        *self != before
    }

    /// How often this generation regressed so far.
    pub fn regressions(&self, generation: Generation) -> u32 {
        self.regressed
            .filter(|r| r.generation == generation.0)
            .map_or(0, |r| r.times)
    }

    /// Counts one more.
    pub fn count_regression(&mut self, generation: Generation) -> u32 {
        let times = self.regressions(generation) + 1;
        self.regressed = Some(Regressed {
            generation: generation.0,
            times,
        });
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.json");
        let mut ledger = Ledger::load(&path).unwrap();
        ledger.set_lineage(Lineage {
            id: uuid::Uuid::from_u128(7),
            started_ms: 9,
        });
        let name: CertificateName = "media.example.org".parse().unwrap();
        let leaf = Fingerprint::of(b"leaf");
        ledger.entry_mut(&name).record_staged(
            Generation(3),
            StagedRecord {
                files: BTreeMap::new(),
                fingerprints: vec![leaf.to_string()],
            },
            None,
        );
        ledger.save(&path).unwrap();
        let read = Ledger::load(&path).unwrap();
        assert_eq!(read, ledger);
        assert_eq!(read.lineage().unwrap().id, uuid::Uuid::from_u128(7));
        assert_eq!(
            read.entry(&name).unwrap().generation_of(&leaf),
            Some(Generation(3))
        );
        assert_eq!(
            read.entry(&name)
                .unwrap()
                .highest
                .as_ref()
                .unwrap()
                .generation,
            3
        );
    }

    #[test]
    fn ledgers_without_an_activation_are_read_and_written_as_before_it_was_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.json");
        let old = r#"{"version":1,"lineage":null,"certificates":{}}"#;
        std::fs::write(&path, old).unwrap();
        let mut ledger = Ledger::load(&path).unwrap();
        assert_eq!(ledger.activation, None);
        ledger.save(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), old);
        ledger.activation = Some(Activation {
            unit: "nginx.service".into(),
            boot: "b".into(),
            at_ms: 5,
            started_ms: Some(6),
        });
        ledger.save(&path).unwrap();
        assert_eq!(Ledger::load(&path).unwrap(), ledger);
    }

    fn record(leaf: &[u8]) -> StagedRecord {
        StagedRecord {
            files: BTreeMap::new(),
            fingerprints: vec![Fingerprint::of(leaf).to_string()],
        }
    }

    #[test]
    fn the_highest_generation_gives_way_only_to_a_higher_one_or_another_lineage() {
        let (old, new) = (Some("old".to_owned()), Some("new".to_owned()));
        let mut entry = LedgerEntry::default();
        let highest = |entry: &LedgerEntry| entry.highest.as_ref().map(|h| h.generation);
        entry.record_staged(Generation::NONE, record(b"placeholder"), old.clone());
        assert_eq!(highest(&entry), None, "the placeholder is no issued one");
        entry.record_staged(Generation(5), record(b"5"), old.clone());
        entry.record_staged(Generation(4), record(b"4"), old.clone());
        assert_eq!(highest(&entry), Some(5));
        entry.record_staged(Generation(6), record(b"6"), old);
        assert_eq!(highest(&entry), Some(6));
        entry.record_staged(Generation(3), record(b"3"), new.clone());
        assert_eq!(highest(&entry), Some(3));
        assert_eq!(entry.highest.unwrap().lineage, new);
    }

    #[test]
    fn what_is_served_is_what_is_active_and_was_installed() {
        let mut entry = LedgerEntry::default();
        let now = |at_ms| Fact {
            generation: 2,
            at_ms,
        };
        entry.facts.tested = Some(now(1));
        assert!(entry.record_served(Generation(2), now(2)));
        assert_eq!(entry.active(), Some(Generation(2)));
        assert!(entry.ever_real);
        assert_eq!(
            (entry.facts.installed, entry.facts.tested),
            (Some(now(2)), Some(now(1)))
        );
        assert!(!entry.record_served(Generation(2), now(3)), "no news");
    }

    #[test]
    fn regressions_are_counted_for_one_generation() {
        let mut entry = LedgerEntry::default();
        assert_eq!(entry.count_regression(Generation(2)), 1);
        assert_eq!(entry.count_regression(Generation(2)), 2);
        assert_eq!(entry.regressions(Generation(3)), 0);
        assert_eq!(entry.count_regression(Generation(3)), 1);
    }

    #[test]
    fn a_ledger_that_cannot_be_replaced_whole_is_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.json");
        let mut ledger = Ledger::default();
        ledger.save(&path).unwrap();
        let before = std::fs::read(&path).unwrap();
        std::fs::create_dir(directory.path().join(".ledger.json.new")).unwrap();
        ledger.entry_mut(&"media.example.org".parse().unwrap());
        assert!(ledger.save(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_damaged_ledger_is_refused_with_a_remedy_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.json");
        for text in ["{", "{\"version\":2,\"lineage\":null,\"certificates\":{}}"] {
            std::fs::write(&path, text).unwrap();
            let error = Ledger::load(&path).unwrap_err().to_string();
            assert!(error.contains("move it aside"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
