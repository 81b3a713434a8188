//! Plays until the play ends, or until Ctrl-C, which ends every process that the play's `pids` files name.
//!
//! One thread plays and owns the processes; the main one waits.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use anyhow::{Context as _, Result};
use certwell_lab::leftovers::end_leftovers;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::narrator::Narrator;

const INTERRUPTED: u8 = 130;

/// Has `play`, whose processes are noted in `directory`, play. After Ctrl-C `ended` is told how many processes were
/// ended, and it answers 130, or 0 where the play had come to [`runs_on`].
///
/// # Errors
/// Those of the play, and when processes can't be ended.
pub(crate) fn play(
    directory: PathBuf,
    narrator: &Narrator,
    play: impl FnOnce() -> Result<ExitCode> + Send + 'static,
    ended: impl FnOnce(usize),
) -> Result<ExitCode> {
    let (sender, outcome) = oneshot::channel();
    thread::Builder::new()
        .name("play".into())
        .spawn(move || sender.send(play()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = outcome => outcome.context("the play broke off").map(Some),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    })?;
    narrator.done();
    if let Some(outcome) = outcome {
        return outcome;
    }
    println!("\nstopping");
    ended(end_leftovers(&directory)?);
    Ok(if marker(&directory).exists() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(INTERRUPTED)
    })
}

/// What was to be played has been, and runs on until Ctrl-C, which is its proper end.
///
/// # Errors
/// When the note of it can't be written.
pub(crate) fn runs_on(directory: &Path, tell: impl FnOnce()) -> Result<ExitCode> {
    fs::write(marker(directory), "")?;
    tell();
    // The main thread ends the process.
    loop {
        thread::park();
    }
}

fn marker(directory: &Path) -> PathBuf {
    directory.join("played")
}
