//! One Debian host: a tree under an overlay of its own (or a copy of it), booted by systemd-nspawn.
//!
//! The overlay is mounted in the mount namespace of nspawn alone, so that it is gone with it. What the host has
//! written stays in `files` through any power cut.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    groups,
    inside::make_parent,
    network::{BRIDGE, Network, PREFIX},
};
use crate::{process::Process, program::Program, wait::wait_for};

/// Boot takes less than a second on a quiet machine.
const BOOT: Duration = Duration::from_secs(60);
/// A clean shutdown, with units that take their time.
const SHUTDOWN: Duration = Duration::from_secs(60);
/// Mounts the overlay, or copies the tree where overlays can't lie upon each other (in a container), enters control groups
/// of its own (hosts that shared one would stop each other's units), and becomes nspawn, which keeps its number.
const START: &str = r#"set -e
if ! mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/files,workdir=$2/work" "$2/root" && [ ! -e "$2/copied" ]; then
    cp -a "$1/." "$2/files/." "$2/root"
    touch "$2/copied"
fi
shift 1
home=$1 name=$2 bridge=$3
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy/certwell-lab/$name-$$"
    echo $$ >"$hierarchy/certwell-lab/$name-$$/cgroup.procs"
done
shift 3
exec systemd-nspawn --quiet --keep-unit --register=no --resolv-conf=off --timezone=off --link-journal=no \
    -D "$home/root" --machine="$name" --network-bridge="$bridge" "$@" --boot
"#;

/// A host, running or not.
#[derive(Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub address: Ipv4Addr,
    pub(super) home: PathBuf,
    tree: PathBuf,
    number: u8,
    dns: Ipv4Addr,
    /// Directories that outlive its disk.
    lasting: Vec<String>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    nspawn: Process,
    leader: i32,
}

impl Machine {
    /// Lays it out under `home`, with the `number` that its address ends in; `dns` answers its questions. It isn't
    /// booted.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn lay_out(
        home: &Path,
        tree: &Path,
        name: &str,
        number: u8,
        dns: Ipv4Addr,
    ) -> Result<Self> {
        let machine = Self {
            name: name.to_owned(),
            address: Network::address(number),
            home: home.join(name),
            tree: tree.to_owned(),
            number,
            dns,
            lasting: Vec::new(),
            running: None,
        };
        machine.fill_disk()?;
        Ok(machine)
    }

    fn fill_disk(&self) -> Result<()> {
        let Self {
            name,
            address,
            number,
            dns,
            ..
        } = self;
        for part in ["files", "work", "root"] {
            fs::create_dir_all(self.home.join(part))?;
        }
        self.write("/etc/hostname", format!("{name}\n"))?;
        self.write(
            "/etc/hosts",
            format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n"),
        )?;
        self.write(
            "/etc/machine-id",
            format!("{:032x}\n", 0xce77_u32 + u32::from(*number)),
        )?;
        self.write(
            "/etc/resolv.conf",
            format!("nameserver {dns}\noptions timeout:1\n"),
        )?;
        self.write(
            "/etc/systemd/network/10-host0.network",
            format!(
                "[Match]\nName=host0\n[Network]\nAddress={address}/{PREFIX}\nLinkLocalAddressing=no\n"
            ),
        )?;
        self.enable("/usr/lib/systemd/system/systemd-networkd.service")
    }

    /// Mounts `directory` from elsewhere, from the next boot on: what is in it outlives the disk.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn mount_lasting(&mut self, directory: &str) -> Result<()> {
        fs::create_dir_all(self.elsewhere(directory))?;
        self.lasting.push(directory.to_owned());
        Ok(())
    }

    fn elsewhere(&self, directory: &str) -> PathBuf {
        self.home
            .with_extension("elsewhere")
            .join(directory.trim_start_matches('/'))
    }

    /// Turns a unit off for good, before it is booted.
    ///
    /// # Errors
    /// When the link can't be made.
    pub fn mask(&self, unit: &str) -> Result<()> {
        self.link("/dev/null", &format!("/etc/systemd/system/{unit}"))
    }

    /// Has a unit of which `file` is the path started at boot, before it is booted.
    ///
    /// # Errors
    /// When the link can't be made.
    pub fn enable(&self, file: &str) -> Result<()> {
        let unit = file.rsplit('/').next().unwrap_or(file);
        self.link(
            file,
            &format!("/etc/systemd/system/multi-user.target.wants/{unit}"),
        )
    }

    fn link(&self, target: &str, at: &str) -> Result<()> {
        let path = self.path(at);
        make_parent(&path)?;
        std::os::unix::fs::symlink(target, &path).with_context(|| path.display().to_string())
    }

    /// Begins to boot it; [`Machine::booted`] waits for the end of that. It ends with the thread that powered it on.
    ///
    /// # Errors
    /// When nspawn can't be started.
    pub fn power_on(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "{} runs already", self.name);
        let tree = self.tree.display().to_string();
        let home = self.home.display().to_string();
        let args = [
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            START,
            "start",
        ];
        let mounts = self
            .lasting
            .iter()
            .map(|directory| format!("--bind={}:{directory}", self.elsewhere(directory).display()));
        let program = Program::new(
            &self.name,
            "unshare",
            args.into_iter()
                .chain([tree.as_str(), home.as_str(), self.name.as_str(), BRIDGE])
                .map(ToOwned::to_owned)
                .chain(mounts),
        )
        // systemd 257 wants it; 252 takes either.
        .env("UNIFIED_CGROUP_HIERARCHY", "1");
        let parent = self.home.parent().unwrap_or(&self.home).to_owned();
        let mut nspawn = Process::start(&program, &parent, &self.console())?;
        let id = nspawn.id();
        let leader = nspawn.ready(BOOT, || {
            let leader = first_inside(id).context("no process in it yet")?;
            // Before that its files would be looked for on this machine.
            let root = fs::read_to_string(format!("/proc/{leader}/root/etc/hostname"))?;
            ensure!(root.trim() == self.name, "it isn't in its own tree yet");
            Ok(leader)
        })?;
        self.running = Some(Running { nspawn, leader });
        Ok(())
    }

    /// Waits until all of its units have started, or failed.
    ///
    /// # Errors
    /// When it doesn't come up, or one of its units failed.
    pub fn booted(&mut self) -> Result<()> {
        let state = wait_for(&format!("{} to boot", self.name), BOOT, || {
            if let Some(running) = &mut self.running {
                running.nspawn.check_running()?;
            }
            let output = self.run(["systemctl", "is-system-running"])?;
            let state = output.stdout.trim().to_owned();
            ensure!(
                ["running", "degraded"].contains(&state.as_str()),
                "it is {state:?} {}",
                output.stderr.trim()
            );
            Ok::<_, anyhow::Error>(state)
        })?;
        if state != "running" {
            let failed = self.run(["systemctl", "--failed", "--no-legend", "--plain"])?;
            anyhow::bail!(
                "{}: units failed at boot: {}",
                self.name,
                failed.stdout.trim()
            );
        }
        Ok(())
    }

    /// Boots it, and waits for the end of that.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn boot(&mut self) -> Result<()> {
        self.power_on()?;
        self.booted()
    }

    /// Whether it is powered on.
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// Shuts it down as `systemctl poweroff` does.
    ///
    /// # Errors
    /// When it doesn't end.
    pub fn power_off(&mut self) -> Result<()> {
        if self.running.is_some() {
            self.run(["systemctl", "--no-block", "poweroff"])?
                .success("poweroff")?;
        }
        if let Some(mut running) = self.running.take() {
            running.ended()?;
        }
        Ok(())
    }

    /// Pulls its plug: every process of it is killed at once.
    ///
    /// # Errors
    /// When it doesn't end.
    pub fn pull_plug(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            // The first process of a namespace takes all others along.
            kill(Pid::from_raw(running.leader), Signal::SIGKILL)
                .with_context(|| format!("the plug of {}", self.name))?;
            running.ended()?;
        }
        Ok(())
    }

    /// Loses its disk and gets a new one: it is as [`Machine::lay_out`] left it. It must be off.
    ///
    /// # Errors
    /// When it runs, or a file can't be removed.
    pub fn lose_disk(&self) -> Result<()> {
        ensure!(self.running.is_none(), "{} runs", self.name);
        fs::remove_dir_all(&self.home)?;
        self.fill_disk()
    }

    /// The process that is number 1 in it: `nsenter --target LEADER --all` enters the host.
    pub fn leader(&self) -> Option<i32> {
        self.running.as_ref().map(|running| running.leader)
    }

    /// What it said while it booted, and after.
    pub fn console(&self) -> PathBuf {
        self.home.with_extension("console.log")
    }
}

impl Running {
    /// Waits for its end, and removes its control groups, which are empty then.
    fn ended(&mut self) -> Result<()> {
        self.nspawn.wait(SHUTDOWN)?;
        let name = format!("{}-{}", self.nspawn.name(), self.nspawn.id());
        groups::remove_of(&name);
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Faster than a shutdown, which nobody waits for here.
        let _ = self.pull_plug();
    }
}

/// The child that is number 1 of a namespace of its own; the one that prepares it is not.
fn first_inside(nspawn: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(|pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
                let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
                ids.is_some_and(|ids| ids.split_whitespace().next_back() == Some("1"))
            })
        })
}
