//! The command line of `certwell alerts`.

use std::time::Duration;

use certwell_proto::{CertificateName, HostName};
use clap::{Args, Subcommand};

use super::args::{Format, duration};

/// Verbs about alerts.
#[derive(Debug, Subcommand)]
pub enum Alerts {
    /// List what is wrong now, pages first
    ///
    /// An alert is one cause, on however many hosts. It is sent until a notifier accepted it, repeated faster and
    /// faster, and sent to the next notifier, until somebody acknowledges it or it is over.
    #[command(after_help = "\
Examples:
  certwell alerts list
  certwell alerts list --all --json | jq '.alerts[] | select(.resolved_at)'

Exit codes: 0 done, alerts or not; 5 the issuer can't be reached; 6 denied.")]
    List {
        /// Those that are over too, as long as they are kept (90 days)
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Show one alert: its cause, what is served, who was told, what is next
    #[command(after_help = "\
Examples:
  certwell alerts show 12

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied; 7 no such alert.")]
    Show {
        /// The alert's number, as in the message
        id: u64,
        #[command(flatten)]
        format: Format,
    },
    /// Say that you know and see to it: it is repeated no more for a while
    ///
    /// It holds for what is wrong now. When the alert gets worse (a page where there was a warning), or is on
    /// another host, everybody is told again. A drill is over by it.
    #[command(
        visible_alias = "acknowledge",
        after_help = "\
Examples:
  certwell alerts ack 12 --for 4h
  certwell alerts ack 12 --for 1d --note 'new disk comes tomorrow'

Exit codes: 0 done; 2 a wrong length of time; 5 the issuer can't be reached;
6 denied; 7 no such alert; 8 it is over already."
    )]
    Ack(Acknowledge),
    /// Hold messages back while you work on something
    ///
    /// Alerts stay listed, and what is still wrong when the silence ends is told then. An alert on several hosts
    /// is held back only when all of them are silenced. An expiry that pages is never held back.
    #[command(after_help = "\
Examples:
  certwell alerts silence --host sally --for 2h --note 'moving house'
  certwell alerts silence --certificate media.hachyderm.io --class url-broken \\
    --for 30m

Exit codes: 0 done; 2 nothing to silence, or a wrong length of time; 5 the
issuer can't be reached; 6 denied; 7 no such host, certificate or class.")]
    Silence(Silence),
    /// List the silences that hold
    #[command(after_help = "\
Examples:
  certwell alerts silences

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied.")]
    Silences(Format),
    /// End a silence before its time
    #[command(after_help = "\
Examples:
  certwell alerts unsilence 3

Exit codes: 0 done; 5 the issuer can't be reached; 6 denied; 7 no such silence.")]
    Unsilence {
        /// The silence's number, as `certwell alerts silences` shows it
        id: u64,
        #[command(flatten)]
        format: Format,
    },
    /// Send a message through each notifier, and show what came back
    #[command(after_help = "\
Examples:
  certwell alerts test
  certwell alerts test discord mail

Exit codes: 0 each one accepted it; 3 one didn't; 5 the issuer can't be reached;
6 denied; 7 no such notifier, or none is declared.")]
    Test {
        /// Notifiers of the configuration; without a name, each one
        #[arg(value_name = "NOTIFIER")]
        notifiers: Vec<String>,
        #[command(flatten)]
        format: Format,
    },
    /// Raise an alert though nothing is wrong, and see whether somebody comes
    ///
    /// It takes the same way as a real page: repeated, and sent to the next notifier, until it is acknowledged. While
    /// one is open there is no second.
    #[command(after_help = "\
Examples:
  certwell alerts drill
  certwell alerts drill --wait --timeout 30m

Exit codes: 0 done, or with --wait: it was acknowledged; 3 the timeout passed
before that; 5 the issuer can't be reached; 6 denied.")]
    Drill(Drill),
}

/// What `ack` takes.
#[derive(Debug, Args)]
pub struct Acknowledge {
    /// The alert's number, as in the message
    pub id: u64,
    /// For how long, as in 90s, 30m, 4h or 1d; 7 days at most
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub lasts: Duration,
    /// What you are about to do, for the others
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub note: String,
    #[command(flatten)]
    pub format: Format,
}

/// What `silence` takes.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).multiple(true),
    override_usage = "certwell alerts silence --for <TIME> \\\n       [--host <NAME>] [--certificate <NAME>] [--class <CLASS>] [OPTIONS]"
)]
pub struct Silence {
    /// Of this host
    #[arg(long, value_name = "NAME", group = "what")]
    pub host: Option<HostName>,
    /// Of this certificate
    #[arg(long, value_name = "NAME", group = "what")]
    pub certificate: Option<CertificateName>,
    /// Of this class, as in host-silent
    #[arg(long, value_name = "CLASS", group = "what")]
    pub class: Option<String>,
    /// For how long, as in 90s, 30m, 2h or 1d; 7 days at most
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub lasts: Duration,
    /// What you are about to do, for the others
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub note: String,
    #[command(flatten)]
    pub format: Format,
}

/// What `drill` takes.
#[derive(Debug, Args)]
pub struct Drill {
    /// Show who is told, until somebody acknowledges it
    #[arg(long, short)]
    pub wait: bool,
    /// How long to wait, as in 90s, 30m or 2h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration, requires = "wait")]
    pub timeout: Duration,
    #[command(flatten)]
    pub format: Format,
}
