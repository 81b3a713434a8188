//! `certwell watch`, on a terminal of its own and without one.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use certwell_issuer::clock;
use nix::{
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::Instant;

use crate::{
    fleet::{MEDIA, days, fleet, issue, observe},
    run::certwell,
    server::Issuer,
};

const PATIENCE: Duration = Duration::from_secs(20);
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// A terminal, and the command on it as somebody would have started it there.
struct Watched {
    terminal: File,
    output: mpsc::Receiver<String>,
    seen: String,
    child: Child,
}

impl Watched {
    fn start(issuer: &Issuer, columns: u16, rows: u16, set: &[(&str, &str)]) -> Self {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        // In a session of its own, so that Ctrl-C and a resized window reach it as signals.
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", env!("CARGO_BIN_EXE_certwell"), "--socket"])
            .arg(&issuer.socket)
            .arg("watch")
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(set.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end());
        let child = command.spawn().expect("`setsid` of util-linux is needed");
        drop(command);
        drop(pair.slave);
        let terminal = File::from(pair.master);
        let mut reader = terminal.try_clone().unwrap();
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 65_536];
            // The last end of it is closed with the command: that reads as an error.
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Self {
            terminal,
            output,
            seen: String::new(),
            child,
        }
    }

    /// Waits until what is on the screen is as `wanted`, and returns its lines.
    fn shows(&mut self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines();
            if wanted(&lines) {
                return lines;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(text) => self.seen += &text,
                Err(_) => panic!("{what}: it shows {lines:#?}"),
            }
        }
    }

    /// What is drawn, whole: nothing while it is being drawn.
    fn lines(&self) -> Vec<String> {
        let Some((_, last)) = self.seen.rsplit_once("\u{1b}[H") else {
            return Vec::new();
        };
        let Some((drawn, _)) = last.split_once("\u{1b}[J") else {
            return Vec::new();
        };
        let lines = drawn.split("\r\n");
        lines
            // The terminal itself puts a carriage return before each end of a line.
            .map(|line| {
                line.trim_end_matches('\r')
                    .trim_end_matches("\u{1b}[K")
                    .into()
            })
            .collect()
    }

    fn says(&mut self, words: &str) -> Vec<String> {
        self.shows(words, |lines| unwrapped(lines).contains(words))
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&self.terminal, size).unwrap();
    }

    /// Waits for its end: the exit code, and all that it wrote.
    fn end(&mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it runs on");
            thread::sleep(Duration::from_millis(20));
        };
        while let Ok(text) = self.output.recv_timeout(Duration::from_millis(500)) {
            self.seen += &text;
        }
        (status.code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Watched {
    /// Nothing stays behind where a test failed.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unwrapped(lines: &[String]) -> String {
    let words = lines.iter().flat_map(|line| line.split_whitespace());
    words.collect::<Vec<_>>().join(" ")
}

fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        text += part.split_once('m').unwrap().1;
    }
    text
}

#[test]
fn the_screen_follows_what_changes_and_the_terminal_is_as_before_when_it_ends() {
    for ends_by_key in [true, false] {
        let issuer = Issuer::of(fleet(clock::now()));
        let mut watched = Watched::start(&issuer, 100, 30, &[]);
        let lines = watched.says("all 4 hosts serve media.hachyderm.io generation 2");
        assert!(
            lines
                .iter()
                .any(|line| line.contains("sally") && line.contains("converged"))
        );
        issuer.known.facts().paused = true;
        watched.says("the whole fleet is paused");
        issuer.known.facts().paused = false;
        watched.says("✓ all 4 hosts serve media.hachyderm.io");
        if ends_by_key {
            watched.terminal.write_all(b"\x03").unwrap();
        } else {
            let pid = i32::try_from(watched.child.id()).unwrap();
            kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        }
        let (code, seen) = watched.end();
        assert_eq!(code, Some(0), "{seen:?}");
        assert_eq!(seen.matches(ENTER).count(), 1);
        let (_, after) = seen.split_once(LEAVE).expect("the screen before is back");
        assert!(!after.contains("media"), "{after:?}");
    }
}

#[test]
fn it_fits_the_window_and_its_resizes() {
    let issuer = Issuer::of(fleet(clock::now()));
    let mut watched = Watched::start(&issuer, 120, 40, &[]);
    watched.says("all 4 hosts serve");
    for (columns, rows) in [(60, 20), (30, 8), (100, 30)] {
        watched.resize(columns, rows);
        let longest = |lines: &[String]| {
            let lengths = lines.iter().map(|line| plain(line).chars().count());
            lengths.max().unwrap_or(0)
        };
        let (columns, rows) = (usize::from(columns), usize::from(rows));
        watched.shows("it fits", |lines| {
            !lines.is_empty()
                && lines.len() <= rows
                && longest(lines) <= columns
                && (columns < 100 || longest(lines) > 60)
        });
    }
    watched.terminal.write_all(b"\x03").unwrap();
    assert_eq!(watched.end().0, Some(0));
}

#[test]
fn an_issuer_that_goes_away_is_waited_for() {
    let mut issuer = Issuer::of(fleet(clock::now()));
    let mut watched = Watched::start(&issuer, 100, 30, &[]);
    watched.says("all 4 hosts serve");
    issuer.stop();
    let lines = watched.says("the issuer can't be reached since");
    assert!(unwrapped(&lines).contains("sally"), "what was known stays");
    issuer.known.facts().paused = true;
    issuer.start();
    watched.shows("it is back", |lines| {
        let text = unwrapped(lines);
        text.contains("the whole fleet is paused") && !text.contains("can't be reached")
    });
    watched.terminal.write_all(b"\x03").unwrap();
    assert_eq!(watched.end().0, Some(0));
}

#[test]
fn colours_only_where_they_are_wanted() {
    for (set, coloured) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let issuer = Issuer::of(fleet(clock::now()));
        let mut watched = Watched::start(&issuer, 100, 30, set);
        let lines = watched.says("all 4 hosts serve");
        assert_eq!(
            lines.iter().any(|line| line.contains('\u{1b}')),
            coloured,
            "{lines:?}"
        );
        watched.terminal.write_all(b"\x03").unwrap();
        watched.end();
    }
}

/// The command with a pipe for its output.
struct Piped {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Piped {
    fn start(issuer: &Issuer, arguments: &[&str]) -> Self {
        let mut child = certwell(&issuer.socket)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn line(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => before.push(line),
                Err(_) => panic!("{words} isn't among {before:#?}"),
            }
        }
    }

    fn end(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let rest: Vec<String> = self.lines.iter().collect();
        assert!(rest.iter().all(|line| !line.contains('\u{1b}')), "{rest:?}");
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Generation 3 is issued, and no host has it yet.
fn next_generation(issuer: &Issuer) {
    let now = clock::now();
    issue(&mut issuer.known.facts(), MEDIA, 3, now, now + days(90));
}

#[test]
fn without_a_terminal_each_change_is_a_line() {
    let mut issuer = Issuer::of(fleet(clock::now()));
    let mut piped = Piped::start(&issuer, &["watch"]);
    piped.line("all 4 hosts serve media.hachyderm.io generation 2");
    next_generation(&issuer);
    piped.line("media.hachyderm.io on sally: pending, desired 3");
    observe(&mut issuer.known.facts(), MEDIA, "sally", 3, clock::now());
    piped.line("media.hachyderm.io on sally: converged, served 3");
    issuer.stop();
    piped.line("the issuer can't be reached");
    issuer.start();
    piped.line("the issuer is back");
    piped.end();
}

#[test]
fn in_json_each_change_is_a_document_of_its_own() {
    let issuer = Issuer::of(fleet(clock::now()));
    let mut piped = Piped::start(&issuer, &["watch", "--json"]);
    let document = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap();
    let first = document(piped.line("\"headline\""));
    assert_eq!(first["converged"], true);
    assert!(first["at"].as_str().unwrap().ends_with('Z'));
    next_generation(&issuer);
    let host = document(piped.line("\"host\":\"sally\""));
    for (key, value) in [
        ("kind", "host"),
        ("certificate", "media.hachyderm.io"),
        ("state", "pending"),
        ("fact", "desired"),
    ] {
        assert_eq!(host[key], value, "{host}");
    }
    assert_eq!(host["generation"], 3);
    piped.end();
}

#[test]
fn without_an_issuer_at_the_beginning_it_ends() {
    let mut issuer = Issuer::of(fleet(clock::now()));
    issuer.stop();
    assert_eq!(issuer.run(&["watch"]).code, 5);
}

#[test]
fn open_alerts_are_on_the_screen_with_how_they_stand() {
    let issuer = Issuer::of(fleet(clock::now()));
    let mut watched = Watched::start(&issuer, 100, 30, &[]);
    watched.says("all 4 hosts serve");
    let drill = issuer.known.outbox.drill().alert.unwrap();
    let line = format!("alert {}, page, ", drill.id);
    let lines = watched.says(&line);
    let head = format!("✗ {}; all 4 hosts serve media.hachyderm.io", drill.title);
    assert!(unwrapped(&lines).contains(&head), "{lines:#?}");
    issuer.known.outbox.acknowledge_all();
    watched.says(&format!("{line}acknowledged: "));
    watched.says("✓ all 4 hosts serve media.hachyderm.io");
    issuer.known.outbox.end_drill();
    watched.shows("no alert", |lines| {
        let text = unwrapped(lines);
        text.contains("all 4 hosts serve") && !text.contains("alert ")
    });
    watched.terminal.write_all(b"\x03").unwrap();
    assert_eq!(watched.end().0, Some(0));
}

#[test]
fn without_a_terminal_alerts_are_lines_too() {
    let issuer = Issuer::of(fleet(clock::now()));
    let drill = issuer.known.outbox.drill().alert.unwrap();
    let mut people = Piped::start(&issuer, &["watch"]);
    let mut programs = Piped::start(&issuer, &["watch", "--json"]);
    let start = format!("alert {}, page, ", drill.id);
    people.line(&start);
    let document = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap();
    let alert = document(programs.line("\"alert\""));
    for (key, value) in [
        ("kind", "alert"),
        ("class", "drill"),
        ("severity", "page"),
        ("title", &drill.title),
    ] {
        assert_eq!(alert[key], value, "{alert}");
    }
    assert_eq!(alert["id"], drill.id);
    issuer.known.outbox.end_drill();
    people.line(&format!("{start}over: "));
    assert_eq!(document(programs.line("\"over\""))["id"], drill.id);
    people.end();
    programs.end();
}
