//! A URL that is a secret: who knows a Discord or Slack webhook's may write there. It is never shown whole.

use std::{fmt, net::IpAddr};

use http::{Uri, uri::PathAndQuery};
use zeroize::Zeroizing;

/// Parts of a path that are shorter are words, such as `api`, and no secrets.
const SHORT: usize = 8;

/// Where to send to. Debug shows scheme and host alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    uri: Uri,
}

/// A text that can't be sent to. The text itself is not in it: it may hold a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No URL at all.
    #[error("that is no URL")]
    Form,
    /// Another scheme.
    #[error("a URL begins with https:// (or http://) here")]
    Scheme,
    /// `user:password@`.
    #[error("a user name in the URL isn't understood")]
    User,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it is none that can be sent to.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let uri: Uri = text.trim().parse().map_err(|_| TargetError::Form)?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) {
            return Err(TargetError::Scheme);
        }
        let authority = uri.authority().ok_or(TargetError::Form)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::User);
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(TargetError::Form);
        }
        Ok(Self { uri })
    }

    /// The host, and the port where one is given: all that may be shown.
    pub fn host(&self) -> &str {
        self.uri
            .authority()
            .map_or("", http::uri::Authority::as_str)
    }

    /// Whether what is sent can't be read on its way: by TLS, or because it stays on this machine.
    pub fn is_private(&self) -> bool {
        self.uri.scheme_str() == Some("https") || self.is_local()
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        self.uri.host().is_some_and(is_loopback)
    }

    /// The whole, for the request.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// With `path` at the end of its own.
    pub(crate) fn below(&self, path: &str) -> Self {
        let own = self.uri.path().trim_end_matches('/');
        self.with(&format!("{own}{path}"), self.uri.query())
    }

    /// With `pair` in its query, in the place of what stands there under the same name.
    pub(crate) fn asking(&self, pair: &str) -> Self {
        let name = pair.split('=').next().unwrap_or(pair);
        let others = self.uri.query().unwrap_or_default().split('&');
        let kept = others.filter(|other| {
            !other.is_empty() && other.split('=').next().is_some_and(|own| own != name)
        });
        let query: Vec<&str> = kept.chain([pair]).collect();
        self.with(self.uri.path(), Some(&query.join("&")))
    }

    fn with(&self, path: &str, query: Option<&str>) -> Self {
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        let mut parts = self.uri.clone().into_parts();
        // What came from a URL makes one again.
        if let Ok(path) = format!("{path}{query}").parse::<PathAndQuery>() {
            parts.path_and_query = Some(path);
        }
        Uri::from_parts(parts).map_or_else(|_| self.clone(), |uri| Self { uri })
    }

    /// `text` without what is secret in this URL: servers like to quote what they were asked for.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let mut text = Zeroizing::new(text.to_owned());
        let query = self.uri.query().unwrap_or_default();
        let values = query.split('&').filter_map(|pair| pair.split('=').nth(1));
        let mut secrets: Vec<&str> = self.uri.path().split('/').chain(values).collect();
        secrets.retain(|secret| secret.len() >= SHORT);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets {
            *text = text.replace(secret, "…");
        }
        text.to_string()
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(f, "Target({scheme}://{}/…)", self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISCORD: &str = "https://discord.com/api/webhooks/123456789012/q1W2e3R4t5Y6";

    #[test]
    fn only_what_can_be_sent_to_is_taken() {
        for (text, expected) in [
            ("", TargetError::Form),
            ("hooks.example.org", TargetError::Scheme),
            ("ftp://example.org/x", TargetError::Scheme),
            ("https://ops:hunter2@example.org/", TargetError::User),
            ("https:///x", TargetError::Form),
            ("https://exa mple.org/", TargetError::Form),
        ] {
            assert_eq!(Target::parse(text), Err(expected), "{text}");
        }
        assert!(Target::parse(&format!("{DISCORD}\n")).is_ok());
    }

    #[test]
    fn it_is_never_shown_whole() {
        let target = Target::parse(DISCORD).unwrap();
        assert_eq!(format!("{target:?}"), "Target(https://discord.com/…)");
        let quoted = "404: /api/webhooks/123456789012/q1W2e3R4t5Y6 isn't here";
        assert_eq!(target.scrub(quoted), "404: /api/…/…/… isn't here");
        let asked = Target::parse("https://example.org/hook?token=abcdefghij&a=b").unwrap();
        assert_eq!(asked.scrub("bad token abcdefghij"), "bad token …");
    }

    #[test]
    fn paths_and_questions_are_put_behind_its_own() {
        let url = |text: &str| Target::parse(text).unwrap();
        let shown = |target: Target| target.uri().to_string();
        let base = url("http://am:9093/prefix/");
        assert_eq!(
            shown(base.below("/api/v2/alerts")),
            "http://am:9093/prefix/api/v2/alerts"
        );
        assert_eq!(
            shown(url("http://am:9093").below("/api/v2/alerts")),
            "http://am:9093/api/v2/alerts"
        );
        assert_eq!(
            shown(url("https://d.example/x?thread_id=5&wait=false").asking("wait=true")),
            "https://d.example/x?thread_id=5&wait=true"
        );
    }

    #[test]
    fn plain_http_is_private_on_this_machine_alone() {
        for (text, private) in [
            ("https://example.org", true),
            ("http://127.0.0.7:80", true),
            ("http://localhost:80/x", true),
            ("http://[::1]:80/x", true),
            ("http://example.org", false),
            ("http://127.0.0.1.example.org", false),
        ] {
            assert_eq!(Target::parse(text).unwrap().is_private(), private, "{text}");
        }
    }
}
