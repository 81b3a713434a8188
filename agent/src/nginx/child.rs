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
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Runs a command to its end, with `input` on its standard input; `None` when it took longer than `limit`.
///
/// # Errors
/// When it can't be started, or not be talked to.
pub(crate) async fn output(
    mut command: Command,
    input: &[u8],
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
    let answered = async {
        if let Some(mut pipe) = child.stdin.take() {
            // One that ended before it read says why by its output.
            match pipe.write_all(input).await {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => drop(pipe),
            }
        }
        child.wait_with_output().await
    };
    let Ok(answered) = tokio::time::timeout(limit, answered).await else {
        return Ok(None);
    };
    if answered.is_ok() {
        group.0 = None;
    }
    answered.map(Some)
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
}
