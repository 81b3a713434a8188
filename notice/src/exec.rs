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
        let Ran {
            status,
            said,
            is_cut_off,
        } = self
            .ended(&input, limit)
            .await
            .map_err(|error| Refused::new(format!("{shown} can't be run: {error}")))?;
        let left = if is_cut_off {
            format!("; what it left running was stopped after {limit:?}")
        } else {
            String::new()
        };
        let said = quoted(&said);
        match status {
            None => Err(Refused::new(format!(
                "{shown} was stopped after {limit:?}, with all that it started; run it by hand to see why"
            ))),
            Some(status) if status.success() => Ok(Accepted::by_all(format!(
                "{shown} ended with exit code 0{left}{said}"
            ))),
            Some(status) => Err(Refused::new(format!(
                "{shown} ended with {status}{left}{said}"
            ))),
        }
    }

    /// Until it and all that it started have closed their outputs, or the time is over.
    async fn ended(&self, input: &[u8], limit: Duration) -> io::Result<Ran> {
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
        let (mut said, mut err, mut status) = (Vec::new(), Vec::new(), None);
        let waiting = async { status = Some(child.wait().await) };
        let all = async {
            tokio::join!(
                writing,
                end_of(stdout, &mut said),
                end_of(stderr, &mut err),
                waiting
            )
        };
        let is_cut_off = tokio::time::timeout(limit, all).await.is_err();
        said.extend(err);
        Ok(Ran {
            status: status.transpose()?,
            said,
            is_cut_off,
        })
    }
}

/// What became of a program.
struct Ran {
    /// How it ended; `None`: its time was over first.
    status: Option<ExitStatus>,
    /// The end of what it said on both outputs.
    said: Vec<u8>,
    /// Something that it started was still there when the time was over.
    is_cut_off: bool,
}

/// Keeps the last bytes, as far as they can be read.
async fn end_of(pipe: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) {
    if let Some(mut pipe) = pipe {
        while pipe.read_buf(bytes).await.is_ok_and(|count| count > 0) {
            if bytes.len() > 2 * KEPT {
                bytes.drain(..bytes.len() - KEPT);
            }
        }
    }
    bytes.drain(..bytes.len().saturating_sub(KEPT));
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
