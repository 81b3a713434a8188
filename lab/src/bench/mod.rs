//! Figures of speed and size, each beside what it is compared with, all from one run on this machine.

mod install;
mod parse;
mod size;
mod speed;

use std::process::ExitCode;

use anyhow::Result;
use certwell_lab::{Ending, MEDIA, Settings, World, clock, paths::Home, ports::Net};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// How soon a stored bundle is served.
    Speed,
    /// An install, step by step.
    Install,
    /// Reading nginx's configuration.
    Parse,
    /// Memory and processor time at rest.
    Size,
}

/// Measures and prints these parts; all of them where none is named.
///
/// # Errors
/// When a part doesn't come up or doesn't do its work.
pub(crate) fn run(parts: &[Part]) -> Result<ExitCode> {
    if cfg!(debug_assertions) {
        println!("This is a debug build: use `make bench` for figures that mean something.");
    }
    println!("{}", machine());
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    if wanted(Part::Speed) {
        println!("\n== From a bundle stored at the issuer to its first handshake");
        speed::one_host()?;
        speed::four_hosts()?;
    }
    if wanted(Part::Install) {
        println!("\n== An install, step by step");
        install::run()?;
    }
    if wanted(Part::Parse) {
        println!(
            "\n== Reading nginx's configuration, in a child that gives its memory back by ending"
        );
        parse::run()?;
    }
    if wanted(Part::Size) {
        println!("\n== At rest");
        size::run()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A world with an issuer and these hosts, all serving generation 1.
fn settled(name: &str, hosts: &[&str]) -> Result<World> {
    let settings = Settings {
        log_filter: "info".into(),
        ..Settings::default()
    }
    .only(hosts);
    let mut world = World::start_in(Home::take(name)?, Net::allocate()?, &settings, &|_| ())?;
    world.join_all()?;
    world.issuer.declare(
        "20-media",
        &format!("[certificate.\"{MEDIA}\"]\nhosts = {hosts:?}\n"),
    )?;
    world.converged(MEDIA, 1, SOON)?;
    world.ends(Ending::Remove);
    Ok(world)
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("MemTotal:")
        .trim()
        .to_owned();
    format!(
        "{cores} cores, {memory} of memory, {}",
        clock::now().strftime("%Y-%m-%d")
    )
}

/// Median and the largest, in milliseconds.
fn shown(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let largest = sorted.last().copied().unwrap_or(f64::NAN);
    format!(
        "median {:>6.0} ms, largest {largest:>6.0} ms",
        median(values)
    )
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
