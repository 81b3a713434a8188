//! The lab's own network: a namespace with a bridge. It has no name and no way out, and is gone with the last process
//! in it, so that a killed run leaves nothing behind.

use std::{fs, net::Ipv4Addr, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};

use crate::program::Program;

/// The bridge's name, as `systemd-nspawn --network-bridge` takes it.
pub const BRIDGE: &str = "certwell0";
/// Where the lab itself looks from: outside of every host.
pub const OBSERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
/// Bits of the network's prefix.
pub const PREFIX: u8 = 24;
/// All hosts share one number of inotify instances, of which each systemd takes a dozen: Linux's 128 are too few for two
/// fleets.
const INOTIFY: (&str, u32) = ("/proc/sys/fs/inotify/max_user_instances", 1024);

/// Stands for having entered the network.
#[derive(Debug)]
pub struct Network(());

impl Network {
    /// The address of the host with this number.
    pub fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, number)
    }

    /// Runs `inside` on a thread of its own in a new network. All that it starts, threads and processes, is in there.
    ///
    /// # Errors
    /// When the network can't be made, and those of `inside`.
    pub fn within<T: Send + 'static>(
        inside: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let worker = thread::Builder::new()
            .name("inside".into())
            .spawn(move || inside(&Self::enter()?))?;
        match worker.join() {
            Ok(outcome) => outcome,
            // A failed assertion goes on as one.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn enter() -> Result<Self> {
        raise_inotify();
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace can't be made")?;
        let address = format!("{OBSERVER}/{PREFIX}");
        for step in [
            vec!["link", "set", "lo", "up"],
            vec!["link", "add", BRIDGE, "type", "bridge"],
            vec!["addr", "add", &address, "dev", BRIDGE],
            vec!["link", "set", BRIDGE, "up"],
        ] {
            Program::new("ip", "ip", step)
                .run(Path::new("/"), "", Duration::from_secs(10))?
                .success("ip")?;
        }
        Ok(Self(()))
    }
}

/// Where it can't be raised, booting a host tells what it lacked.
fn raise_inotify() {
    let (path, wanted) = INOTIFY;
    let found: Option<u32> = fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    if found.is_some_and(|found| found < wanted) && fs::write(path, wanted.to_string()).is_ok() {
        eprintln!("raised fs.inotify.max_user_instances to {wanted}: hosts booted here share them");
    }
}
