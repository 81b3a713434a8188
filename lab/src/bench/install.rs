//! Installs at one and at many certificates that are due at once, step by step, by the agent's own account; and how
//! often nginx began new workers for them, by nginx's.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{Ending, Host, Settings, Site, World, paths::Home, ports::Net, wait_for};

use super::median;

const HOST: &str = "sally";
const MANY: usize = 50;
const ROUNDS: usize = 5;
const SOON: Duration = Duration::from_secs(60);
/// For all of them to be ordered.
const ORDERED: Duration = Duration::from_secs(300);
/// As the agent's log names them, and what they are called here.
const STEPS: [(&str, &str); 10] = [
    ("Fetch", "fetch"),
    ("Verify", "verify"),
    ("Stage", "stage"),
    ("TestCandidate", "candidate"),
    ("Baseline", "baseline"),
    ("Activate", "activate"),
    ("Test", "test"),
    ("Reload", "reload"),
    ("Confirm", "confirm"),
    ("Report", "report"),
];

pub(super) fn run() -> Result<()> {
    let one = installs(1)?;
    let many = installs(MANY)?;
    println!("  step            1 due      {MANY} due   (ms, median of {ROUNDS})");
    for (at, (_, name)) in STEPS.iter().enumerate() {
        let of = |rounds: &[[f64; STEPS.len()]]| {
            median(&rounds.iter().map(|round| round[at]).collect::<Vec<_>>())
        };
        println!("  {name:<10} {:>10.1} {:>11.1}", of(&one), of(&many));
    }
    let all = |rounds: &[[f64; STEPS.len()]]| {
        median(
            &rounds
                .iter()
                .map(|round| round.iter().sum())
                .collect::<Vec<f64>>(),
        )
    };
    println!(
        "  together   {:>10.1} {:>11.1}   (one reload each time)",
        all(&one),
        all(&many)
    );
    Ok(())
}

/// The milliseconds of each step, of each round in which so many certificates became due at once.
fn installs(count: usize) -> Result<Vec<[f64; STEPS.len()]>> {
    let names: Vec<String> = (0..count)
        .map(|number| format!("shop-{number}.hachyderm.io"))
        .collect();
    let settings = Settings {
        sites: names.iter().map(|name| Site::new(name, &[name])).collect(),
        log_filter: "info,certwell_agent=debug".into(),
        ..Settings::default()
    }
    .only(&[HOST]);
    let home = Home::take(&format!("bench/install-{count}"))?;
    let mut world = World::start_in(home, Net::allocate()?, &settings, &|_| ())?;
    world.join_all()?;
    let declared: String = names
        .iter()
        .map(|name| format!("[certificate.\"{name}\"]\nhosts = [{HOST:?}]\n"))
        .collect();
    world.issuer.declare("20-shops", &declared)?;
    for name in &names {
        world.converged(name, 1, ORDERED)?;
    }
    let rounds = (0..ROUNDS)
        .map(|_| install_anew(&mut world, &names))
        .collect::<Result<_>>()?;
    world.ends(Ending::Remove);
    Ok(rounds)
}

/// The host's disk is as it was before the agent came: all certificates are due when it starts.
fn install_anew(world: &mut World, names: &[String]) -> Result<[f64; STEPS.len()]> {
    let host = world.host_mut(HOST)?;
    host.stop_agent();
    forget(host, names)?;
    let served = |host: &Host, name: &str| Ok::<_, anyhow::Error>(host.served(name)?.fingerprint());
    let drawn: Vec<_> = names
        .iter()
        .map(|name| served(host, name))
        .collect::<Result<_>>()?;
    host.nginx.reload()?;
    wait_for("the expired ones to be served", SOON, || {
        for (name, drawn) in names.iter().zip(&drawn) {
            ensure!(served(host, name)? != *drawn, "{name} isn't yet");
        }
        Ok(())
    })?;
    wait_for("one worker", SOON, || {
        let workers = workers(host)?;
        ensure!(workers == 1, "{workers} are there");
        Ok(())
    })?;
    let (log, generations) = (read(host)?.len(), generations(host));
    host.start_agent()?;
    wait_for("all to be installed", SOON, || {
        let told = read(host)?;
        ensure!(
            told[log..].contains("done=Report"),
            "nothing is reported yet"
        );
        Ok(())
    })?;
    for (name, drawn) in names.iter().zip(&drawn) {
        ensure!(served(host, name)? == *drawn, "{name} is not served");
    }
    let began = self::generations(host) - generations;
    ensure!(began == 1, "nginx began new workers {began} times");
    steps(&read(host)?[log..], names.len())
}

/// Whatever the agent put there goes, and what it found there comes back.
fn forget(host: &Host, names: &[String]) -> Result<()> {
    let state = host.agent_state();
    fs::remove_dir_all(state.join("store"))?;
    for file in ["ledger.json", "desired.bin"] {
        fs::remove_file(state.join(file)).with_context(|| file.to_owned())?;
    }
    for name in names {
        let live = host.live(name);
        fs::remove_file(&live)?;
        fs::rename(
            live.with_file_name(format!(".{name}.before-certwell")),
            &live,
        )
        .with_context(|| name.clone())?;
    }
    Ok(())
}

fn read(host: &Host) -> Result<String> {
    Ok(fs::read_to_string(host.agent_log())?)
}

/// How often the master began workers, one at a time: by its own log.
fn generations(host: &Host) -> usize {
    host.nginx
        .error_log()
        .matches("start worker processes")
        .count()
}

fn workers(host: &Host) -> Result<usize> {
    let master = host.nginx.master()?;
    let list = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
    Ok(list.split_whitespace().count())
}

/// The milliseconds of each step, summed over the certificates.
fn steps(log: &str, count: usize) -> Result<[f64; STEPS.len()]> {
    let mut took = [0.0; STEPS.len()];
    let mut times = [0; STEPS.len()];
    for line in log.lines() {
        let Some((_, rest)) = line.split_once(" done=") else {
            continue;
        };
        let step = rest.split(['(', ' ']).next().unwrap_or_default();
        let at = STEPS.iter().position(|(name, _)| *name == step);
        let at = at.with_context(|| format!("an unexpected step: {rest}"))?;
        let (_, ms) = rest.rsplit_once(" ms=").context("no time")?;
        took[at] += ms.trim().parse::<f64>()?;
        times[at] += 1;
    }
    let wanted = [count, count, count, count, 1, 1, 1, 1, 1, 1];
    ensure!(times == wanted, "the steps were taken {times:?} times");
    Ok(took)
}
