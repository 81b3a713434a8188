//! What runs. Each task owns its state; others see it through a `watch` channel.
//!
//! ```text
//!              DesiredState                     Observed
//!  connection --------------> installer -----------------------> reporter ----> issuer
//!      ^    \                   |  owns disk and nginx             ^   ^
//!      |     \                  | HostFacts                        |   |
//!      |      `--> preflight <--'     -----------------------------'   |
//!  identity         (asks nginx)                PreflightResult        |
//!      '-- renews through the connection       state_file <-- Observed-'
//! ```
//!
//! alarm tells people by itself, when the issuer is away and what Observed says gets old.
//!
//! post_install runs the operator's hook after what Observed says, and tells the installer what is wrong with it.
//!
//! inventory looks at every certificate of the host, by what HostFacts says of nginx, and tells the reporter.
//!
//! probe looks at the edges from outside, on a host that the desired state makes a probe, and tells the reporter.
//!
//! metrics answers Prometheus, where it is asked for.
//!
//! Shutdown is a `watch` that turns true: each task ends at its next safe point, the installer never between
//! activate and confirm.

pub mod alarm;
pub mod connection;
pub mod identity;
pub mod installer;
pub mod inventory;
pub mod metrics;
pub mod observed;
pub mod post_install;
pub mod preflight;
pub mod probe;
pub mod reporter;
pub mod state_file;
pub mod watch_files;

use tokio::sync::watch;

/// Becomes true when the process is to end.
pub type Shutdown = watch::Receiver<bool>;

/// Resolves when the process is to end, or nobody is left to say so.
pub async fn asked_to_stop(shutdown: &mut Shutdown) {
    // An error means that the sender is gone, which is an end as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
