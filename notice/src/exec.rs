//! A program of the operator's: the message as JSON on its standard input, exit code 0 for accepted. When its time is over
//! it ends with all that it started.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use crate::{
    Accepted, Refused,
    limit::{cut, line},
    trust,
};

/// So much of its output is kept, from the end.
const KEPT: usize = 4 * 1024;
/// So many of its last lines are quoted …
const LINES: usize = 3;
/// … and so many characters of them.
const QUOTED: usize = 400;

/// A program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The file; it belongs to root or us, and nobody else may write to it, which is looked at before each run.
    pub program: PathBuf,
    /// What starts it, with arguments, where it isn't started directly; its standard input and exit code come through.
    pub launcher: Vec<OsString>,
}

impl Exec {
    pub(crate) async fn run(&self, input: Vec<u8>, limit: Duration) -> Result<Accepted, Refused> {
        trust::check_program("command", &self.program).map_err(Refused::new)?;
        let shown = self.program.display();
        match tokio::time::timeout(limit, self.ended(&input)).await {
            Err(_) => Err(Refused::new(format!(
                "{shown} was stopped after {limit:?}, with all that it started; run it by hand to see why"
            ))),
            Ok(Err(error)) => Err(Refused::new(format!("{shown} can't be run: {error}"))),
            Ok(Ok((status, said))) if status.success() => Ok(Accepted {
                text: format!("{shown} ended with exit code 0{}", quoted(&said)),
            }),
            Ok(Ok((status, said))) => Err(Refused::new(format!(
                "{shown} ended with {status}{}",
                quoted(&said)
            ))),
        }
    }

    /// How it ended, and the end of what it said on both outputs.
    async fn ended(&self, input: &[u8]) -> io::Result<(ExitStatus, Vec<u8>)> {
        let mut words = self
            .launcher
            .iter()
            .cloned()
            .chain([self.program.clone().into_os_string()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        let mut child = command
            .args(words)
            // Our service manager's socket is none of its business.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let _group = Group(child.id());
        let stdin = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let writing = async {
            if let Some(mut stdin) = stdin {
                // One that doesn't read says by its exit code whether it needed to.
                let _ = stdin.write_all(input).await;
            }
        };
        let ((), out, err, status) =
            tokio::join!(writing, end_of(stdout), end_of(stderr), child.wait());
        let mut said = out;
        said.extend(err);
        Ok((status?, said))
    }
}

/// The last bytes, as far as they could be read.
async fn end_of(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        while pipe.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            if bytes.len() > 2 * KEPT {
                bytes.drain(..bytes.len() - KEPT);
            }
        }
    }
    bytes.drain(..bytes.len().saturating_sub(KEPT));
    bytes
}

fn quoted(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let mut lines: Vec<String> = text
        .lines()
        .rev()
        .map(line)
        .filter(|line| !line.is_empty())
        .take(LINES)
        .collect();
    lines.reverse();
    match lines.join(" / ") {
        said if said.is_empty() => said,
        said => format!(": {}", cut(&said, QUOTED)),
    }
}

/// A process group that ends when this is dropped: nothing that a program leaves running outlives its message.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|leader| i32::try_from(leader).ok()) {
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}
