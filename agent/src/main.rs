//! The agent's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    certwell_agent::cli::main()
}
