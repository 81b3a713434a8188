//! The demo, as `make demo` plays it: the built binary, at its fixed addresses. One at a time on a machine: each test
//! waits for the lock, and says who holds a port if it is somebody else.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read},
    net::TcpListener,
    path::PathBuf,
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use certwell_lab::{
    FLEET, MEDIA,
    leftovers::end_leftovers,
    paths,
    ports::Net,
    probe::{Served, handshake},
    wait_for,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Longer than the whole demo takes on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(120);
/// For somebody else's demo to end.
const OTHERS: Duration = Duration::from_secs(300);
/// For a process that was told to end.
const END: Duration = Duration::from_secs(20);
/// Pebble, its DNS, the issuer, and of each host its agent and nginx, master and worker.
const PARTS: usize = 3 + 4 * 3;
const RUNS_ON: &str = "Ctrl-C ends it";

/// What is told, in this order.
const STEPS: [&str; 32] = [
    "== The parts",
    "DNS (pebble-challtestsrv) on 127.0.0.1:8053",
    "ACME CA (Pebble) on 127.0.0.1:14000",
    "certwell-issuer init, then serve on 127.0.0.10:7443",
    "host cdn-frankfurt-1: nginx on 127.0.0.11:8080 and 8443",
    "host cdn-fremont-1: nginx on 127.0.0.12:8080 and 8443",
    "host sally: nginx on 127.0.0.13:8080 and 8443",
    "host esme: nginx on 127.0.0.14:8080 and 8443",
    "DNS answers media.hachyderm.io with 127.0.0.11, 127.0.0.12, 127.0.0.13, 127.0.0.14",
    "== Before",
    "EXPIRED",
    "== The hosts join",
    "esme: enrolled, its agent is connected",
    "== First act",
    "preflight: passed on every challenge host",
    "order: ordered at pebble",
    "challenge: the CA may validate media.hachyderm.io",
    "issued: issued by pebble",
    "fetched: its private key was handed to",
    "installed: ",
    "served: ",
    "$ certwell status",
    "all 4 hosts serve media.hachyderm.io generation 1",
    "== Second act",
    "order: ordered at pebble",
    "issued: issued by pebble",
    "fetched: its private key was handed to",
    "served: ",
    "$ certwell status",
    "all 4 hosts serve media.hachyderm.io generation 2",
    "== After",
    "2 orders at the CA, 2 certificates issued",
];

#[test]
fn a_killed_demo_leaves_nothing_that_hinders_the_next_which_ends_by_itself() -> Result<()> {
    let stage = Stage::take()?;
    let mut killed = stage.play(&[])?;
    killed.hears("esme: enrolled")?;
    // Most of what it started ends with it. Workers of nginx whose master was killed don't: they serve on, and hold
    // their ports.
    let named = |title: &str| -> Vec<i32> {
        let all = stage.running().into_iter();
        let those = all.filter(|(_, line)| line.starts_with(title));
        those.map(|(pid, _)| pid).collect()
    };
    for master in named("nginx: master") {
        kill(Pid::from_raw(master), Signal::SIGKILL)?;
    }
    killed.signal(Signal::SIGKILL)?;
    killed.end(END)?;
    for host in 0..4 {
        handshake(stage.net.https(host), MEDIA).context("nothing was left behind")?;
    }
    ensure!(named("nginx: master").is_empty(), "{:?}", stage.running());

    let (status, said) = stage.play(&["--once"])?.end(PATIENCE)?;
    ensure!(status.code() == Some(0), "{status}:\n{said}");
    tells_the_steps(&said)?;
    ensure!(
        said.trim_end()
            .ends_with("All 4 hosts serve what was issued."),
        "{said}"
    );
    stage.is_left(END)
}

#[test]
fn ctrl_c_ends_every_process_that_the_demo_started() -> Result<()> {
    let stage = Stage::take()?;
    let mut demo = stage.play(&[])?;
    demo.hears(RUNS_ON)?;
    tells_the_steps(&demo.said)?;
    // The demo's own judgement is ours as well.
    let served = (0..4)
        .map(|host| handshake(stage.net.https(host), MEDIA))
        .collect::<Result<Vec<Served>>>()?;
    ensure!(served.iter().all(|one| *one == served[0]), "{served:?}");
    let (_, after) = demo.said.split_once("== After").context("no end")?;
    let short = served[0].fingerprint().short().to_string();
    ensure!(after.matches(&short).count() == 4, "{short}: {after}");
    let running = stage.running();
    ensure!(running.len() >= PARTS, "{running:?}");

    demo.signal(Signal::SIGINT)?;
    let (status, said) = demo.end(PATIENCE)?;
    ensure!(status.code() == Some(0), "{status}:\n{said}");
    let count = said
        .split_once("stopped, ")
        .and_then(|(_, after)| after.split(' ').next()?.parse::<usize>().ok());
    ensure!(count.is_some_and(|count| count >= PARTS), "{said}");
    stage.is_left(END)
}

#[test]
fn ctrl_c_in_the_middle_says_so_by_its_exit_code_and_leaves_no_process() -> Result<()> {
    let stage = Stage::take()?;
    for moment in [
        "issuer: certwell-issuer init",
        "== The hosts join",
        "preflight:",
    ] {
        let mut demo = stage.play(&["--once"])?;
        demo.hears(moment)?;
        demo.signal(Signal::SIGINT)?;
        let (status, said) = demo.end(PATIENCE)?;
        ensure!(status.code() == Some(130), "{moment}: {status}:\n{said}");
        stage.is_left(END).context(moment)?;
    }
    Ok(())
}

#[test]
fn a_port_in_use_is_named_with_who_uses_it_and_nothing_runs_on() -> Result<()> {
    let stage = Stage::take()?;
    for address in [stage.net.ca(), stage.net.issuer(), stage.net.https(2)] {
        let held = TcpListener::bind(address)?;
        let (status, said) = stage.play(&["--once"])?.end(PATIENCE)?;
        ensure!(status.code() == Some(1), "{address}: {status}:\n{said}");
        for word in [address.to_string(), format!("process {}", process::id())] {
            ensure!(said.contains(&word), "{word} isn't in\n{said}");
        }
        drop(held);
        stage.is_left(END)?;
    }
    Ok(())
}

#[test]
fn make_plays_this_demo_and_once_only_where_it_is_told_to() -> Result<()> {
    for (given, once) in [
        (None, false),
        (Some("ONCE=1"), true),
        (Some("ONCE=0"), false),
    ] {
        let output = Command::new("make")
            .args(["--dry-run", "demo"])
            .args(given)
            .env_remove("MAKEFLAGS")
            .env_remove("ONCE")
            .current_dir(paths::workspace())
            .output()
            .context("make")?;
        let recipe = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{recipe}");
        let runs = recipe
            .lines()
            .find(|line| line.contains("certwell-lab -- demo"));
        let runs = runs.with_context(|| format!("the demo isn't run:\n{recipe}"))?;
        ensure!(runs.contains("--once") == once, "{given:?}: {runs}");
    }
    Ok(())
}

/// Each of [`STEPS`] after the one before, and of every host that it serves the leaf, in both acts.
fn tells_the_steps(said: &str) -> Result<()> {
    let mut rest = said;
    for step in STEPS {
        let (_, after) = rest
            .split_once(step)
            .with_context(|| format!("{step:?} isn't told in its place:\n{said}"))?;
        rest = after;
    }
    for (host, _) in FLEET {
        let count = said.matches(&format!(">> {host} serves ")).count();
        ensure!(count == 2, "{host} is told of {count} times:\n{said}");
    }
    Ok(())
}

/// The demo's addresses and directory, for one test at a time.
struct Stage {
    net: Net,
    home: PathBuf,
    /// In the environment of all that it starts.
    mark: String,
    _lock: File,
}

impl Stage {
    fn take() -> Result<Self> {
        let lock = Net::demo_lock(OTHERS)?;
        let net = Net::demo();
        let home = paths::binaries()?
            .parent()
            .context("the binaries' directory has no parent")?
            .join("demo");
        end_leftovers(&home)?;
        // A demo that somebody plays by hand; it may be about to end.
        wait_for("the demo's addresses", END, || {
            net.ensure_all_free(FLEET.len())
        })
        .context("the demo can't be tested while somebody uses its addresses")?;
        Ok(Self {
            net,
            home,
            mark: format!("CERTWELL_DEMO_OF_TEST={}", process::id()),
            _lock: lock,
        })
    }

    fn play(&self, args: &[&str]) -> Result<Demo> {
        let (name, value) = self.mark.split_once('=').context("the mark")?;
        let mut child = Command::new(paths::binary("certwell-lab")?)
            .arg("demo")
            .args(args)
            .env(name, value)
            .current_dir(paths::workspace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, lines) = mpsc::channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Ok(Demo {
            child,
            lines,
            said: String::new(),
        })
    }

    /// All that the demo started and that runs still, frozen or not: by the mark in its environment, or, where that
    /// is overwritten as nginx does, by its directory.
    fn running(&self) -> Vec<(i32, String)> {
        let marked = |pid: i32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| all.split(|b| *b == 0).any(|v| v == self.mark.as_bytes()))
        };
        let inside = |pid: i32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&self.home))
        };
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| marked(*pid) || inside(*pid))
            .filter_map(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                // One that has ended and wasn't waited for has none.
                (!line.is_empty()).then_some((pid, line))
            })
            .collect()
    }

    /// Nothing runs, and every address is free.
    fn is_left(&self, within: Duration) -> Result<()> {
        wait_for("every process to be gone", within, || {
            let running = self.running();
            ensure!(running.is_empty(), "{running:?}");
            self.net.ensure_all_free(FLEET.len())
        })
    }
}

impl Drop for Stage {
    /// A test that failed hinders no other one.
    fn drop(&mut self) {
        for (pid, _) in self.running() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// A demo that plays; dropped, it is over.
struct Demo {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Demo {
    /// Listens until a line has these words in it.
    fn hears(&mut self, words: &str) -> Result<()> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said += &line;
                    self.said.push('\n');
                    if line.contains(words) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("{words:?} isn't said:\n{}", self.said),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("it ended before it said {words:?}:\n{}", self.said)
                }
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }

    /// Waits for its end: how it ended, and all that it said.
    fn end(mut self, within: Duration) -> Result<(ExitStatus, String)> {
        let status = wait_for("the end of the demo", within, || {
            self.child.try_wait()?.context("it plays")
        })
        .with_context(|| self.said.clone())?;
        // What it wrote last is in the pipes still; they end with it.
        while let Ok(line) = self.lines.recv_timeout(END) {
            self.said += &line;
            self.said.push('\n');
        }
        Ok((status, std::mem::take(&mut self.said)))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
