//! The browser's process, and the JSON that goes to it and comes from it.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use serde_json::{Value, json};

use crate::process::{pid, tail};

/// For one answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Its descriptors 3 and 4 are the ends of the pipes; a shell puts them there.
const AT_3_AND_4: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
const ARGUMENTS: [&str; 11] = [
    "--remote-debugging-pipe",
    // It visits loopback alone, as whoever runs the tests: as root, and in containers, its sandbox has no way to start.
    "--no-sandbox",
    // Without it no process is forked off beside the browser's own, so that all of them are waited for.
    "--no-zygote",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
];

pub(super) struct Connection {
    child: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    calls: u64,
    /// What it told of itself, in order; each tab takes its own.
    told: Vec<Value>,
    log: std::path::PathBuf,
}

impl Connection {
    pub(super) fn start(program: &str, profile: &Path) -> Result<Self> {
        let log = profile.join("log");
        let mut child = Command::new("sh")
            .args(["-c", AT_3_AND_4, "sh", program])
            .args(ARGUMENTS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no pipe")?;
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            // Ends with the browser, or with whoever listens.
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else {
                    continue;
                };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut connection = Self {
            child,
            input,
            messages,
            calls: 0,
            told: Vec::new(),
            log,
        };
        connection.browser("Browser.getVersion", json!({}))?;
        Ok(connection)
    }

    /// Asks the browser itself.
    pub(super) fn browser(&mut self, method: &str, params: Value) -> Result<Value> {
        self.call(json!({"method": method, "params": params}))
    }

    /// Asks a tab.
    pub(super) fn tab(&mut self, session: &str, method: &str, params: Value) -> Result<Value> {
        self.call(json!({"sessionId": session, "method": method, "params": params}))
    }

    fn call(&mut self, mut message: Value) -> Result<Value> {
        self.calls += 1;
        let (id, method) = (self.calls, message["method"].clone());
        message["id"] = id.into();
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        let written = match &mut self.input {
            Some(input) => input.write_all(&bytes),
            None => bail!("the browser has ended"),
        };
        written.with_context(|| format!("{method}: {}", tail(&self.log, 8)))?;
        loop {
            let message = match self.messages.recv_timeout(PATIENCE) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("the browser doesn't answer {method}"),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the browser ended at {method}: {}", tail(&self.log, 8))
                }
            };
            if message.get("id").and_then(Value::as_u64) != Some(id) {
                self.told.push(message);
            } else if let Some(error) = message.get("error") {
                bail!("{method}: {error}");
            } else {
                return Ok(message["result"].clone());
            }
        }
    }

    /// All that was told of a tab since it was asked last: method and parameters.
    pub(super) fn told(&mut self, session: &str) -> Vec<(String, Value)> {
        self.told.extend(self.messages.try_iter());
        let (its, others) = std::mem::take(&mut self.told)
            .into_iter()
            .partition(|message| message["sessionId"] == session);
        self.told = others;
        let its: Vec<Value> = its;
        its.into_iter()
            .map(|mut message| {
                let method = message["method"].as_str().unwrap_or_default().to_owned();
                (method, message["params"].take())
            })
            .collect()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Its end of the pipe is what it lives by.
        self.input = None;
        let group = pid(self.child.id());
        let ended = crate::wait_for("its end", Duration::from_secs(5), || {
            match self.child.try_wait() {
                Ok(Some(_)) => Ok(()),
                _ => Err("it runs"),
            }
        });
        // Whatever is left of it.
        let _ = killpg(group, Signal::SIGKILL);
        if ended.is_err() {
            let _ = self.child.wait();
        }
    }
}

/// A field of an answer that must be there.
pub(super) fn text(answer: &Value, field: &str) -> Result<String> {
    let found = answer.get(field).and_then(Value::as_str);
    found
        .map(ToOwned::to_owned)
        .with_context(|| format!("no {field} in {answer}"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Browser, PROGRAM},
        *,
    };
    use crate::leftovers::{all_processes, group_of};

    #[test]
    fn a_dropped_browser_leaves_no_process() {
        if !Browser::is_installed() {
            eprintln!("SKIPPED: no {PROGRAM} is here; lab/setup.sh test installs it on Debian");
            return;
        }
        let profile = tempfile::tempdir().unwrap();
        let connection = Connection::start(PROGRAM, profile.path()).unwrap();
        let group = i32::try_from(connection.child.id()).unwrap();
        let members = || {
            all_processes()
                .filter(|pid| group_of(*pid) == Some(group))
                .count()
        };
        assert!(members() > 0);
        drop(connection);
        crate::wait_for("no process", Duration::from_secs(10), || match members() {
            0 => Ok(()),
            left => Err(left),
        })
        .unwrap();
    }
}
