//! The command line of `certwell-issuer`: definitions, verbs, and the exit code of each failure.

mod check;
mod init;
mod restore;
mod service_user;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use certwell_proto::{Exit, exit};
use clap::{CommandFactory as _, Parser, Subcommand};
use serde::Serialize;

use crate::{
    admin::socket::SocketError,
    backup::BackupError,
    clock,
    config::ConfigErrors,
    init::InitError,
    making::MakeError,
    restore::RestoreError,
    store::{StoreError, keys::KeyError},
};

use self::{
    init::{InitArgs, initialize},
    restore::{BackupArgs, KeyInput, RestoreArgs, back_up},
};

/// Obtains certificates by ACME, keeps them sealed, and offers them to the agents of a fleet.
///
/// What should exist is declared in /etc/certwell/issuer.toml and conf.d/*.toml beside it. `certwell status`
/// shows what happened.
#[derive(Debug, Parser)]
#[command(
    name = "certwell-issuer",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = exit::HELP
)]
struct Cli {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/etc/certwell/issuer.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Set up a new fleet: configuration, key, store and fleet CA
    ///
    /// Refuses to overwrite anything. Prints the recovery key, once, on standard output; with --json as a field.
    Init(InitArgs),
    /// Run the issuer
    ///
    /// Logs to standard error, by the filter in CERTWELL_LOG (default: info), as JSON lines when
    /// CERTWELL_LOG_FORMAT is json.
    Serve,
    /// Back up the store and the configuration, while the issuer runs
    ///
    /// Makes a directory certwell-TIME in backup-directory, whole or not at all, reads it back, and removes the oldest
    /// ones beyond backups-kept. Root goes on as the state directory's owner. It holds no key that opens it: `restore` takes it with the recovery key.
    Backup(BackupArgs),
    /// Set up, from a backup, what a lost machine was
    ///
    /// Refuses to overwrite a store. Opens every secret of the backup by the recovery key before it writes anything;
    /// brings the configuration where there is none, and makes a new key-encryption key where there is none. No host
    /// has to enroll again.
    Restore(RestoreArgs),
    /// Check the configuration without starting anything
    ///
    /// Tells every mistake, with file, line and column, whether the group in admin-group exists, and whether the
    /// key-encryption key is acceptable.
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all pages into a directory
    Man {
        /// Where to write certwell-issuer.1 and a page for each command
        directory: Option<PathBuf>,
    },
}

/// Runs `certwell-issuer`.
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and end well.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            let _ = error.print();
            return exit.into();
        }
    };
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            show(&error);
            exit_of(&error).into()
        }
    }
}

/// On standard error.
fn show(error: &anyhow::Error) {
    let mut stderr = io::stderr().lock();
    let _ = match error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ConfigErrors>())
    {
        Some(errors) => writeln!(stderr, "{errors}\n\ncertwell-issuer: {}", counted(errors)),
        None => writeln!(stderr, "certwell-issuer: {}", sentence(error)),
    };
}

/// The failure and its causes, each said once: some already name their cause.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !sentence.contains(&cause) {
            sentence.push_str(": ");
            sentence.push_str(&cause);
        }
    }
    sentence
}

fn counted(errors: &ConfigErrors) -> String {
    match errors.mistakes.len() {
        1 => "there is a mistake in the configuration".to_owned(),
        count => format!("there are {count} mistakes in the configuration"),
    }
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    let Cli { config, verb } = cli;
    match verb {
        Verb::Check { json } => return check::check(&config, json),
        Verb::Init(arguments) => initialize(config, arguments),
        Verb::Serve => {
            keep_from_core_files()?;
            certwell_log::begin("certwell-issuer", false)?;
            clock::check()?;
            runtime()?.block_on(crate::app::serve(&config))
        }
        Verb::Backup(arguments) => back_up(&config, &arguments),
        Verb::Restore(arguments) => restore::restore(&config, &arguments),
        Verb::Completions { shell } => {
            // By way of a buffer: clap_complete panics when a pipe closes.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "certwell-issuer", &mut script);
            print(&script)
        }
        Verb::Man {
            directory: Some(directory),
        } => clap_mangen::generate_to(Cli::command(), &directory)
            .with_context(|| format!("can't write manual pages into {}", directory.display())),
        Verb::Man { directory: None } => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            print(&page)
        }
    }
    .map(|()| Exit::Done)
}

/// A reader that has seen enough and closed the pipe is no failure.
fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("the output can't be written")
        }
        _ => Ok(()),
    }
}

/// What `--json` says, for people's eyes as well.
fn print_json(document: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    print(text.as_bytes())
}

/// One thread runs all tasks; blocking work goes to others that end when idle.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")
}

/// Private keys pass through memory: should the process be killed by a fault of its own, none is left in a core file;
/// nor can another process of its user look into it.
fn keep_from_core_files() -> anyhow::Result<()> {
    nix::sys::prctl::set_dumpable(false).context("core dumps can't be switched off")
}

/// The exit code of a failure, by the first of its causes that has one.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    error
        .chain()
        .find_map(exit_of_cause)
        .unwrap_or(Exit::Internal)
}

fn exit_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if cause.is::<ConfigErrors>()
        || cause.is::<clock::ClockUnset>()
        || cause.is::<certwell_log::LogError>()
    {
        return Some(Exit::Configuration);
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return exit_of_store(error);
    }
    if let Some(error) = cause.downcast_ref::<KeyError>() {
        return Some(if error.is_denied() {
            Exit::Denied
        } else {
            Exit::Configuration
        });
    }
    match cause.downcast_ref::<SocketError>() {
        Some(SocketError::InUse(_) | SocketError::Foreign(_)) => return Some(Exit::Conflict),
        Some(SocketError::Group(_)) => return Some(Exit::Configuration),
        Some(SocketError::Io { .. }) | None => {}
    }
    if let Some(error) = cause.downcast_ref::<BackupError>() {
        return match error {
            BackupError::UnderWay(_) | BackupError::Exists(_) => Some(Exit::Conflict),
            BackupError::Config(error) => exit_of_cause(error),
            BackupError::Store(error) => exit_of_store(error),
            BackupError::Make(error) => exit_of_making(error),
            BackupError::Revocations(_) | BackupError::Io { .. } => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<KeyInput>() {
        return error.exit();
    }
    if let Some(error) = cause.downcast_ref::<RestoreError>() {
        return match error {
            RestoreError::NoBackup(_) => Some(Exit::NotFound),
            RestoreError::Store(_) => Some(Exit::Conflict),
            RestoreError::NoConfig(_) | RestoreError::Fleet { .. } => Some(Exit::Configuration),
            RestoreError::Config(error) => exit_of_cause(error),
            RestoreError::Key(error) => exit_of_cause(error),
            RestoreError::Opening(error) => exit_of_store(error),
            RestoreError::Make(error) => exit_of_making(error),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<InitError>() {
        return match error {
            InitError::Make(error) => exit_of_making(error),
            InitError::Path(_) => Some(Exit::Usage),
            InitError::Key(error) => exit_of_cause(error),
            InitError::Store(error) => exit_of_store(error),
            InitError::Config(error) => exit_of_cause(error),
            _ => None,
        };
    }
    match cause.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::AlreadyExists => Some(Exit::Conflict),
        io::ErrorKind::PermissionDenied => Some(Exit::Denied),
        io::ErrorKind::NotFound => Some(Exit::NotFound),
        _ => None,
    }
}

fn exit_of_store(error: &StoreError) -> Option<Exit> {
    match error {
        StoreError::Missing { .. } => Some(Exit::NotFound),
        StoreError::InUse { .. } | StoreError::Conflict(_) => Some(Exit::Conflict),
        StoreError::Newer { .. } | StoreError::Unseal { .. } => Some(Exit::Configuration),
        StoreError::Corrupt { .. } => Some(Exit::Internal),
        // What the file system said decides.
        StoreError::Io { .. } => None,
    }
}

fn exit_of_making(error: &MakeError) -> Option<Exit> {
    match error {
        MakeError::Exists { .. } => Some(Exit::Conflict),
        MakeError::Make { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verbs that say nothing, and those that write for a shell or `man`.
    const WITHOUT_JSON: &[&str] = &["serve", "completions", "man"];

    fn each_verb(of: &clap::Command, path: &str, see: &mut impl FnMut(String, &clap::Command)) {
        for verb in of.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let path = format!("{path} {}", verb.get_name());
            if verb.has_subcommands() {
                each_verb(verb, &path, see);
            } else {
                see(path, verb);
            }
        }
    }

    #[test]
    fn every_verb_that_says_something_says_it_to_a_script_too() {
        let (mut seen, mut without) = (0, Vec::new());
        each_verb(&Cli::command(), "certwell-issuer", &mut |path, verb| {
            seen += 1;
            let has = |long: &str| verb.get_arguments().any(|arg| arg.get_long() == Some(long));
            if !has("json") && !WITHOUT_JSON.contains(&verb.get_name()) {
                without.push(path);
            }
        });
        assert!(seen > WITHOUT_JSON.len(), "{seen}");
        assert_eq!(without, [""; 0]);
    }
}
