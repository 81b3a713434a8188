//! Where log lines go, and what never gets into them.

use std::io;

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// These could print what they carry, and what they carry may be a private key: warnings are all that is heard from
/// them, whatever the filter says.
const CAPPED: &[&str] = &[
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "rustls",
    "tokio_util",
    "notify",
    "mio",
    "prost",
];

/// A variable that can't be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// `CERTWELL_LOG`.
    #[error(
        "CERTWELL_LOG={text:?} is no filter ({problem}); write for example \"info\" or \"certwell_agent=debug\""
    )]
    Filter { text: String, problem: ParseError },
    /// `CERTWELL_LOG_FORMAT`.
    #[error(
        "CERTWELL_LOG_FORMAT={0:?} is neither \"text\" nor \"json\"; set one of them, or leave it out"
    )]
    Format(String),
}

/// Lines to standard error from here on.
///
/// # Errors
/// When `CERTWELL_LOG` or `CERTWELL_LOG_FORMAT` can't be understood.
pub(crate) fn begin() -> Result<(), LogError> {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .filter(|text: &String| !text.trim().is_empty())
    };
    let text = variable("CERTWELL_LOG").unwrap_or_else(|| "info".to_owned());
    let filter = filter(&text).map_err(|problem| LogError::Filter { text, problem })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // A second subscriber in one process can't be; the first one serves as well.
    let _ = match variable("CERTWELL_LOG_FORMAT").as_deref() {
        None | Some("text") => lines
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .try_init(),
        Some("json") => lines.json().flatten_event(true).try_init(),
        Some(other) => return Err(LogError::Format(other.to_owned())),
    };
    tracing::trace!("every level is written");
    Ok(())
}

fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    let own: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty() && !is_capped(directive))
        .collect();
    let capped = CAPPED.iter().map(|name| format!("{name}=warn"));
    let all: Vec<String> = own.into_iter().map(str::to_owned).chain(capped).collect();
    EnvFilter::builder().parse(all.join(","))
}

/// Whether a directive is about a capped crate, or a module of one, which would outweigh the cap.
fn is_capped(directive: &str) -> bool {
    let target = directive.split(['=', '[']).next().unwrap_or_default();
    let root = target.split("::").next().unwrap_or_default();
    CAPPED.contains(&root)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_makes_the_transport_talk() {
        for text in [
            "trace",
            "h2=trace",
            "trace,h2::codec=trace",
            "hyper=debug,info",
            "h2[frame]=trace",
        ] {
            let kept = Kept::default();
            let writer = kept.clone();
            let lines = tracing_subscriber::fmt()
                .with_env_filter(filter(text).unwrap())
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::with_default(lines, || {
                tracing::trace!(target: "h2::codec::framed_write", "secret");
                tracing::debug!(target: "hyper::proto", "secret");
                tracing::info!(target: "rustls::client", "secret");
                tracing::warn!(target: "certwell_agent::app", "heard");
            });
            let said = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert!(!said.contains("secret"), "{text}: {said}");
            assert!(
                text.starts_with("h2") || said.contains("heard"),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn a_wrong_filter_is_refused() {
        assert!(filter("certwell_agent=loudly").is_err());
    }
}
