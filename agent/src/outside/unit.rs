//! A unit of this host: how it is, and having it started.

use std::time::Duration;

use tokio::process::Command;

use crate::nginx::child;

/// For one question.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// For a start, which systemd itself gives 90 seconds.
const START_LIMIT: Duration = Duration::from_secs(100);

/// Its `ActiveState`; nothing where that can't be known.
pub(crate) async fn active_state(unit: &str) -> Option<String> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--property=ActiveState", "--value", unit]);
    let shown = child::output(command, b"", ASK_LIMIT).await.ok()??;
    shown
        .status
        .success()
        .then(|| String::from_utf8_lossy(&shown.stdout).trim().to_owned())
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
