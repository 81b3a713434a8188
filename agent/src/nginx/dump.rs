//! `nginx -T`, parsed in a short-lived child of the agent's own binary.
//!
//! A configuration of a thousand server blocks takes tens of MiB to parse: the child gives them back by ending. What it
//! prints holds no more than [`Parsed`]: the dump itself, which may hold secrets, never leaves it.

use std::{
    io::{self, Write as _},
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use certwell_proto::Exit;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{
    blocks, child, links,
    run::{Invocation, RunError, refusal, start_error},
    servers::Parsed,
};

/// The hidden subcommand of the agent's binary that calls [`run_child`].
pub const SUBCOMMAND: &str = "nginx-listeners";
/// The agent's own binary, even when its file was replaced by an upgrade.
pub const SELF: &str = "/proc/self/exe";

/// Why the configuration isn't known.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// nginx refuses its configuration.
    #[error("nginx -T: {words}")]
    Refused {
        /// nginx's own words, with file and line.
        words: String,
    },
    /// nginx couldn't be asked.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The child process failed.
    #[error("the child process that reads nginx's configuration failed: {0}")]
    Child(String),
}

/// What the child tells its parent.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Parsed(Parsed),
    Refused(String),
    NotStarted(String),
}

/// What the nginx so called is configured to serve. `agent` is the agent's binary, [`SELF`] in the agent.
///
/// # Errors
/// When nginx refuses its configuration (it is tested by the way), or can't be asked within `limit`.
pub async fn listeners(
    agent: &Path,
    invocation: &Invocation,
    limit: Duration,
) -> Result<Parsed, DumpError> {
    if !invocation.binary.exists() {
        return Err(RunError::Absent(invocation.binary.clone()).into());
    }
    let request = serde_json::to_vec(invocation).map_err(|e| DumpError::Child(e.to_string()))?;
    let mut command = Command::new(agent);
    command.arg(SUBCOMMAND);
    let output = child::output(command, &request, limit)
        .await
        .map_err(|e| DumpError::Child(e.to_string()))?
        .ok_or_else(|| RunError::TimedOut {
            binary: invocation.binary.clone(),
            what: "-T",
            limit,
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing");
        return Err(DumpError::Child(format!("{}: {last}", output.status)));
    }
    match serde_json::from_slice(&output.stdout) {
        Ok(Outcome::Parsed(parsed)) => Ok(parsed),
        Ok(Outcome::Refused(words)) => Err(DumpError::Refused { words }),
        Ok(Outcome::NotStarted(why)) => Err(DumpError::Child(why)),
        Err(e) => Err(DumpError::Child(format!("its answer can't be read: {e}"))),
    }
}

/// The child's whole life: an [`Invocation`] in JSON on standard input, the outcome in JSON on standard output.
pub fn run_child() -> ExitCode {
    match answer(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => Exit::Done.into(),
        Err(e) => {
            // The parent quotes this line.
            let _ = writeln!(io::stderr(), "{e}");
            Exit::Internal.into()
        }
    }
}

fn answer(input: impl io::Read, mut output: impl io::Write) -> io::Result<()> {
    let invocation: Invocation = serde_json::from_reader(input)?;
    serde_json::to_writer(&mut output, &outcome(&invocation))?;
    output.flush()
}

fn outcome(invocation: &Invocation) -> Outcome {
    let mut command = std::process::Command::new(&invocation.binary);
    command
        .arg("-T")
        .args(invocation.arguments())
        .stdin(Stdio::null());
    if let Some(directory) = &invocation.directory {
        command.current_dir(directory);
    }
    match command.output() {
        Ok(ran) if ran.status.success() => {
            // Not needed to be there when a master is asked whose own directory is gone.
            let directory = invocation.directory.clone();
            let directory = directory.or_else(|| std::env::current_dir().ok());
            let hostname = rustix::system::uname();
            let reader = blocks::Reader {
                directory: directory.as_deref().unwrap_or(Path::new("/")),
                hostname: &hostname.nodename().to_string_lossy(),
                is_root: nix::unistd::geteuid().is_root(),
            };
            let mut parsed = blocks::parse_by(&String::from_utf8_lossy(&ran.stdout), reader);
            links::follow(&mut parsed);
            Outcome::Parsed(parsed)
        }
        Ok(ran) => Outcome::Refused(refusal(&String::from_utf8_lossy(&ran.stderr))),
        Err(e) => Outcome::NotStarted(start_error(&invocation.binary, e).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(invocation: &Invocation) -> Outcome {
        let mut output = Vec::new();
        answer(
            serde_json::to_vec(invocation).unwrap().as_slice(),
            &mut output,
        )
        .unwrap();
        serde_json::from_slice(&output).unwrap()
    }

    #[test]
    fn the_child_answers_with_blocks_or_with_the_words_of_nginx() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("nginx.conf");
        let invocation = Invocation {
            config: Some(config.clone()),
            prefix: Some(directory.path().to_owned()),
            ..Invocation::plain("/usr/sbin/nginx")
        };
        let text = "events {} pid nginx.pid; error_log stderr;\nhttp { access_log off; server { listen unix:s; server_name a.org; } }\n";
        std::fs::write(&config, text).unwrap();
        let invocation = Invocation {
            directory: Some(directory.path().to_owned()),
            ..invocation
        };
        let Outcome::Parsed(parsed) = ask(&invocation) else {
            panic!("not parsed")
        };
        assert_eq!(parsed.servers.len(), 1);
        assert_eq!(
            parsed.servers[0].at.to_string(),
            format!("{}:2", config.display())
        );

        std::fs::write(&config, text.replace("server_name", "serwer_name")).unwrap();
        let Outcome::Refused(words) = ask(&invocation) else {
            panic!("not refused")
        };
        assert!(
            words.contains("[emerg]") && words.contains("serwer_name"),
            "{words}"
        );
        assert!(matches!(
            ask(&Invocation::plain("/nonexistent")),
            Outcome::NotStarted(_)
        ));
    }
}
