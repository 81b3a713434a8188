//! `make demo`, `make bench`, `make sweep`, `make fleet`, `make incident`, `make soak` and `make screenshots`.

mod bench;
mod demo;
mod fleet;
mod interruptible;
mod narrator;
mod screenshots;
mod sweeping;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A whole certwell fleet on this machine.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Four hosts draw a certificate, on real nginx and Pebble.
    Demo {
        /// End after the second act; exit 0 only if all hosts serve what was issued.
        #[arg(long)]
        once: bool,
    },
    /// Print figures of speed and size.
    Bench {
        /// Only these.
        parts: Vec<bench::Part>,
    },
    /// Six whole Debian hosts to walk about in, until Ctrl-C.
    Fleet,
    /// The incident of 2023-02-28, replayed on six whole Debian hosts.
    Incident {
        /// Only these.
        acts: Vec<certwell_lab::incident::Act>,
    },
    /// Renewals for an hour and more on whole Debian hosts: nothing may grow.
    Soak {
        /// Only these.
        parts: Vec<certwell_lab::incident::soak::Part>,
    },
    /// Take the pictures of the page in docs/images anew.
    Screenshots,
    /// Kill agents before every call that changes something, and let every such call fail.
    Sweep {
        /// Only these.
        works: Vec<certwell_lab::sweep::Work>,
        /// Only kill them.
        #[arg(long)]
        kills: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Demo { once } => demo::run(once),
        Verb::Bench { parts } => bench::run(&parts),
        Verb::Fleet => fleet::walk(),
        Verb::Incident { acts } => fleet::incident(acts),
        Verb::Soak { parts } => fleet::soak(parts),
        Verb::Screenshots => screenshots::run(),
        Verb::Sweep { works, kills } => sweeping::run(works, kills),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("certwell-lab: {error:#}");
        ExitCode::FAILURE
    })
}
