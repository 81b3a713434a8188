//! The verbs `backup` and `restore`: what they ask, and what they say.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_proto::Exit;
use clap::Args;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{counted, keep_from_core_files, print, print_json, runtime};
use crate::{
    backup, clock,
    restore::{Backup, Restored},
    store::keys::{RecoveryKey, RecoveryKeyError},
};

const VERSION: u32 = 1;

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// Make this directory instead, and remove none
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup, a directory certwell-TIME; or a directory of backups, for the newest in it
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// File with the recovery key; without it the key is read from standard input
    #[arg(long, value_name = "FILE")]
    recovery_key_file: Option<PathBuf>,
    /// A newer revoked.log than the one beside the backup; may be given several times
    #[arg(long, value_name = "FILE")]
    revocations: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `backup --json` prints, in one line.
#[derive(Debug, Serialize)]
struct BackedUp {
    version: u32,
    backup: String,
    at: String,
    bytes: u64,
    removed: Vec<String>,
    later: Vec<String>,
}

/// What `restore --json` prints.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    backup: String,
    config: String,
    config_from_backup: bool,
    key_file: String,
    key_made: bool,
    state_directory: String,
    lineage: String,
    /// How many the backup knows.
    hosts: usize,
    revoked: Vec<String>,
    /// Backups that are called by a time that is still to come.
    later: Vec<String>,
    /// Why the service may not go on with the backups that are here.
    problem: Option<String>,
}

/// The recovery key isn't there, or is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyInput {
    #[error("the recovery key can't be read from {0}")]
    Read(String, #[source] io::Error),
    #[error("that is no recovery key: {0}")]
    Form(#[from] RecoveryKeyError),
}

impl KeyInput {
    pub(super) fn exit(&self) -> Option<Exit> {
        match self {
            Self::Form(_) => Some(Exit::Usage),
            Self::Read(..) => None,
        }
    }
}

pub(super) fn back_up(config: &Path, arguments: &BackupArgs) -> anyhow::Result<()> {
    clock::check()?;
    let prepared = backup::prepare(config, arguments.output.as_deref())?;
    prepared.become_owner()?;
    if let Some(mistakes) = prepared.mistakes() {
        let _ = writeln!(
            io::stderr(),
            "{mistakes}\n\ncertwell-issuer: {}; it is backed up as it is",
            counted(mistakes)
        );
    }
    let taken = runtime()?.block_on(told_when_slow("copying the store", prepared.take()))?;
    warn_of(&taken.later);
    if arguments.json {
        let document = serde_json::to_string(&BackedUp {
            version: VERSION,
            backup: shown(&taken.path),
            at: taken.at.to_string(),
            bytes: taken.bytes,
            removed: taken.removed.iter().map(|path| shown(path)).collect(),
            later: taken.later.iter().map(|path| shown(path)).collect(),
        })?;
        return print(format!("{document}\n").as_bytes());
    }
    let removed = match taken.removed.len() {
        0 => String::new(),
        1 => "; removed the oldest".to_owned(),
        count => format!("; removed the {count} oldest"),
    };
    let size = taken.bytes.div_ceil(1024);
    let path = taken.path.display();
    print(format!("{path}: {size} KiB, whole and readable{removed}\n").as_bytes())
}

pub(super) fn restore(config: &Path, arguments: &RestoreArgs) -> anyhow::Result<()> {
    keep_from_core_files()?;
    clock::check()?;
    let runtime = runtime()?;
    let backup = runtime.block_on(Backup::read(
        &arguments.from,
        config,
        &arguments.revocations,
    ))?;
    let _ = writeln!(io::stderr(), "restoring {}", backup.directory().display());
    // Where it can't be read there is nothing to compare the backup with.
    let later = backup::later(&arguments.from, clock::now()).unwrap_or_default();
    warn_of(&later);
    let key = recovery_key(arguments.recovery_key_file.as_deref())?;
    let restored = runtime.block_on(told_when_slow(
        "opening every secret, and making the store",
        backup.restore(&key),
    ))?;
    if arguments.json {
        return print_json(&document(&restored, &later));
    }
    print(summary(&restored).as_bytes())?;
    if let Some(error) = &restored.backups {
        let _ = writeln!(
            io::stderr(),
            "the service may not be able to go on with the backups that are here: {}",
            chain(error)
        );
    }
    Ok(())
}

fn chain(error: &backup::BackupError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Which one is the newest can't be told by the names then.
fn warn_of(later: &[PathBuf]) {
    if later.is_empty() {
        return;
    }
    let names: Vec<String> = later
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let _ = writeln!(
        io::stderr(),
        "called by a time later than now: {}; the clock was or is wrong. Name the backup that `restore --from` is to \
         take, and move these away once the clock is right",
        names.join(", ")
    );
}

fn document(restored: &Restored, later: &[PathBuf]) -> Document {
    let (config, brought) = &restored.config;
    let (key, made) = &restored.key_file;
    Document {
        version: VERSION,
        backup: shown(&restored.backup),
        config: shown(config),
        config_from_backup: *brought,
        key_file: shown(key),
        key_made: *made,
        state_directory: shown(&restored.state_directory),
        lineage: restored.lineage.to_string(),
        hosts: restored.hosts,
        revoked: restored.revoked.iter().map(ToString::to_string).collect(),
        later: later.iter().map(|path| shown(path)).collect(),
        problem: restored.backups.as_ref().map(chain),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn summary(restored: &Restored) -> String {
    let whence = |came: bool, from: &str| {
        if came {
            from.to_owned()
        } else {
            "as it was here".to_owned()
        }
    };
    let (config, brought) = &restored.config;
    let (key, made) = &restored.key_file;
    let revoked = match restored.revoked.as_slice() {
        [] => "none".to_owned(),
        hosts => hosts
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    format!(
        "Restored {}:\n  \
         configuration  {} ({})\n  \
         store          {}, {} hosts, lineage {}\n  \
         key            {} ({})\n  \
         revoked        {revoked}\n\n\
         Join tokens made before are void. The recovery key stays the one that you have just given.\n\n\
         Next:\n  \
         1. certwell-issuer --config {} check\n  \
         2. systemctl restart certwell-issuer\n  \
         3. certwell status: nothing is ordered or offered until the hosts have reported, at most ten minutes.\n     \
         They enroll no second time. What was issued after the backup is issued once more, and named.\n",
        restored.backup.display(),
        config.display(),
        whence(*brought, "from the backup"),
        restored.state_directory.display(),
        restored.hosts,
        restored.lineage,
        key.display(),
        whence(*made, "new"),
        config.display(),
    )
}

/// From the file, or a line of standard input, which isn't shown while it is typed.
fn recovery_key(file: Option<&Path>) -> Result<RecoveryKey, KeyInput> {
    let text = match file {
        Some(file) => fs::read_to_string(file)
            .map(Zeroizing::new)
            .map_err(|e| KeyInput::Read(file.display().to_string(), e))?,
        None => typed().map_err(|e| KeyInput::Read("standard input".to_owned(), e))?,
    };
    let line = text.lines().find(|line| !line.trim().is_empty());
    Ok(line.unwrap_or_default().parse()?)
}

fn typed() -> io::Result<Zeroizing<String>> {
    let mut stdin = io::stdin().lock();
    let mut text = Zeroizing::new(String::with_capacity(256));
    if !stdin.is_terminal() {
        stdin.read_line(&mut text)?;
        return Ok(text);
    }
    let mut ask = io::stderr().lock();
    write!(ask, "Recovery key (it isn't shown): ")?;
    ask.flush()?;
    let shown = tcgetattr(stdin.as_fd())?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &hidden)?;
    let read = stdin.read_line(&mut text);
    tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &shown)?;
    writeln!(ask)?;
    read.map(|_| text)
}

/// Shows on a terminal that work goes on, once it takes more than a second.
async fn told_when_slow<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    // Cancel-safe: the work goes on below.
    if let Ok(done) = tokio::time::timeout(Duration::from_secs(1), &mut work).await {
        return done;
    }
    let spinner = indicatif::ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(200));
    let done = work.await;
    spinner.finish_and_clear();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_from_the_first_line_that_says_anything() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        let key = RecoveryKey::generate().unwrap();
        fs::write(&file, format!("\n  {}\nand more\n", key.to_text().as_str())).unwrap();
        let read = recovery_key(Some(&file)).unwrap();
        assert_eq!(read.to_text(), key.to_text());
        fs::write(&file, "").unwrap();
        assert!(matches!(recovery_key(Some(&file)), Err(KeyInput::Form(_))));
    }
}
