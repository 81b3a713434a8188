//! Sends entries to systemd's journal.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixDatagram,
    path::Path,
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, layer::Context};

use crate::{
    HOST,
    entry::{Said, priority},
};

/// Where the journal takes entries.
const SOCKET: &str = "/run/systemd/journal/socket";
/// `DEVICE:INODE` of the stream that systemd made of a unit's standard error (`systemd.exec(5)`).
const STREAM: &str = "JOURNAL_STREAM";

/// The journal as a layer.
pub(crate) struct Journal {
    socket: UnixDatagram,
    identifier: &'static str,
}

impl Journal {
    /// Where standard error is the journal's, and the journal takes entries.
    pub(crate) fn of_standard_error(identifier: &'static str) -> Option<Self> {
        let stream = std::env::var(STREAM).ok()?;
        let stat = rustix::fs::fstat(io::stderr()).ok()?;
        if !is_stream(&stream, stat.st_dev, stat.st_ino) {
            return None;
        }
        Self::at(Path::new(SOCKET), identifier).ok()
    }

    fn at(socket: &Path, identifier: &'static str) -> io::Result<Self> {
        let journal = UnixDatagram::unbound()?;
        journal.connect(socket)?;
        Ok(Self {
            socket: journal,
            identifier,
        })
    }
}

fn is_stream(text: &str, device: u64, inode: u64) -> bool {
    text.split_once(':')
        .is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let said = Said::by(event);
        let level = event.metadata().level();
        let entry = said.entry(level, self.identifier, HOST.get().map(String::as_str));
        if self.socket.send(&entry).is_err() {
            // Too long for a datagram, or the journal was begun anew: the line gets there by standard error, whose
            // priority systemd reads from the beginning (`sd-daemon(3)`).
            for line in said.line().lines() {
                let _ = writeln!(io::stderr(), "<{}>{line}", priority(level));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::{Registry, layer::SubscriberExt as _};

    /// What arrives of these events, as text.
    fn arrived(filter: &str, events: impl FnOnce()) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        let log = Registry::default()
            .with(crate::filter(filter).unwrap())
            .with(Journal::at(&path, "certwell-test").unwrap());
        tracing::subscriber::with_default(log, events);
        let mut buffer = vec![0; 65_536];
        let mut found = Vec::new();
        while let Ok(length) = journal.recv(&mut buffer) {
            found.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        found
    }

    #[test]
    fn an_entry_has_the_whole_line_and_each_field_by_itself() {
        let found = arrived("info", || {
            let name = "media.example.org";
            tracing::error!(certificate = %name, generation = 7_u64, host = %"sally", problem = "no \"way\"", "rejected");
        });
        let lines: Vec<&str> = found[0].lines().collect();
        for line in [
            r#"MESSAGE=rejected certificate=media.example.org generation=7 host=sally problem="no \"way\"""#,
            "PRIORITY=3",
            "SYSLOG_IDENTIFIER=certwell-test",
            "CERTWELL_CERTIFICATE=media.example.org",
            "CERTWELL_GENERATION=7",
            "CERTWELL_HOST=sally",
            r#"CERTWELL_PROBLEM=no "way""#,
        ] {
            assert!(lines.contains(&line), "{line}: {found:?}");
        }
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("the store failed")]
        struct Failed(#[source] io::Error);
        let found = arrived("info", || {
            let failed = Failed(io::Error::other("disk"));
            tracing::warn!(error = &failed as &dyn std::error::Error, "no");
        });
        assert!(
            found[0].contains("CERTWELL_ERROR=the store failed: disk\n"),
            "{found:?}"
        );
    }

    /// This test once more as a process of its own, whose standard error can be read.
    fn of_a_process(test: &str) -> std::process::Output {
        let this = std::env::current_exe().unwrap();
        std::process::Command::new(this)
            .args(["--exact", test, "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap()
    }

    const ALONE: &str = "CERTWELL_LOG_TEST_ALONE";

    #[test]
    fn what_the_journal_does_not_take_gets_there_by_lines_of_standard_error() {
        // More than a datagram holds by default (`net.core.wmem_default`).
        let long = "x".repeat(4 << 20);
        if std::env::var_os(ALONE).is_some() {
            let found = arrived("info", || {
                tracing::warn!("short");
                tracing::error!("first\n{long}");
            });
            assert_eq!(found.len(), 1, "the long one came by the socket");
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("socket");
            let journal = UnixDatagram::bind(&path).unwrap();
            let log = Registry::default().with(Journal::at(&path, "certwell-test").unwrap());
            drop(journal);
            tracing::subscriber::with_default(log, || tracing::warn!(host = "sally", "nobody"));
            return;
        }
        let output = of_a_process(
            "journal::tests::what_the_journal_does_not_take_gets_there_by_lines_of_standard_error",
        );
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with('<')).collect();
        let long = format!("<3>{long}");
        assert!(output.status.success(), "{} lines of it", lines.len());
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "<3>first");
        assert!(lines[1] == long, "{} characters", lines[1].len());
        assert_eq!(lines[2], "<4>nobody host=\"sally\"");
    }

    #[test]
    fn no_filter_opens_the_journal_to_what_may_hold_a_key() {
        let found = arrived("trace,h2=trace,rustls::conn=trace", || {
            tracing::trace!(target: "h2::codec", "body");
            tracing::debug!(target: "rustls::conn", "body");
            tracing::trace!("ours");
        });
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("MESSAGE=ours"), "{found:?}");
    }

    #[test]
    fn only_the_very_stream_is_the_journals() {
        assert!(is_stream("8:1234", 8, 1234));
        for text in ["8:1235", "9:1234", "8", "", "8:1234:5"] {
            assert!(!is_stream(text, 8, 1234), "{text}");
        }
    }
}
