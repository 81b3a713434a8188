//! Memory and processor time of daemons that have nothing to do.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};
use certwell_lab::{World, rpc, rpc::Caller};
use certwell_proto::v1;
use tokio::task::JoinSet;

use super::settled;

const QUIET: Duration = Duration::from_secs(60);
const MANY: usize = 500;
/// For allocations of the last work to be over.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) fn run() -> Result<()> {
    let mut world = settled(
        "bench/size",
        &["cdn-frankfurt-1", "cdn-fremont-1", "sally", "esme"],
    )?;
    thread::sleep(SETTLE);
    let agents: Vec<u32> = world
        .hosts
        .iter_mut()
        .map(|host| Ok(host.agent()?.id()))
        .collect::<Result<_>>()?;
    let issuer = world.issuer.pid()?;
    let before: Vec<f64> = agents
        .iter()
        .chain([&issuer])
        .map(|pid| processor(*pid))
        .collect::<Result<_>>()?;
    thread::sleep(QUIET);
    let after: Vec<f64> = agents
        .iter()
        .chain([&issuer])
        .map(|pid| processor(*pid))
        .collect::<Result<_>>()?;
    let used: Vec<f64> = before
        .iter()
        .zip(&after)
        .map(|(before, after)| after - before)
        .collect();
    let (of_issuer, of_agents) = used.split_last().context("nobody was measured")?;
    let agents: Vec<Memory> = agents
        .iter()
        .map(|pid| Memory::of(*pid))
        .collect::<Result<_>>()?;
    let largest = agents
        .iter()
        .max_by_key(|memory| memory.resident)
        .context("no agent")?;
    println!("  agent, memory           {largest}   (largest of four; aim: 8192 KiB or less)");
    println!(
        "  agent, processor        {:.1} ms in a quiet minute (most of four)",
        of_agents.iter().copied().fold(0.0, f64::max)
    );
    let with_few = Memory::of(issuer)?;
    println!("  issuer, processor       {of_issuer:.1} ms in the same minute");
    println!("  issuer with {} agents    {with_few}", world.hosts.len());
    let with_many = with_streams(&world)?;
    println!("  issuer with {} more   {with_many}", MANY);
    let each = with_many.resident.saturating_sub(with_few.resident) / MANY;
    println!("  each of them            {each} KiB   (aim: 45 KiB or less)");
    Ok(())
}

/// The issuer's memory while many more hosts hold a Watch stream from this process.
fn with_streams(world: &World) -> Result<Memory> {
    let names: Vec<String> = (0..MANY).map(|number| format!("bench-{number}")).collect();
    let declared: String = names
        .iter()
        .map(|name| format!("[host.{name}]\n"))
        .collect();
    world.issuer.declare("40-bench", &declared)?;
    let first = names.first().context("no names")?;
    certwell_lab::wait_for("the hosts to be known", super::SOON, || {
        world
            .issuer
            .certwell(&["hosts", "show", first])?
            .success("hosts show")
            .map(drop)
    })?;
    let mut arguments = vec!["token", "create"];
    for name in &names {
        arguments.extend(["--host", name]);
    }
    let printed = world
        .issuer
        .certwell(&arguments)?
        .success("certwell token create")?;
    let tokens: Vec<String> = printed
        .stdout
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(ToOwned::to_owned)
        .collect();
    anyhow::ensure!(tokens.len() == MANY, "{} tokens were made", tokens.len());
    let ca = rpc::fleet_ca(world.hosts.first().context("no host")?)?;
    let issuer = world.net.issuer();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut streams = Vec::new();
        for batch in tokens.chunks(20) {
            let mut joining = JoinSet::new();
            for token in batch {
                let (token, ca) = (token.clone(), ca.clone());
                joining.spawn(async move {
                    let caller = Caller::enroll(&token, issuer, &ca).await?;
                    let mut fleet = caller.fleet().await?;
                    let mut stream = fleet.watch(v1::WatchRequest::default()).await?.into_inner();
                    stream.message().await?.context("no desired state")?;
                    // The client holds the connection.
                    anyhow::Ok((fleet, stream))
                });
            }
            while let Some(joined) = joining.join_next().await {
                streams.push(joined??);
            }
        }
        // Not idle before: connections answer pings while this waits.
        tokio::time::sleep(SETTLE).await;
        let memory = Memory::of(world.issuer.pid()?);
        drop(streams);
        memory
    })
}

/// KiB, as the kernel counts them.
#[derive(Debug, Clone, Copy)]
struct Memory {
    resident: usize,
    anonymous: usize,
}

impl Memory {
    fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<usize> {
            let line = status
                .lines()
                .find(|line| line.starts_with(name))
                .with_context(|| name.to_owned())?;
            Ok(line
                .split_whitespace()
                .nth(1)
                .context("no number")?
                .parse()?)
        };
        Ok(Self {
            resident: field("VmRSS:")?,
            anonymous: field("RssAnon:")?,
        })
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} KiB resident, {} KiB of it its own",
            self.resident, self.anonymous
        )
    }
}

/// Milliseconds of processor time so far, over all threads.
fn processor(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text
            .split(' ')
            .next()
            .and_then(|n| n.parse::<f64>().ok())
            .unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e6)
}
