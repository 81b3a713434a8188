//! Short-lived child processes: their whole output, or, when their time is over, an end of them and of all that they
//! started.

use std::{
    io,
    process::{Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    process::Command,
};

/// Runs a command to its end, with `input` on its standard input; `None` when it took longer than `limit`.
///
/// # Errors
/// When it can't be started, or not be talked to.
pub(crate) async fn output(
    command: Command,
    input: &[u8],
    limit: Duration,
) -> io::Result<Option<Output>> {
    run(command, input, usize::MAX, limit).await
}

/// The same without input, and with no more than the last `kept` bytes of each output.
///
/// # Errors
/// As for [`output`].
pub(crate) async fn last_output(
    command: Command,
    kept: usize,
    limit: Duration,
) -> io::Result<Option<Output>> {
    run(command, b"", kept, limit).await
}

async fn run(
    mut command: Command,
    input: &[u8],
    kept: usize,
    limit: Duration,
) -> io::Result<Option<Output>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group(child.id());
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let answered = async {
        let ((), stdout, stderr, status) = tokio::try_join!(
            write(stdin, input),
            read(stdout, kept),
            read(stderr, kept),
            child.wait()
        )?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    };
    let Ok(answered) = tokio::time::timeout(limit, answered).await else {
        return Ok(None);
    };
    if answered.is_ok() {
        group.0 = None;
    }
    answered.map(Some)
}

async fn write(pipe: Option<impl AsyncWrite + Unpin>, input: &[u8]) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    match pipe.write_all(input).await {
        // One that ended before it read says why by its output.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// To its end; the last `kept` bytes.
async fn read(pipe: Option<impl AsyncRead + Unpin>, kept: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut pipe) = pipe else {
        return Ok(bytes);
    };
    while pipe.read_buf(&mut bytes).await? > 0 {
        if bytes.len() > kept.saturating_mul(2) {
            bytes.drain(..bytes.len() - kept);
        }
    }
    bytes.drain(..bytes.len().saturating_sub(kept));
    Ok(bytes)
}

/// A process group that ends when this is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|leader| i32::try_from(leader).ok()) {
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_too_long_ends_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "sleep 300 & echo $! > \"$0\"; wait"])
            .arg(&pid);
        let ended = output(command, b"", Duration::from_secs(1)).await.unwrap();
        assert!(ended.is_none());
        let pid: i32 = std::fs::read_to_string(&pid)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let status = format!("/proc/{pid}/stat");
        let gone = async {
            // A zombie, until whoever inherits it looks.
            while std::fs::read_to_string(&status).is_ok_and(|text| !text.contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn input_goes_in_and_output_comes_out() {
        let cat = Command::new("/bin/cat");
        let ran = output(cat, b"words", Duration::from_secs(10))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(ran.stdout, b"words");
        let deaf = Command::new("/bin/true");
        let much = vec![0; 1_000_000];
        let ran = output(deaf, &much, Duration::from_secs(10))
            .await
            .unwrap()
            .unwrap();
        assert!(ran.status.success());
    }

    #[tokio::test]
    async fn no_more_is_kept_than_was_asked_for_and_it_is_the_end() {
        for (count, end) in [
            ("100000", "99999\n100000\nend\n"),
            ("400", "399\n400\nend\n"),
        ] {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &format!("seq {count}; echo end")]);
            let ran = last_output(command, 1_000, Duration::from_secs(30))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(ran.stdout.len(), 1_000);
            assert!(ran.stdout.ends_with(end.as_bytes()));
        }
    }
}
