//! What is installed, on whole Debian hosts with real systemd. Where this machine can't boot such hosts, each test says
//! so and is skipped.

mod boot;
mod enrolled;
mod fresh;
mod outside;
mod packages;

use certwell_lab::debian::able;

/// Whether whole hosts can be booted here; says why not where they can't.
fn able(test: &str) -> bool {
    let missing = able::missing();
    if !missing.is_empty() {
        eprintln!(
            "SKIPPED {test}: it boots whole Debian hosts; missing: {}",
            missing.join(", ")
        );
    }
    missing.is_empty()
}
