//! On which side of the agent's sandbox a command runs, and to which unit a process belongs.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Made by systemd where it is the init.
const BOOTED: &str = "/run/systemd/system";
/// The process that systemd started: its children inherit the variable, and have another process id.
const STARTED_BY_SYSTEMD: &str = "SYSTEMD_EXEC_PID";
/// Whose sandbox counts while no master runs.
const NGINX_UNIT: &str = "nginx.service";

/// Where a command runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// As a child of the agent, with all that the agent is kept from.
    #[default]
    Inside,
    /// As a transient unit, in the sandbox of this unit, if there is such a one.
    Outside {
        /// Such as `nginx.service`.
        like: Option<String>,
    },
}

/// Whether systemd runs this process as a service. What a person starts by hand has no sandbox to leave.
pub(crate) fn is_service() -> bool {
    let started = std::env::var(STARTED_BY_SYSTEMD).ok();
    started.and_then(|pid| pid.parse().ok()) == Some(std::process::id()) && is_booted()
}

/// Whether systemd is the init of this machine.
fn is_booted() -> bool {
    Path::new(BOOTED).is_dir()
}

/// The unit that the service manager can start again should this process end: not one that we are a part of ourselves.
pub(crate) fn own_unit_of(pid: i32) -> Option<String> {
    let ours = i32::try_from(std::process::id()).ok().and_then(unit_of);
    unit_of(pid).filter(|unit| is_booted() && Some(unit) != ours.as_ref())
}

/// For commands of the operator's, which have no unit of their own.
pub(crate) fn side() -> Side {
    if is_service() {
        Side::Outside { like: None }
    } else {
        Side::Inside
    }
}

/// For what nginx itself would do: in the sandbox of the unit of its master, which is a process of this host. While none
/// runs, in that of `nginx.service`; without such a unit it is in none.
pub fn nginx_side(master: Option<i32>) -> Side {
    if !is_service() {
        return Side::Inside;
    }
    let like = match master {
        Some(pid) => unit_of(pid),
        None => Some(NGINX_UNIT.to_owned()),
    };
    Side::Outside { like }
}

/// The service of the system that a process belongs to; nothing for what a person started in a session.
pub fn unit_of(pid: i32) -> Option<String> {
    service_in(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// Out of `/proc/PID/cgroup`: of the unified hierarchy, else of systemd's own.
fn service_in(text: &str) -> Option<String> {
    let path = |start: &str| {
        text.lines()
            .find_map(|line| line.split_once(':')?.1.strip_prefix(start))
    };
    let service = |path: &str| {
        let mut parts = path.split('/');
        let found = parts.find(|part| part.ends_with(".service"))?;
        // A person's own service manager, whose units PID 1 doesn't know.
        (!found.starts_with("user@")).then(|| found.to_owned())
    };
    path(":")
        .and_then(service)
        .or_else(|| path("name=systemd:").and_then(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_processes() {
        let table = [
            ("0::/system.slice/nginx.service\n", Some("nginx.service")),
            (
                "0::/system.slice/system-nginx.slice/nginx@edge.service/workers\n",
                Some("nginx@edge.service"),
            ),
            (
                "9:name=systemd:/system.slice/nginx.service\n1:cpu:/\n0::/\n",
                Some("nginx.service"),
            ),
            (
                "9:name=systemd:/\n0::/system.slice/a.service\n",
                Some("a.service"),
            ),
            ("0::/user.slice/user-0.slice/session-3.scope\n", None),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service\n",
                None,
            ),
            ("0::/\n", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(service_in(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_nobody_runs_as_a_service_stays_inside() {
        assert_eq!((side(), nginx_side(Some(1))), (Side::Inside, Side::Inside));
    }
}
