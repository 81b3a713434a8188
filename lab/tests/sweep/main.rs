//! Agents that are cut off: killed anywhere, they leave the old pair or the new, whole.

use std::io::Write as _;

use anyhow::{Result, ensure};
use certwell_lab::sweep::{self, Work, power_loss, record, touched};

/// For the reader of the whole run, past the test's own capture.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "sweep: {words}");
}

#[test]
fn killed_anywhere_the_old_pair_or_the_new_is_whole_and_a_restarted_agent_converges() -> Result<()>
{
    let mut play = sweep::begin("sweep-kills")?;
    let (tally, _) = sweep::everywhere(&mut play, &Work::ALL, &[], &say)?;
    say(&format!("killed: {}", tally.words()));
    ensure!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
    ensure!(tally.known() >= 240, "{}", tally.words());
    // What is written when it happens to have changed may come once less.
    ensure!(tally.tried() + 6 >= tally.known(), "{}", tally.words());
    play.end_well();
    Ok(())
}

#[test]
fn whatever_a_loss_of_power_leaves_the_old_pair_or_the_new_is_whole() -> Result<()> {
    let mut play = sweep::begin("sweep-power")?;
    let mut outcomes = 0;
    play.all(&Work::ALL, |stages| {
        let recording = record::record(&mut stages[0])?;
        let losses = power_loss::lose_power(&stages[0], &recording)?;
        say(&format!("{}: {losses:?}", stages[0].work.name()));
        outcomes += losses.outcomes;
        Ok(())
    })?;
    say(&format!(
        "power lost: {outcomes} outcomes, all of them whole"
    ));
    ensure!(outcomes >= 1_000, "only {outcomes} outcomes");
    play.end_well();
    Ok(())
}

#[test]
fn an_agent_writes_to_nothing_but_a_short_list_of_paths() -> Result<()> {
    let mut play = sweep::begin("sweep-touched")?;
    let mut all = 0;
    play.all(&Work::ALL, |stages| {
        let recording = record::record(&mut stages[0])?;
        let touched = touched::touched(&stages[0], &recording)?;
        ensure!(touched.strangers.is_empty(), "{:#?}", touched.strangers);
        all += touched.all.len();
        Ok(())
    })?;
    say(&format!("touched: {all} paths, all of them on the list"));
    ensure!(all >= 60, "only {all} paths");
    play.end_well();
    Ok(())
}
