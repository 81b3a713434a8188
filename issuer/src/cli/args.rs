//! The command line of `certwell`: help, completions and man pages all come from these definitions.

use std::{path::PathBuf, time::Duration};

use certwell_proto::{CertificateName, HostName};
use clap::{Args, Parser, Subcommand};

pub use super::alert_args::{Acknowledge, Alerts, Drill, Silence};

/// Where the issuer listens unless `--socket` says otherwise.
pub const SOCKET: &str = "/run/certwell/admin.sock";

/// Ask and steer the certwell issuer.
///
/// Everything that should exist is declared in /etc/certwell/issuer.toml and conf.d/*.toml; this command shows
/// what happened, and sets in motion what doesn't belong in a file. It speaks to the issuer's Unix socket, so
/// it is run on the issuer's machine, by root or a member of the group that admin-group in issuer.toml names
/// (default: certwell).
#[derive(Debug, Parser)]
#[command(
    name = "certwell",
    version,
    max_term_width = 80,
    disable_help_subcommand = true,
    after_help = certwell_proto::exit::HELP,
    after_long_help = LONG_HELP
)]
pub struct Cli {
    /// The issuer's Unix socket
    #[arg(long, global = true, value_name = "PATH", env = "CERTWELL_SOCKET", default_value = SOCKET, display_order = 900)]
    pub socket: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const LONG_HELP: &str = "\
Examples:
  certwell status                         is all served as it should be?
  certwell explain media.hachyderm.io     why isn't it, and what is next?
  certwell token create --host sally      let a host join
  certwell certificates renew media.hachyderm.io --wait
  certwell alerts list                    what is wrong, and who was told?

Exit codes:
  0  done; for status: all converged
  1  something went wrong inside certwell
  2  the command line is wrong
  3  not converged; for alerts test: a notifier refused
  4  a configuration file is wrong
  5  the issuer can't be reached
  6  denied
  7  no such certificate, host or alert
  8  conflict: it exists already, is in use, or the state of things forbids it
  9  nginx refused its configuration

Colours are used on a terminal only, and never when NO_COLOR is set.";

/// Chooses between words for people and JSON for scripts.
#[derive(Debug, Clone, Copy, Args)]
pub struct Format {
    /// Print JSON for scripts; its shape is stable (see docs/cli.md)
    #[arg(long)]
    pub json: bool,
}

/// Which certificates, and how.
#[derive(Debug, Clone, Args)]
pub struct InventoryOf {
    /// Only of this host; may be given several times
    #[arg(long, value_name = "HOST")]
    pub host: Vec<HostName>,
    /// Only those that neither certwell nor certbot renews by itself
    #[arg(long)]
    pub unmanaged: bool,
    /// Print the names to destroy, one a line, and nothing else
    #[arg(long)]
    pub domains: bool,
    /// Send the report through this notifier of the issuer's configuration
    #[arg(long, value_name = "NOTIFIER", conflicts_with_all = ["domains", "unmanaged"])]
    pub send: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what every host serves, the worst problem first
    ///
    /// For each certificate and host there are seven separate facts: desired, fetched, installed, tested,
    /// reloaded, served (the host's own handshakes) and seen (the issuer's, from outside); each column shows
    /// the generation that has come so far.
    #[command(after_help = "\
Examples:
  certwell status
  certwell status --json | jq '.certificates[].hosts[] | select(.problem)'

Exit codes: 0 every host serves what it should, and nothing has expired; 3 not
converged; 5 the issuer can't be reached; 6 denied.")]
    Status(Format),
    /// Watch the status as it changes
    ///
    /// On a terminal one screen that is drawn anew, the worst first, with what is in the way and what happens
    /// next; else a line for each change. When the issuer goes away it says so, and goes on when it is back.
    #[command(after_help = "\
Examples:
  certwell watch
  certwell watch --json | jq 'select(.kind == \"host\" and .state == \"failed\")'

Exit codes: 0 ended by Ctrl-C or SIGTERM; 5 the issuer can't be reached at the
beginning; 6 denied.")]
    Watch(Format),
    /// Tell in plain sentences how a certificate stands
    ///
    /// What is desired, what each host has, what is in the way, what happens next and when.
    #[command(after_help = "\
Examples:
  certwell explain media.hachyderm.io

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied; 7 no such certificate.")]
    Explain {
        /// The certificate's name
        name: CertificateName,
        #[command(flatten)]
        format: Format,
    },
    /// List, show and renew certificates
    #[command(subcommand, visible_alias = "certificate")]
    Certificates(Certificates),
    /// List and show hosts, end their identities
    #[command(subcommand, visible_alias = "host")]
    Hosts(Hosts),
    /// Show every certificate of every host, managed or not
    ///
    /// Each certificate that any host's nginx refers to or certbot keeps, served or dead, once, wherever it lies;
    /// those that are used come before dead ones, and of either those with the least of their life left. Agents
    /// tell it when something changed, and look again each hour.
    ///
    /// Unmanaged is what neither certwell nor certbot renews by itself on a host; dead what no server block of a
    /// host uses. --domains is the list to destroy: the names of certificates that are unmanaged or dead on some
    /// host, without those that a certificate covers which is managed and used on any host.
    #[command(after_help = "\
Examples:
  certwell inventory
  certwell inventory --host fritz --unmanaged
  certwell inventory --domains > to-destroy.txt
  certwell inventory --send discord
  certwell inventory --json | jq '.certificates[] | select(.dead)'

Exit codes: 0 done; 5 the issuer can't be reached, or the notifier didn't take
it; 6 denied; 7 no such host or notifier.")]
    Inventory(InventoryOf),
    /// Make the tokens with which hosts join
    #[command(subcommand)]
    Token(Token),
    /// Show what happened, oldest first
    #[command(after_help = "\
Examples:
  certwell events --last 20
  certwell events --follow --certificate media.hachyderm.io
  certwell events --host sally
  certwell events --last 0 --json | jq 'select(.kind == \"fetched\")'

Exit codes: 0 done; 5 the issuer can't be reached, or went away; 6 denied;
7 no such certificate or host.")]
    Events {
        /// Go on with new events as they happen
        #[arg(long, short)]
        follow: bool,
        /// Only those of this certificate
        #[arg(long, value_name = "NAME")]
        certificate: Option<CertificateName>,
        /// Only those of this host
        #[arg(long, value_name = "NAME")]
        host: Option<HostName>,
        /// How many past events; 0 for all that are kept
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
        last: u32,
        #[command(flatten)]
        format: Format,
    },
    /// Tell where the page for browsers is, and how to log in
    ///
    /// The token is needed to acknowledge alerts, and where the page can be reached from elsewhere also to look.
    /// Who has it can do no more than that.
    #[command(after_help = "\
Examples:
  certwell page
  certwell page --token
  ssh -L 7480:127.0.0.1:7480 issuer.example.org   then http://localhost:7480/

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied; 7 no page is
served.")]
    Page {
        /// Print the token alone
        #[arg(long, conflicts_with = "json")]
        token: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Show what is wrong, acknowledge it, hold messages back, try the notifiers
    #[command(subcommand, visible_alias = "alert")]
    Alerts(Alerts),
    /// Stop orders and offers, of one certificate or of the whole fleet
    ///
    /// Hosts keep what they have, and the pause outlives restarts. Expiry doesn't end it: resume in time.
    #[command(after_help = "\
Examples:
  certwell pause media.hachyderm.io
  certwell pause

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied; 7 no such certificate.")]
    Pause {
        /// The certificate's name; without it, the whole fleet
        name: Option<CertificateName>,
        #[command(flatten)]
        format: Format,
    },
    /// Start orders and offers again after a pause
    ///
    /// A certificate that was paused by its name is resumed by its name.
    #[command(after_help = "\
Examples:
  certwell resume media.hachyderm.io
  certwell resume

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied; 7 no such certificate.")]
    Resume {
        /// The certificate's name; without it, the whole fleet
        name: Option<CertificateName>,
        #[command(flatten)]
        format: Format,
    },
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  certwell completions bash > /usr/share/bash-completion/completions/certwell

Exit codes: 0 done; 2 no such shell.")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write one for each command into a directory
    #[command(after_help = "\
Examples:
  certwell man | man -l -
  certwell man /usr/share/man/man1

Exit codes: 0 done; 6 the directory can't be written; 7 it doesn't exist.")]
    Man {
        /// Where to write certwell.1, certwell-status.1 and so on
        directory: Option<PathBuf>,
    },
}

/// Verbs about certificates.
#[derive(Debug, Subcommand)]
pub enum Certificates {
    /// List the certificates that are declared
    #[command(after_help = "\
Examples:
  certwell certificates list
  certwell certificates list --json | jq -r '.certificates[].name'

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied.")]
    List(Format),
    /// Show one certificate with its hosts and their listeners
    #[command(after_help = "\
Examples:
  certwell certificates show media.hachyderm.io

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied; 7 no such certificate.")]
    Show {
        /// The certificate's name
        name: CertificateName,
        #[command(flatten)]
        format: Format,
    },
    /// Order a new generation now
    ///
    /// Without --wait it returns as soon as the issuer has taken the request. With it, each stage is shown as
    /// it happens, until every host serves the new generation. Interrupting that stops only the watching.
    #[command(after_help = "\
Examples:
  certwell certificates renew media.hachyderm.io
  certwell certificates renew media.hachyderm.io --wait --timeout 10m

Exit codes: 0 taken, or with --wait: every host serves the new generation;
3 the timeout passed before that; 5 the issuer can't be reached; 6 denied;
7 no such certificate; 8 it is paused, or the issuer can't order it now.")]
    Renew {
        /// The certificate's name
        name: CertificateName,
        /// Wait until every host serves the new generation
        #[arg(long, short)]
        wait: bool,
        /// How long to wait, as in 90s, 5m or 2h
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration, requires = "wait")]
        timeout: Duration,
        #[command(flatten)]
        format: Format,
    },
}

/// Verbs about hosts.
#[derive(Debug, Subcommand)]
pub enum Hosts {
    /// List the hosts that are declared
    #[command(after_help = "\
Examples:
  certwell hosts list
  certwell hosts list --json | jq -r '.hosts[] | select(.connected | not) | .name'

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied.")]
    List(Format),
    /// Show one host: its identity, its machine, its certificates
    #[command(after_help = "\
Examples:
  certwell hosts show sally

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied; 7 no such host.")]
    Show {
        /// The host's name
        name: HostName,
        #[command(flatten)]
        format: Format,
    },
    /// End a host's identity: its stream is cut, every later call refused
    ///
    /// The host keeps serving what it has. It can come back with a new token.
    #[command(after_help = "\
Examples:
  certwell hosts revoke sally
  certwell hosts revoke sally --yes

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied, or you said no;
7 no such host; 8 it has no identity to revoke.")]
    Revoke(EndHost),
    /// Take a host out for good
    ///
    /// Its identity is revoked, its tokens are void, and what was observed on it is forgotten. Take it out of
    /// the configuration too.
    #[command(after_help = "\
Examples:
  certwell hosts retire esme --yes

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied, or you said no;
7 no such host; 8 it is retired already.")]
    Retire(EndHost),
}

/// What `revoke` and `retire` take.
#[derive(Debug, Args)]
pub struct EndHost {
    /// The host's name
    pub name: HostName,
    /// Don't ask for confirmation on a terminal
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    pub format: Format,
}

/// Verbs about join tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a join token for each of one or more hosts
    ///
    /// A token works once, for its host alone, and is shown only now: the issuer keeps its hash. A newer token
    /// of a host voids its older ones. Standard output gets nothing but the token, or with several hosts a
    /// line "HOST TOKEN" for each.
    #[command(after_help = "\
Examples:
  certwell token create --host sally | ssh sally certwell-agent enroll -
  certwell token create --host sally --host esme --ttl 1h

Exit codes: 0 done; 2 a wrong lifetime; 5 the issuer can't be reached; 6 denied;
7 no such host; 8 the host is retired.")]
    Create {
        /// A host that the configuration declares; may be given more than once
        #[arg(long = "host", value_name = "NAME", required = true)]
        hosts: Vec<HostName>,
        /// How long it may be used, as in 90s, 15m or 2h
        #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
        ttl: Duration,
        #[command(flatten)]
        format: Format,
    },
}

/// Reads `90s`, `15m`, `2h` or `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time; write it as in 90s, 15m, 2h or 1d");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| wrong())?;
    if number == 0 {
        return Err("it must be more than zero".to_owned());
    }
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_with_their_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7_200), ("1d", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "15",
            "m",
            "-5m",
            "1.5h",
            "0s",
            "5 m",
            "5ä",
            "99999999999s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn definitions_are_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
