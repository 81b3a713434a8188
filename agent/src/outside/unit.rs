//! A unit of this host: how it is, and having it started.

use std::time::Duration;

use tokio::process::Command;

use crate::nginx::child;

/// For one question.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// For a start, which systemd itself gives 90 seconds.
const START_LIMIT: Duration = Duration::from_secs(100);

/// Names the present boot of this machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// How a unit is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnitState {
    /// Its `ActiveState`; empty where that can't be known.
    pub(crate) active: String,
    /// Its `Result`: why it failed.
    pub(crate) result: String,
    /// When it last ended or failed, since the machine booted.
    pub(crate) ended: Option<Duration>,
}

/// What the service manager says of it.
pub(crate) async fn state(unit: &str) -> UnitState {
    let mut command = Command::new("systemctl");
    command.args([
        "show",
        "--property=ActiveState,Result,InactiveEnterTimestampMonotonic",
        unit,
    ]);
    match child::output(command, b"", ASK_LIMIT).await {
        Ok(Some(shown)) if shown.status.success() => {
            state_in(&String::from_utf8_lossy(&shown.stdout))
        }
        _ => UnitState::default(),
    }
}

fn state_in(shown: &str) -> UnitState {
    let pairs = shown.lines().filter_map(|line| line.split_once('='));
    let mut state = UnitState::default();
    for (name, value) in pairs {
        match name {
            "ActiveState" => value.clone_into(&mut state.active),
            "Result" => value.clone_into(&mut state.result),
            // 0: it never did.
            "InactiveEnterTimestampMonotonic" => {
                let micros = value.parse().ok().filter(|micros| *micros > 0);
                state.ended = micros.map(Duration::from_micros);
            }
            _ => {}
        }
    }
    state
}

/// The id of the present boot of this machine; empty where that can't be known.
pub(crate) fn boot() -> String {
    std::fs::read_to_string(BOOT)
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Starts it.
///
/// # Errors
/// The words of the service manager.
pub(crate) async fn start(unit: &str) -> Result<(), String> {
    let mut command = Command::new("systemctl");
    command.args(["start", "--no-ask-password", unit]);
    let ran = child::output(command, b"", START_LIMIT).await;
    match ran {
        Err(error) => Err(format!("systemctl can't be run: {error}")),
        Ok(None) => Err(format!("it didn't end within {START_LIMIT:?}")),
        Ok(Some(ran)) if ran.status.success() => Ok(()),
        Ok(Some(ran)) => {
            let said = String::from_utf8_lossy(&ran.stderr);
            let first = said.lines().map(str::trim).find(|line| !line.is_empty());
            let why = first.unwrap_or("systemctl gave no reason");
            Err(why.trim_end_matches('.').to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_manager_says_of_a_unit() {
        let state = |active: &str, result: &str, micros: Option<u64>| UnitState {
            active: active.to_owned(),
            result: result.to_owned(),
            ended: micros.map(Duration::from_micros),
        };
        let failed =
            "Result=timeout\nInactiveEnterTimestampMonotonic=61000001\nActiveState=failed\n";
        assert_eq!(
            state_in(failed),
            state("failed", "timeout", Some(61_000_001))
        );
        let never = "ActiveState=active\nInactiveEnterTimestampMonotonic=0\n";
        assert_eq!(state_in(never), state("active", "", None));
        assert_eq!(state_in("Failed to connect to bus\n"), UnitState::default());
    }
}
