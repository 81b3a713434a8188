//! Which events are heard.

use tracing_subscriber::{EnvFilter, filter::Directive};

use crate::LogError;

/// Crates that handle message bodies, statements or handshakes: below `warn` they could write a private key, so
/// no filter opens them.
const CAPPED: [&str; 17] = [
    "h2",
    "hyper",
    "hyper_util",
    "hyper_rustls",
    "instant_acme",
    "rustls",
    "sqlx",
    "sqlx_core",
    "sqlx_sqlite",
    "tokio_rustls",
    "tokio_util",
    "tonic",
    "tower",
    "prost",
    "http",
    "notify",
    "mio",
];

/// The filter asked for, with what may hold secrets capped.
///
/// # Errors
/// When the text is no filter.
pub fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let wrong = |problem: String| LogError::Filter {
        text: text.to_owned(),
        problem,
    };
    // Directives for capped crates are dropped first: a longer one, as `h2::codec=trace`, would win over the cap.
    let kept: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty() && !is_capped(directive))
        .collect();
    let mut filter = EnvFilter::try_new(kept.join(",")).map_err(|e| wrong(e.to_string()))?;
    for name in CAPPED {
        let level = if text.trim() == "off" { "off" } else { "warn" };
        let directive: Directive = format!("{name}={level}")
            .parse()
            .map_err(|e| wrong(format!("{e}")))?;
        filter = filter.add_directive(directive);
    }
    Ok(filter)
}
/// Whether a directive is about a capped crate, or one of its modules or spans.
fn is_capped(directive: &str) -> bool {
    let target = directive.split(['=', '[']).next().unwrap_or_default();
    let name = target.split("::").next().unwrap_or_default();
    CAPPED.contains(&name)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of one event of each of these crates, at each level.
    fn written(text: &str) -> String {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .with_env_filter(filter(text).unwrap())
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::trace!(target: "certwell_issuer::fleet", "ours");
            tracing::info!(target: "certwell_issuer::fleet", "ours");
            tracing::trace!(target: "h2::codec::framed_write", "body");
            tracing::debug!(target: "hyper::proto::h1", "body");
            tracing::debug!(target: "tonic::transport", "body");
            tracing::debug!(target: "sqlx::query", "body");
            tracing::trace!(target: "rustls::conn", "body");
            tracing::info!(target: "tower::buffer", "body");
            tracing::warn!(target: "h2::server", "pressing");
        });
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn no_filter_opens_what_may_hold_a_key() {
        for text in [
            "trace",
            "h2=trace",
            "trace,h2=trace,hyper=trace,tonic=trace,sqlx=trace,rustls=trace,tower=trace",
            "h2::codec::framed_write=trace, hyper::proto=trace,sqlx::query=debug,tonic::transport=trace",
            "h2::codec[{x}]=trace,trace",
            "rustls::conn,info",
        ] {
            let log = written(text);
            assert!(!log.contains("body"), "{text}: {log}");
            assert!(log.contains("pressing"), "{text}: {log}");
        }
    }

    #[test]
    fn our_own_words_follow_the_filter() {
        let ours = |text: &str| written(text).matches("ours").count();
        assert_eq!(ours("info"), 1);
        assert_eq!(ours("warn"), 0);
        assert_eq!(ours("certwell_issuer=trace"), 2);
        assert_eq!(written("off"), "");
    }

    #[test]
    fn a_mistyped_filter_is_told() {
        let error = filter("certwell_issuer=loud").unwrap_err().to_string();
        assert!(
            error.contains("CERTWELL_LOG") && error.contains("loud"),
            "{error}"
        );
    }
}
