//! The command line.

use std::{path::PathBuf, time::Duration};

use certwell_proto::{CertificateName, exit};
use clap::{ArgGroup, Parser, Subcommand};
use clap_complete::Shell;

use super::hold;

/// Draws this host's TLS certificates from the issuer, has nginx serve them, and proves it.
#[derive(Debug, Parser)]
#[command(
    name = "certwell-agent",
    version,
    after_help = exit::HELP,
    after_long_help = long_after(),
    disable_help_subcommand = true
)]
pub struct Cli {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/etc/certwell/agent.toml"
    )]
    pub(super) config: PathBuf,

    #[command(subcommand)]
    pub(super) verb: Verb,
}

fn long_after() -> String {
    format!(
        "Environment: CERTWELL_LOG is a filter for log lines (default \"info\"), CERTWELL_LOG_FORMAT=json makes them \
         JSON.\nThe log goes to standard error, or with fields to the journal where systemd runs the agent.\n\n{}",
        exit::HELP
    )
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run until SIGTERM: keep a stream to the issuer, install what it offers, report what is served.
    #[command(after_help = "\
Exit codes: 0 ended by a signal, 4 wrong configuration, an untrusted directory or key file, or a
clock before 2020, 6 a file can't be read or written, 7 not enrolled, 8 another agent runs here,
1 anything else.")]
    Run,
    /// Join a fleet: make this host's keys, have the issuer sign its identity, and start the agent.
    #[command(after_help = "\
Where systemd runs and has certwell-agent.service, the unit is enabled and
started, and what is left to do is told: what doctor finds, and the lines that
nginx's configuration lacks. Elsewhere, or with another --config, it is told how
to run the agent.

Exit codes: 0 enrolled, and the unit runs (there may be things left to do),
2 no valid token, 3 enrolled, but the unit doesn't run: its last words are told,
4 configuration, 5 the issuer can't be reached, 6 not root, or the issuer refuses
(token used, expired or revoked) or another answers, 8 already enrolled (with
--again: in another fleet), or an agent runs that isn't the unit's.")]
    Enroll {
        /// Enroll a host that is enrolled already, say after it was revoked: it gets a new identity and keeps its bound
        /// key. The unit is stopped meanwhile; an agent that is run otherwise must be stopped.
        #[arg(long)]
        again: bool,
        /// Leave the unit alone: neither start nor enable it.
        #[arg(long)]
        no_start: bool,
        /// As JSON, stable for scripts.
        #[arg(long)]
        json: bool,
        /// The line that `certwell token create` printed; `-` reads it from standard input.
        #[arg(value_name = "TOKEN")]
        token: String,
    },
    /// Leave the fleet: stop the agent for good, and forget who this host was to the issuer.
    #[command(after_help = "\
nginx goes on serving what it serves, and nothing renews it from then on: when
each certificate ends is told. The issuer isn't asked: `certwell hosts retire`
there makes it forget this host. A later `enroll`, in another fleet too, begins
anew. Run again, it goes on where it was cut off.

Exit codes: 0 left, 1 systemd refuses, 2 --json without --yes, 4 configuration,
6 not root, or answered with no, 7 this host is in no fleet, 8 an agent runs that
isn't the unit's.")]
    Leave {
        /// Don't ask.
        #[arg(long)]
        yes: bool,
        /// As JSON, stable for scripts; never asks, so it needs --yes.
        #[arg(long, requires = "yes")]
        json: bool,
    },
    /// Show what this host serves, as the running agent last saw it.
    #[command(after_help = "\
Exit codes: 0 all converged, 3 not (or the agent isn't running, or the issuer is lost and certificates get old),
4 configuration, 7 not enrolled.")]
    Status {
        /// As JSON, stable for scripts.
        #[arg(long)]
        json: bool,
    },
    /// List every certificate of this host: nginx's, certbot's and certwell's.
    #[command(after_help = "\
Exit codes: 0 listed, 4 configuration, 6 a directory can't be looked into (run
it as root), 9 nginx refuses its configuration: what it uses isn't known, the
rest is listed.")]
    Inventory {
        /// As JSON, stable for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Take a certbot lineage over without a change of nginx's configuration.
    #[command(after_help = "\
Exit codes: 0 adopted (or given back) and served, or adopted already, 2 no
lineage's name, 3 on disk but not served yet, 4 configuration, 6 not root,
7 no such lineage, or not adopted, 8 certwell's certificate doesn't fit, an
edit of nginx's configuration is in progress, the file system can't exchange,
certbot is at work, or somebody changed what lies there, 9 nginx refuses it: all is as it was.")]
    Adopt {
        /// certwell's certificate, if it has another name.
        #[arg(long = "as", value_name = "CERTIFICATE", conflicts_with = "undo")]
        certificate: Option<CertificateName>,
        /// Give it back: all of certbot's is put where it was.
        #[arg(long)]
        undo: bool,
        /// As JSON, stable for scripts.
        #[arg(long)]
        json: bool,
        /// The lineage's name, as `certbot certificates` tells it.
        #[arg(value_name = "LINEAGE", value_parser = lineage)]
        lineage: String,
    },
    /// Tell what is in the agent's way on this host, and how to mend it.
    #[command(group = ArgGroup::new("change").args(["fix_include", "undo"]), after_help = "\
By itself it changes nothing, asks no issuer but the one that this host joined,
and needs no running agent. Notes are worth knowing and stand in nobody's way.

--fix-include puts `include snippets/certwell-acme.conf;` first into each server
block at port 80 that needs it, and the challenge map into the http block: it
shows the difference, asks, keeps what was there, has nginx test it and reloads
nginx. What nginx refuses is put back.

Exit codes: 0 nothing is in the way, or it is put in (taken out), 2 no terminal
to ask at, or --json without --yes, 3 something is in the way, or nginx didn't reload, 4 the agent's
configuration is wrong: what can be told without it is told, 6 not root, or
answered with no, 8 a file was changed meanwhile, or nothing was put in that
could be taken out, 9 nginx refuses it: all is as it was.")]
    Doctor {
        /// As JSON, stable for scripts.
        #[arg(long)]
        json: bool,
        /// Put the include where it is missing or comes too late.
        #[arg(long)]
        fix_include: bool,
        /// Don't ask.
        #[arg(long, requires = "fix_include")]
        yes: bool,
        /// Leave the reload to somebody else.
        #[arg(long, requires = "change")]
        no_reload: bool,
        /// Take out again what was last put in, byte for byte.
        #[arg(long)]
        undo: bool,
        /// Where the CA's requests arrive, if it isn't port 80.
        #[arg(long, value_name = "PORT", default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
    },
    /// Keep the agent's hands off a certificate while you work on it; without a name, list what is held.
    #[command(
        group = ArgGroup::new("what").args(["for", "release"]),
        after_help = "\
While it is held, the agent changes nothing of it on disk and reloads nothing for its sake; other
certificates go on. It goes on at once when the hold lapses or is released.

Exit codes: 0 done, 1 holds.json is damaged, 2 usage, 4 configuration, 6 not root,
7 no certificate of this host."
    )]
    Hold {
        /// The certificate.
        #[arg(value_name = "NAME", requires = "what")]
        name: Option<CertificateName>,
        /// For how long, such as 30m, 4h or 2d; 30 days at most.
        #[arg(long = "for", id = "for", value_name = "DURATION", requires = "name", value_parser = hold::length)]
        length: Option<Duration>,
        /// Why, for whoever reads the status.
        #[arg(long, value_name = "TEXT", requires = "for", value_parser = hold::note)]
        note: Option<String>,
        /// End the hold.
        #[arg(long, requires = "name")]
        release: bool,
        /// As JSON, stable for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Whom this host tells by itself when the issuer is away and what it serves gets old.
    #[command(arg_required_else_help = true)]
    Alarm {
        /// What to do.
        #[command(subcommand)]
        what: AlarmVerb,
    },
    /// Validate the configuration file without starting anything.
    #[command(after_help = "Exit codes: 0 it is right, 4 it is not.")]
    Check {
        /// As JSON, stable for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Print completions for a shell.
    Completions {
        /// Which one.
        shell: Shell,
    },
    /// Print the manual page, or write all pages into a directory.
    Man {
        /// Where to write certwell-agent.1 and a page for each command.
        directory: Option<PathBuf>,
    },
    /// The child that parses `nginx -T`.
    #[command(hide = true, name = "nginx-listeners")]
    NginxListeners,
}

/// What to do about the alarm.
#[derive(Debug, Subcommand)]
pub(super) enum AlarmVerb {
    /// Send a test message by each [alarm.NAME] of agent.toml, and tell what came back.
    #[command(after_help = "\
All are told at once, each within its limit (10 s); a running agent goes on.

Exit codes: 0 all accepted it, 3 not all, 4 configuration, 7 there is no
[alarm.NAME].")]
    Test {
        /// As JSON, stable for scripts.
        #[arg(long)]
        json: bool,
    },
}

/// One component of a path that can be shown, and none that certbot or we hide things under.
fn lineage(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('.') || text.contains('/');
    if text.is_empty() || is_path || text == "README" || text.chars().any(char::is_control) {
        return Err("a lineage's name is needed, such as media.example.org".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_default_path_is_the_documented_one() {
        let cli = Cli::parse_from(["certwell-agent", "check"]);
        assert_eq!(cli.config, PathBuf::from(crate::config::DEFAULT_PATH));
    }

    /// The verbs that say nothing, and those that write for a shell or `man`.
    const WITHOUT_JSON: &[&str] = &["run", "completions", "man"];

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
        each_verb(&Cli::command(), "certwell-agent", &mut |path, verb| {
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
