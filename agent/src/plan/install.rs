//! The next step of a round of installs.
//!
//! ```text
//! each certificate: fetch -> verify -> stage -> candidate test          (whatever fails ends it alone)
//! then together:    baseline -> activate -> test -> reload -> confirm -> report
//! joint test fails: roll all back, then activate one by one
//! one fails alone:  roll it back unless the older one is worthless, test again: is the host to blame?
//! one regresses:    roll it back unless the older one is worthless, test, reload
//! ```
//!
//! The task performs the step, writes what it found into the [`Round`], and asks again.

use std::collections::BTreeMap;

use certwell_proto::CertificateName;

use super::confirm::Verdict;

/// How far one certificate has come in this round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// It is needed.
    Wanted,
    /// Its bundle is in memory.
    Fetched,
    /// It passed every check in Rust.
    Verified,
    /// It is whole on disk, beside what is active.
    Staged,
    /// nginx took it in a configuration of its own, or there is no nginx to ask.
    Ready,
    /// `live/NAME` points at it.
    Active,
    /// The round is over for it.
    Finished,
}

/// One certificate in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// How far it has come.
    pub progress: Progress,
    /// Whether an issued generation was ever active, and something is there that can be made worse.
    pub ever_real: bool,
    /// What it replaces is absent, the placeholder, or expired: no reason to go back to it.
    pub older_worthless: bool,
    /// What confirming found, once it was tried.
    pub verdict: Option<Verdict>,
}

/// The host's nginx, before anything is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Not looked at in this round.
    Unknown,
    /// A master runs, and its configuration passes.
    Sound,
    /// A master runs, and its configuration is refused as it is.
    Broken,
    /// An operator's edit is in progress.
    Editing,
    /// No master runs; the binary is there.
    Stopped,
    /// There is no nginx.
    Absent,
}

/// How far the round as a whole has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Certificates are being made ready.
    Preparing,
    /// Some are active, not yet tested.
    Activated,
    /// nginx takes the configuration with them.
    TestPassed,
    /// It doesn't.
    TestFailed,
    /// They were rolled back since the test failed.
    RolledBack,
    /// The test after that was made; whatever it said.
    TestedAgain,
    /// nginx was told to reload.
    Reloaded,
    /// Each active one has its verdict.
    Confirmed,
    /// Those that regressed were rolled back.
    RegressedRolledBack,
    /// The configuration passes again: nginx is to go back to it.
    RegressedTested,
    /// It has been told so, or can't be.
    RegressedReloaded,
}

/// The facts of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// All that are due.
    pub certificates: BTreeMap<CertificateName, Candidate>,
    /// The host's nginx.
    pub host: Host,
    /// How far it has come.
    pub phase: Phase,
    /// After a joint test failed.
    pub one_by_one: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask the issuer for its bundle.
    Fetch(CertificateName),
    /// Check it.
    Verify(CertificateName),
    /// Write it to disk.
    Stage(CertificateName),
    /// Have nginx read it in a configuration of its own.
    TestCandidate(CertificateName),
    /// Look at the host's nginx.
    Baseline,
    /// Leave these as they are: the host stands in the way.
    Hold(Vec<CertificateName>),
    /// Point `live/NAME` at these.
    Activate(Vec<CertificateName>),
    /// `nginx -t`.
    Test,
    /// Tell nginx.
    Reload,
    /// Handshakes, until all these have a verdict.
    Confirm(Vec<CertificateName>),
    /// Point `live/NAME` of these back.
    RollBack(Vec<CertificateName>),
    /// `nginx -t`, to know who is to blame.
    TestAgain,
    /// These have come to an end in this round: tell their outcome. Then the next may follow.
    Report(Vec<CertificateName>),
    /// Nothing is left to do.
    Done,
}

impl Step {
    /// What is measured under a name of its own; `None` for what is only written down.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Fetch(_) => Some("fetch"),
            Self::Verify(_) => Some("verify"),
            Self::Stage(_) => Some("stage"),
            Self::TestCandidate(_) => Some("candidate-test"),
            Self::Baseline => Some("baseline"),
            Self::Activate(_) => Some("activate"),
            Self::Test | Self::TestAgain => Some("test"),
            Self::Reload => Some("reload"),
            Self::Confirm(_) => Some("confirm"),
            Self::RollBack(_) => Some("roll-back"),
            Self::Hold(_) | Self::Report(_) | Self::Done => None,
        }
    }
}

impl Round {
    /// A round of these.
    pub fn new(certificates: BTreeMap<CertificateName, Candidate>) -> Self {
        Self {
            certificates,
            host: Host::Unknown,
            phase: Phase::Preparing,
            one_by_one: false,
        }
    }

    fn at(&self, progress: Progress) -> Vec<CertificateName> {
        self.those(|c| c.progress == progress)
    }

    fn those(&self, matches: impl Fn(&Candidate) -> bool) -> Vec<CertificateName> {
        self.certificates
            .iter()
            .filter(|(_, c)| matches(c))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn regressed(&self) -> Vec<CertificateName> {
        self.those(|c| {
            c.progress == Progress::Active
                && c.verdict == Some(Verdict::Regressed)
                && !c.older_worthless
        })
    }
}

/// Whether a certificate may be activated on such a host.
fn may_activate(host: Host, candidate: &Candidate) -> bool {
    match host {
        // Stopped: installed and tested, so that nginx starts with it; we don't start it.
        Host::Sound | Host::Stopped => true,
        // Until a real generation was active nothing can be made worse.
        Host::Broken | Host::Absent => !candidate.ever_real,
        Host::Editing | Host::Unknown => false,
    }
}

/// The next step.
pub fn next(round: &Round) -> Step {
    let active = || round.at(Progress::Active);
    match round.phase {
        Phase::Preparing => prepare(round),
        Phase::Activated if round.host == Host::Absent => Step::Report(active()),
        Phase::Activated => Step::Test,
        Phase::TestPassed if round.host == Host::Stopped => Step::Report(active()),
        Phase::TestPassed => Step::Reload,
        Phase::TestFailed => {
            let batch = active();
            if batch.len() > 1 {
                return Step::RollBack(batch);
            }
            let back = round.those(|c| c.progress == Progress::Active && !c.older_worthless);
            if back.is_empty() {
                Step::Report(batch)
            } else {
                Step::RollBack(back)
            }
        }
        Phase::RolledBack => Step::TestAgain,
        Phase::TestedAgain => Step::Report(active()),
        Phase::Reloaded => Step::Confirm(active()),
        Phase::Confirmed => {
            let back = round.regressed();
            if back.is_empty() {
                Step::Report(active())
            } else {
                Step::RollBack(back)
            }
        }
        Phase::RegressedRolledBack => Step::Test,
        Phase::RegressedTested => Step::Reload,
        Phase::RegressedReloaded => Step::Report(active()),
    }
}

fn prepare(round: &Round) -> Step {
    for (name, candidate) in &round.certificates {
        let name = name.clone();
        match candidate.progress {
            Progress::Wanted => return Step::Fetch(name),
            Progress::Fetched => return Step::Verify(name),
            Progress::Verified => return Step::Stage(name),
            Progress::Staged => return Step::TestCandidate(name),
            Progress::Ready | Progress::Active | Progress::Finished => {}
        }
    }
    let ready = round.at(Progress::Ready);
    if ready.is_empty() {
        return Step::Done;
    }
    if round.host == Host::Unknown {
        return Step::Baseline;
    }
    let held = round.those(|c| c.progress == Progress::Ready && !may_activate(round.host, c));
    if !held.is_empty() {
        return Step::Hold(held);
    }
    if round.one_by_one {
        return Step::Activate(ready.into_iter().take(1).collect());
    }
    Step::Activate(ready)
}

/// The phase that follows when a step was performed; `passed` is what a test said, or whether a reload was asked.
///
/// A joint failure begins again, one by one.
pub fn after(round: &mut Round, step: &Step, passed: bool) {
    let set = |round: &mut Round, names: &[CertificateName], progress| {
        for name in names {
            if let Some(candidate) = round.certificates.get_mut(name) {
                candidate.progress = progress;
            }
        }
    };
    match step {
        Step::Activate(_) => round.phase = Phase::Activated,
        Step::Test => {
            round.phase = match (round.phase, passed) {
                (Phase::RegressedRolledBack, true) => Phase::RegressedTested,
                (Phase::RegressedRolledBack, false) => Phase::RegressedReloaded,
                (_, true) => Phase::TestPassed,
                (_, false) => Phase::TestFailed,
            };
        }
        Step::Reload => {
            round.phase = match round.phase {
                Phase::RegressedTested => Phase::RegressedReloaded,
                _ => Phase::Reloaded,
            };
        }
        Step::Confirm(_) => round.phase = Phase::Confirmed,
        Step::RollBack(names)
            if round.phase == Phase::TestFailed && round.at(Progress::Active).len() > 1 =>
        {
            set(round, names, Progress::Ready);
            round.one_by_one = true;
            round.phase = Phase::Preparing;
        }
        Step::RollBack(_) if round.phase == Phase::TestFailed => round.phase = Phase::RolledBack,
        Step::RollBack(_) => round.phase = Phase::RegressedRolledBack,
        Step::TestAgain => {
            round.phase = Phase::TestedAgain;
            if !passed {
                // It fails without any of ours: whatever else waits is held for the host.
                round.host = Host::Broken;
            }
        }
        Step::Report(names) | Step::Hold(names) => {
            set(round, names, Progress::Finished);
            round.phase = Phase::Preparing;
        }
        Step::Fetch(_)
        | Step::Verify(_)
        | Step::Stage(_)
        | Step::TestCandidate(_)
        | Step::Baseline
        | Step::Done => {}
    }
}

#[cfg(test)]
mod tests;
