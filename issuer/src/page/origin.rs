//! Where a request comes from: decided from its headers alone.
//!
//! The name in `Host` is what keeps a web site of a stranger from reading the page through a visitor's browser: it can
//! lead its own name to our address (DNS rebinding), but the browser still sends that name.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header};

/// The page's own origin as this request sees it, or why the request isn't for us.
pub(super) fn own_origin(headers: &HeaderMap, proxy: Option<&str>) -> Result<String, &'static str> {
    let host = only(headers, header::HOST).ok_or("a request has one Host header")?;
    if let Some(proxy) = proxy
        && proxy
            .split_once("://")
            .is_some_and(|(_, name)| name == host)
    {
        return Ok(proxy.to_owned());
    }
    if is_address(host) {
        return Ok(format!("http://{host}"));
    }
    Err("the page isn't served under this name; see origin in [page] of the issuer's configuration")
}

/// An IP address or `localhost`, with or without a port: no stranger can lead these elsewhere.
fn is_address(host: &str) -> bool {
    let local = |name: &str| name.eq_ignore_ascii_case("localhost");
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() || local(host) {
        return true;
    }
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if bracketed.is_some_and(|address| address.parse::<IpAddr>().is_ok()) {
        return true;
    }
    host.rsplit_once(':')
        .is_some_and(|(name, port)| local(name) && port.parse::<u16>().is_ok())
}

/// Whether a request that changes something was sent by the page itself.
pub(super) fn is_same(headers: &HeaderMap, own: &str) -> bool {
    let site = headers.get_all("sec-fetch-site");
    if site.iter().any(|value| value != "same-origin") {
        return false;
    }
    match only(headers, header::ORIGIN) {
        Some(origin) => origin == own,
        // Browsers send it with every form that is posted; a few send this one alone.
        None => !headers.contains_key(header::ORIGIN) && site.iter().count() == 1,
    }
}

/// The value of a header that is there once, and is text.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "https://certwell.example.org";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn addresses_and_the_proxys_name_are_ours_and_no_other_name_is() {
        for (host, own) in [
            ("127.0.0.1:7480", "http://127.0.0.1:7480"),
            ("127.0.0.10", "http://127.0.0.10"),
            ("[::1]:7480", "http://[::1]:7480"),
            ("[::1]", "http://[::1]"),
            ("localhost:9999", "http://localhost:9999"),
            ("certwell.example.org", PROXY),
        ] {
            let found = own_origin(&headers(&[("host", host)]), Some(PROXY));
            assert_eq!(found.as_deref(), Ok(own), "{host}");
        }
        for host in [
            "evil.example.net",
            "evil.example.net:7480",
            "127.0.0.1.evil.example.net:7480",
            "localhost.evil.example.net",
            "certwell.example.org:7480",
            "certwell.example.org.evil.example.net",
            "",
            "a@127.0.0.1:7480",
        ] {
            let found = own_origin(&headers(&[("host", host)]), Some(PROXY));
            assert!(found.is_err(), "{host}");
        }
        assert!(own_origin(&headers(&[]), None).is_err());
        let two = headers(&[("host", "127.0.0.1"), ("host", "evil.example.net")]);
        assert!(own_origin(&two, None).is_err());
        assert!(own_origin(&headers(&[("host", "certwell.example.org")]), None).is_err());
    }

    #[test]
    fn only_the_page_itself_changes_something() {
        let own = "http://127.0.0.1:7480";
        for (pairs, same) in [
            (vec![("origin", own)], true),
            (
                vec![("origin", own), ("sec-fetch-site", "same-origin")],
                true,
            ),
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![], false),
            (vec![("origin", "null")], false),
            (vec![("origin", "http://127.0.0.1:7481")], false),
            (vec![("origin", "https://127.0.0.1:7480")], false),
            (vec![("origin", "http://evil.example.net")], false),
            (
                vec![("origin", own), ("sec-fetch-site", "cross-site")],
                false,
            ),
            (
                vec![("origin", own), ("sec-fetch-site", "same-site")],
                false,
            ),
            (vec![("origin", own), ("sec-fetch-site", "none")], false),
            (vec![("origin", own), ("origin", own)], false),
            (
                vec![
                    ("sec-fetch-site", "same-origin"),
                    ("sec-fetch-site", "cross-site"),
                ],
                false,
            ),
        ] {
            assert_eq!(is_same(&headers(&pairs), own), same, "{pairs:?}");
        }
    }
}
