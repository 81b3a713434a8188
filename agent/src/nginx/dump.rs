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
use crate::outside::{self, Account, Outside, Side, Transient, is_not_set_up};

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

/// What the child is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    invocation: Invocation,
    /// As which nginx runs; as a child of the child where there is none.
    transient: Option<Transient>,
}

/// What the child tells its parent.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Parsed(Parsed),
    Refused(String),
    NotStarted(String),
    /// The transient unit, and why.
    NotOutside(String),
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
    let mut kept_inside = None;
    if let Side::Outside { like } = &invocation.side {
        let outside = Outside::new(like.as_deref(), limit).await;
        let answer = ask(agent, invocation, Some(outside.transient()), limit).await?;
        outside.ended();
        match answer {
            Outcome::NotOutside(why) => {
                outside::warn(&why);
                kept_inside = Some(why);
            }
            answer => return result(answer),
        }
    }
    let answer = ask(agent, invocation, None, limit).await?;
    match (answer, kept_inside) {
        (Outcome::Refused(words), Some(why)) => Err(RunError::KeptInside {
            binary: invocation.binary.clone(),
            what: "-T",
            why,
            words,
        }
        .into()),
        (answer, _) => result(answer),
    }
}

fn result(answer: Outcome) -> Result<Parsed, DumpError> {
    match answer {
        Outcome::Parsed(parsed) => Ok(parsed),
        Outcome::Refused(words) => Err(DumpError::Refused { words }),
        Outcome::NotStarted(why) | Outcome::NotOutside(why) => Err(DumpError::Child(why)),
    }
}

async fn ask(
    agent: &Path,
    invocation: &Invocation,
    transient: Option<&Transient>,
    limit: Duration,
) -> Result<Outcome, DumpError> {
    let request = Request {
        invocation: invocation.clone(),
        transient: transient.cloned(),
    };
    let request = serde_json::to_vec(&request).map_err(|e| DumpError::Child(e.to_string()))?;
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
    serde_json::from_slice(&output.stdout)
        .map_err(|e| DumpError::Child(format!("its answer can't be read: {e}")))
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
    let request: Request = serde_json::from_reader(input)?;
    serde_json::to_writer(&mut output, &outcome(&request))?;
    output.flush()
}

fn outcome(request: &Request) -> Outcome {
    let invocation = &request.invocation;
    let job = invocation.job("-T");
    let mut command = match &request.transient {
        Some(transient) => transient.command(&job),
        None => job.command(),
    };
    let ran = match command.stdin(Stdio::null()).output() {
        Ok(ran) => ran,
        Err(e) if request.transient.is_some() => {
            return Outcome::NotOutside(format!("systemd-run: {e}"));
        }
        Err(e) => return Outcome::NotStarted(start_error(&invocation.binary, e).to_string()),
    };
    let (status, stderr) = match &request.transient {
        None => (ran.status, ran.stderr),
        Some(transient) => match transient.account(ran.status, &ran.stderr) {
            Account::Ran { status, .. } if is_not_set_up(status) => {
                return Outcome::NotOutside(format!(
                    "systemd-run: the sandbox of nginx's unit can't be made again ({status})"
                ));
            }
            Account::Ran { status, stderr } => (status, stderr),
            // To be asked once more does no harm.
            Account::NotStarted(why) | Account::Lost(why) => return Outcome::NotOutside(why),
        },
    };
    if !status.success() {
        return Outcome::Refused(refusal(&String::from_utf8_lossy(&stderr)));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(invocation: &Invocation) -> Outcome {
        let mut output = Vec::new();
        let request = Request {
            invocation: invocation.clone(),
            transient: None,
        };
        answer(
            serde_json::to_vec(&request).unwrap().as_slice(),
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
