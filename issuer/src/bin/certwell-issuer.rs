//! Obtains certificates by ACME and offers them to the agents of a fleet.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The one provider of cryptography, before anything asks for it; only a second call could fail.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    certwell_issuer::daemon_cli::main(std::env::args_os())
}
