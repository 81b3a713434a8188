//! The issuer of a world, and the `certwell` command that asks it.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    clock::MachineClock,
    paths,
    ports::{Net, ensure_free},
    process::Process,
    program::{Output, Program},
    status::{Event, Status},
    wait::wait_for,
};

const COMMAND: Duration = Duration::from_secs(30);

/// An issuer's files, and its process while it runs.
#[derive(Debug)]
pub struct Issuer {
    world: PathBuf,
    directory: PathBuf,
    address: SocketAddr,
    log_filter: String,
    clock: Option<MachineClock>,
    process: Option<Process>,
}

impl Issuer {
    /// `certwell-issuer init`: a new fleet.
    ///
    /// # Errors
    /// When `init` fails.
    pub fn init(net: &Net, world: &Path, log_filter: &str) -> Result<Self> {
        let issuer = Self {
            world: world.to_owned(),
            directory: world.join("issuer"),
            address: net.issuer(),
            log_filter: log_filter.to_owned(),
            clock: None,
            process: None,
        };
        fs::create_dir_all(issuer.directory.join("etc/conf.d"))?;
        let address = issuer.address.to_string();
        let state = issuer.state().display().to_string();
        let key = issuer.key_file().display().to_string();
        let socket = issuer.socket().display().to_string();
        let printed = issuer
            .daemon(&[
                "init",
                "--fleet",
                "lab",
                "--endpoint",
                &address,
                "--listen",
                &address,
                "--state-directory",
                &state,
                "--key-file",
                &key,
                "--admin-socket",
                &socket,
            ])?
            .run(world, "", COMMAND)?
            .success("certwell-issuer init")?;
        let text = fs::read_to_string(issuer.config())?;
        let own = format!("\nbackup-directory = {:?}\n", issuer.backups());
        let text = text.replace(
            "\n#backup-directory = \"/var/backups/certwell-issuer\"\n",
            &own,
        );
        let page = format!("\nlisten = \"{}\"\n", net.page());
        let shipped = "\n#listen = \"127.0.0.1:7480\"\n";
        ensure!(text.contains(shipped), "no {shipped} in\n{text}");
        let text = text.replace(shipped, &page);
        // Looks from outside stay in the world: its own DNS, and where its edges listen.
        let probe = format!(
            "\n[probe]\nevery = \"5s\"\nresolvers = [\"{}\"]\nport = {}\n",
            net.dns(),
            net.https(0).port()
        );
        let shipped = "\n#[probe]\n";
        ensure!(text.contains(shipped), "no {shipped} in\n{text}");
        fs::write(issuer.config(), text.replace(shipped, &probe))?;
        fs::write(world.join("issuer.init"), printed.stdout + &printed.stderr)?;
        Ok(issuer)
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("etc/issuer.toml")
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Where its backups go.
    pub fn backups(&self) -> PathBuf {
        self.directory.join("backups")
    }

    /// The file with its key-encryption key.
    pub fn key_file(&self) -> PathBuf {
        self.directory.join("etc/issuer.kek")
    }

    /// Its admin socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    /// Where its log goes.
    pub fn log(&self) -> PathBuf {
        self.world.join("issuer.log")
    }

    /// Writes `conf.d/NAME.toml`, as an editor does; a running issuer takes it up.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn declare(&self, name: &str, text: &str) -> Result<()> {
        let directory = self.directory.join("etc/conf.d");
        let new = directory.join(format!(".{name}.new"));
        fs::write(&new, text)?;
        fs::rename(&new, directory.join(format!("{name}.toml")))?;
        Ok(())
    }

    /// Removes `conf.d/NAME.toml`.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn undeclare(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(
            self.directory.join(format!("etc/conf.d/{name}.toml")),
        )?)
    }

    /// Puts settings at the head of `[renewal]` in the configuration file that `init` made.
    ///
    /// # Errors
    /// When it has no such table.
    pub(crate) fn set_renewal(&self, settings: &str) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        let (before, after) = text
            .split_once("[renewal]\n")
            .context("init wrote no [renewal] table")?;
        Ok(fs::write(
            self.config(),
            format!("{before}[renewal]\n{settings}{after}"),
        )?)
    }

    /// Has it look at no edge from outside any more: nothing but what hosts say is known then.
    ///
    /// # Errors
    /// When its configuration can't be written.
    pub fn stop_looking(&self) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        if text.contains("\nenabled = false\n") {
            return Ok(());
        }
        let new = self.config().with_extension("new");
        let off = text.replace("\n[probe]\n", "\n[probe]\nenabled = false\n");
        ensure!(off != text, "no [probe] in\n{text}");
        fs::write(&new, off)?;
        Ok(fs::rename(&new, self.config())?)
    }

    /// Starts `certwell-issuer serve` and waits until it listens.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn serve(&mut self) -> Result<()> {
        ensure_free(self.address, "the issuer")?;
        let mut program = self.daemon(&["serve"])?;
        if let Some(clock) = &self.clock {
            program = clock.under(program)?;
        }
        let mut process = Process::start(&program, &self.world, &self.log())?;
        process.ready(Duration::from_secs(20), || {
            TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
            self.certwell(&["hosts", "list"])?
                .success("certwell hosts list")
                .map(drop)
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// From its next start on its machine has this clock.
    pub fn set_clock(&mut self, clock: MachineClock) {
        self.clock = Some(clock);
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn kill9(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the issuer isn't running")?;
        process.kill9()
    }

    /// Process id.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn pid(&self) -> Result<u32> {
        Ok(self
            .process
            .as_ref()
            .context("the issuer isn't running")?
            .id())
    }

    /// The daemon's binary with `args`, not started yet.
    ///
    /// # Errors
    /// When it isn't built.
    pub fn daemon(&self, args: &[&str]) -> Result<Program> {
        let config = self.config().display().to_string();
        let all = ["--config", &config]
            .into_iter()
            .chain(args.iter().copied());
        Ok(
            Program::new("issuer", paths::binary("certwell-issuer")?, all)
                .env("CERTWELL_LOG", &self.log_filter)
                .env("RUST_BACKTRACE", "1"),
        )
    }

    /// Runs the `certwell` command on its socket.
    ///
    /// # Errors
    /// When it can't be run, or hangs.
    pub fn certwell(&self, args: &[&str]) -> Result<Output> {
        self.certwell_within(args, COMMAND)
    }

    /// Like [`Issuer::certwell`], for commands that wait.
    ///
    /// # Errors
    /// When it can't be run, or doesn't end within the time.
    pub fn certwell_within(&self, args: &[&str], within: Duration) -> Result<Output> {
        let socket = self.socket().display().to_string();
        let all = ["--socket", &socket]
            .into_iter()
            .chain(args.iter().copied());
        Program::new("certwell", paths::binary("certwell")?, all).run(&self.world, "", within)
    }

    /// `certwell status --json`.
    ///
    /// # Errors
    /// When it fails or says something else than JSON of the documented form.
    pub fn status(&self) -> Result<Status> {
        let output = self.certwell(&["status", "--json"])?;
        // 0: all converged, 3: not.
        if output.code != 0 && output.code != 3 {
            bail!("certwell status exited {}: {}", output.code, output.stderr);
        }
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("certwell status --json: {}", output.stdout))
    }

    /// Every event so far, oldest first.
    ///
    /// # Errors
    /// When the command fails.
    pub fn events(&self) -> Result<Vec<Event>> {
        let output = self
            .certwell(&["events", "--last", "0", "--json"])?
            .success("certwell events")?;
        output
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// Waits until a host's agent has a stream.
    ///
    /// # Errors
    /// When it gets none in time.
    pub fn connected(&self, host: &str) -> Result<()> {
        wait_for(
            &format!("{host} to be connected"),
            Duration::from_secs(30),
            || {
                let output = self
                    .certwell(&["hosts", "show", host, "--json"])?
                    .success("certwell hosts show")?;
                let shown: serde_json::Value = serde_json::from_str(&output.stdout)?;
                let found = shown
                    .pointer("/host/connected")
                    .or_else(|| shown.get("connected"));
                anyhow::ensure!(
                    found == Some(&serde_json::Value::Bool(true)),
                    "{}",
                    output.stdout
                );
                Ok(())
            },
        )
    }

    /// A join token for one host.
    ///
    /// # Errors
    /// When the issuer refuses.
    pub fn token(&self, host: &str) -> Result<String> {
        let output = self
            .certwell(&["token", "create", "--host", host])?
            .success("certwell token create")?;
        find_token(&output.stdout)
    }

    /// `certwell events --follow --json`, its lines going to `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn follow_events(&self, log: &Path) -> Result<Process> {
        let socket = self.socket().display().to_string();
        let args = [
            "--socket", &socket, "events", "--follow", "--last", "1", "--json",
        ];
        Process::start(
            &Program::new("events", paths::binary("certwell")?, args),
            &self.world,
            log,
        )
    }

    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }
}

/// The first join token in what `certwell token create` printed.
///
/// # Errors
/// When there is none.
pub fn find_token(printed: &str) -> Result<String> {
    printed
        .split_whitespace()
        .find(|word| word.starts_with("certwell1."))
        .map(ToOwned::to_owned)
        .with_context(|| format!("no join token in {printed:?}"))
}
