//! `make sweep`: every point of an agent's work, killed there and failing there.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use certwell_lab::sweep::{self, ERRORS, Work};
use tokio::time::Instant;

/// Sweeps these works, or all; exit 0 when everything held.
///
/// # Errors
/// When a part doesn't come up.
pub(crate) fn run(works: Vec<Work>, kills_only: bool) -> Result<ExitCode> {
    let began = Instant::now();
    let works = if works.is_empty() {
        Work::ALL.to_vec()
    } else {
        works
    };
    let errors: &[&str] = if kills_only { &[] } else { &ERRORS };
    let mut play = sweep::begin("sweep")?;
    let tell = |words: &str| println!("{:>5} s  {words}", began.elapsed().as_secs());
    tell("every host stands before its first install");
    let (kills, failures) = sweep::everywhere(&mut play, &works, errors, &tell)?;
    println!("\nkilled: {}", kills.words());
    if !kills_only {
        println!("{}: {}", ERRORS.join(", "), failures.words());
    }
    let wrong = kills.wrong.len() + failures.wrong.len();
    println!(
        "{} in {} s",
        if wrong == 0 {
            "every one of them left the old pair or the new whole, and was brought to its end"
                .into()
        } else {
            format!("{wrong} DIDN'T HOLD")
        },
        Duration::as_secs(&began.elapsed())
    );
    if wrong == 0 {
        play.end_well();
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
