//! Agents that are cut off: killed anywhere, they leave the old pair or the new, whole.

use std::io::Write as _;

use anyhow::{Result, ensure};
use certwell_lab::sweep::{self, Work};

/// For the reader of the whole run, past the test's own capture.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "sweep: {words}");
}

#[test]
fn killed_anywhere_the_old_pair_or_the_new_is_whole_and_a_restarted_agent_converges() -> Result<()>
{
    let mut play = sweep::begin("sweep-kills")?;
    let tally = sweep::kill_everywhere(&mut play, &Work::ALL, &say)?;
    say(&format!("killed: {}", tally.words()));
    ensure!(tally.known() >= 240, "{}", tally.words());
    // What is written when it happens to have changed may come once less.
    ensure!(tally.tried() + 12 >= tally.known(), "{}", tally.words());
    play.end_well();
    Ok(())
}
