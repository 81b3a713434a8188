//! The program of an `exec` notifier runs outside the agent's sandbox, as the host's other commands do.

use std::ffi::OsString;

use certwell_notice::{Notifier, Service};

use super::side::{Side, side};

/// The same notifier, with its program started by `systemd-run` where the agent is a service of systemd.
pub(crate) fn told_outside(mut notifier: Notifier) -> Notifier {
    let limit = notifier.limit.as_secs().max(1);
    if let (Side::Outside { .. }, Service::Exec(exec)) = (side(), &mut notifier.service) {
        exec.launcher = launcher(limit);
    }
    notifier
}

/// Its standard input and exit code come through. systemd ends it with all that it started: the group of processes that
/// is ended here is that of `systemd-run`.
fn launcher(limit: u64) -> Vec<OsString> {
    let limit = format!("--property=RuntimeMaxSec={limit}s");
    [
        "systemd-run",
        "--pipe",
        "--wait",
        "--collect",
        "--quiet",
        "--no-ask-password",
        "--service-type=exec",
        "--description=A notifier of this host's alarm, run by certwell-agent",
        &limit,
        "--property=KillSignal=SIGKILL",
        "--property=LogLevelMax=notice",
        "--",
    ]
    .map(OsString::from)
    .into()
}
