//! Asks and steers the certwell issuer.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Never used over a Unix socket; installed all the same, so that no later use finds two candidates.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    certwell_issuer::cli::main(std::env::args_os())
}
