//! `make demo` and `make bench`.

mod bench;
mod demo;
mod narrator;

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
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Demo { once } => demo::run(once),
        Verb::Bench { parts } => bench::run(&parts),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("certwell-lab: {error:#}");
        ExitCode::FAILURE
    })
}
