//! `make fleet` and `make incident`: whole Debian hosts to walk about in, and the incident replayed on them.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use certwell_lab::{
    debian::{Fleet, Network, Trees, able, groups, packages::Packages},
    incident::{self, Act, Figure, LIFE, Stage, soak},
    paths::Home,
};
use comfy_table::{Table, presets};
use tokio::time::Instant;

use crate::{interruptible, narrator::Narrator};

/// Of a fleet to walk about in: long enough to look at one, short enough to see renewals.
const WALKING_LIFE: Duration = Duration::from_secs(3600);

/// Boots the fleet, sets it up, and keeps it until Ctrl-C.
///
/// # Errors
/// When a part doesn't come up.
pub(crate) fn walk() -> Result<ExitCode> {
    on_a_fleet("fleet", WALKING_LIFE, |fleet, narrator| {
        narrator.act("Setting up, as the README says");
        incident::open(fleet, &|line| narrator.tell(line))?;
        narrator.done();
        interruptible::runs_on(fleet.directory(), || narrator.print(&doors(fleet)))
    })
}

/// Plays acts one after the other on one fleet; exit 0 only if all hold.
///
/// # Errors
/// When a part doesn't come up.
pub(crate) fn incident(acts: Vec<Act>) -> Result<ExitCode> {
    let acts = if acts.is_empty() {
        Act::ALL.to_vec()
    } else {
        acts
    };
    let acts = acts
        .into_iter()
        .map(|act| (act.title(), move |stage: &mut Stage<'_>| act.play(stage)));
    play_on_one("incident", LIFE, acts.collect())
}

/// Soaks fleets, one for each part; exit 0 only if nothing grew and no request failed.
///
/// # Errors
/// When a part doesn't come up.
pub(crate) fn soak(parts: Vec<soak::Part>) -> Result<ExitCode> {
    let parts = if parts.is_empty() {
        soak::Part::ALL.to_vec()
    } else {
        parts
    };
    for part in parts {
        let name = format!("soak-{}", part.life().as_secs());
        let act = (part.title(), move |stage: &mut Stage<'_>| part.play(stage));
        if play_on_one(&name, part.life(), vec![act])? != ExitCode::SUCCESS {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Plays acts, each with its title, on one fleet that is set up before, and shows the table of them.
fn play_on_one<P>(name: &str, life: Duration, acts: Vec<(&'static str, P)>) -> Result<ExitCode>
where
    P: Fn(&mut Stage<'_>) -> Result<()> + Send + 'static,
{
    on_a_fleet(name, life, move |fleet, narrator| {
        narrator.act("Setting up, as the README says");
        incident::open(fleet, &|line| narrator.tell(line))?;
        let mut played = Vec::new();
        for (title, play) in acts {
            narrator.act(title);
            let began = Instant::now();
            let tell = |line: &str| narrator.tell(line);
            let mut stage = Stage::new(fleet, &tell);
            let outcome = play(&mut stage);
            if let Err(error) = &outcome {
                narrator.tell(&format!("IT DIDN'T HOLD: {error:#}"));
            }
            played.push(Played {
                title,
                figures: stage.figures,
                took: began.elapsed(),
                held: outcome.is_ok(),
            });
            // An act begins where the one before it ended well.
            if outcome.is_err() {
                break;
            }
        }
        narrator.done();
        narrator.print(&format!("\n{}", table(&played)));
        let held = played.iter().all(|played| played.held);
        if held {
            fleet.end_well();
        }
        Ok(if held {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

/// An act that was played.
struct Played {
    title: &'static str,
    figures: Vec<Figure>,
    took: Duration,
    held: bool,
}

fn table(played: &[Played]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["act", "figure", "value"]);
    for Played {
        title,
        figures,
        took,
        held,
    } in played
    {
        let verdict = if *held { "held" } else { "DIDN'T HOLD" };
        table.add_row([*title, verdict, &format!("in {} s", took.as_secs())]);
        for figure in figures {
            table.add_row(["", &figure.what, &figure.value]);
        }
    }
    table.to_string()
}

fn doors(fleet: &Fleet) -> String {
    let mut text =
        "\nThe fleet runs. In another terminal, as root, to enter a host:\n\n".to_owned();
    for machine in fleet.machines() {
        let leader = machine.leader().unwrap_or_default();
        text.push_str(&format!(
            "  {:<16} {:<12} nsenter --target {leader} --all\n",
            machine.name,
            machine.address.to_string()
        ));
    }
    text.push_str(
        "\nOn fritz: certwell status, certwell explain media.hachyderm.io, certwell certificates renew … --wait\n\
         On an edge: certwell-agent status, certwell-agent doctor, journalctl -u certwell-agent\n\n\
         Ctrl-C stops all six.",
    );
    text
}

/// Makes trees and packages where they are missing, boots six hosts, and plays on them.
fn on_a_fleet(
    name: &str,
    life: Duration,
    play: impl FnOnce(&mut Fleet, &Narrator) -> Result<ExitCode> + Send + 'static,
) -> Result<ExitCode> {
    let missing = able::missing();
    if !missing.is_empty() {
        bail!(
            "whole Debian hosts can't be booted here; missing: {}",
            missing.join(", ")
        );
    }
    let home = Home::take(name)?;
    let directory = home.path().to_owned();
    let narrator = Narrator::new();
    let teller = narrator.clone();
    interruptible::play(
        directory,
        &narrator,
        move || {
            teller.act("Six Debian hosts");
            let tell = |line: &str| teller.tell(line);
            let (trees, packages) = (Trees::ready(&tell)?, Packages::ready()?);
            Network::within(move |inside| {
                let tell = |line: &str| teller.tell(line);
                let mut fleet = Fleet::boot(inside, home, &trees, packages, life, &tell)?;
                play(&mut fleet, &teller)
            })
        },
        |count| {
            groups::remove_left();
            println!("stopped, {count} hosts ended");
        },
    )
}
