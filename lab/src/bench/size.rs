//! Memory and processor time of daemons that have nothing to do.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};
use certwell_lab::{World, rpc, rpc::Caller};
use certwell_proto::v1;
use nix::{time::clock_getcpuclockid, unistd::Pid};
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
    let (joined, known, connected) = with_streams(&mut world)?;
    println!("  issuer, {MANY} more joined  {joined}");
    println!("  restarted               {known}");
    println!("  and all of them there   {connected}");
    let each = |more: Memory, less: Memory| more.resident.saturating_sub(less.resident) / MANY;
    println!(
        "  each of them            {} KiB   (aim: 45 KiB or less; {} KiB of it for the connection)",
        each(connected, with_few),
        each(connected, known)
    );
    Ok(())
}

/// The issuer's memory when many more hosts have just joined; after a restart, which is how most of its life goes; and
/// with a Watch stream of each of them, held by this process.
fn with_streams(world: &mut World) -> Result<(Memory, Memory, Memory)> {
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
    let callers = runtime.block_on(in_batches(&tokens, |token| {
        let (token, ca) = (token.clone(), ca.clone());
        async move { Caller::enroll(&token, issuer, &ca).await }
    }))?;
    thread::sleep(SETTLE);
    let joined = Memory::of(world.issuer.pid()?)?;
    world.issuer.stop();
    world.issuer.serve()?;
    for host in &world.hosts {
        world.issuer.connected(&host.name)?;
    }
    thread::sleep(SETTLE);
    let known = Memory::of(world.issuer.pid()?)?;
    runtime.block_on(async {
        // The client holds the connection.
        let streams = in_batches(&callers, |caller| {
            let caller = caller.clone();
            async move {
                let mut fleet = caller.fleet().await?;
                let request = v1::WatchRequest::default();
                let mut stream = fleet.watch(request).await?.into_inner();
                stream.message().await?.context("no desired state")?;
                Ok((fleet, stream))
            }
        })
        .await?;
        // Not idle before: connections answer pings while this waits.
        tokio::time::sleep(SETTLE).await;
        let connected = Memory::of(world.issuer.pid()?)?;
        drop(streams);
        Ok((joined, known, connected))
    })
}

/// Does `work` for each of `items`, a few at once.
async fn in_batches<I, T, F>(items: &[I], work: impl Fn(&I) -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut done = Vec::new();
    for batch in items.chunks(20) {
        let mut under_way: JoinSet<Result<T>> = batch.iter().map(&work).collect();
        while let Some(joined) = under_way.join_next().await {
            done.push(joined??);
        }
    }
    Ok(done)
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

/// Milliseconds of processor time so far, over all threads, ended ones too.
fn processor(pid: u32) -> Result<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
    Ok(Duration::from(clock.now()?).as_secs_f64() * 1000.0)
}
