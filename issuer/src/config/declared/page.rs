//! `[page]`: where the page for browsers is served, and what it takes to see it.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::issuer::{check_endpoint, listen_address};
use crate::config::{
    Page,
    mistake::{At, Mistakes},
    model::PAGE,
    section::Section,
};

const TOKEN: &str = "add token-file = \"/etc/certwell/page.token\", a file of mode 0600 that holds what \
                     `openssl rand -base64 32` prints";

pub(super) fn page(
    mut section: Section<'_, '_>,
    directory: &Path,
    mistakes: &mut Mistakes<'_>,
) -> Page {
    let text = section.string("listen", mistakes);
    let listen = match &text {
        None => Some(PAGE),
        Some(text) if text.value.is_empty() => None,
        Some(text) => listen_address(text, mistakes),
    };
    let token_file = section.string("token-file", mistakes);
    if let Some(At { value, place }) = &token_file
        && value.is_empty()
    {
        mistakes.add(*place, "token-file is empty");
    }
    let origin = section.string("origin", mistakes);
    if let Some(At { value, place }) = &origin
        && let Err(problem) = check_origin(value)
    {
        let advice = "write it as a browser shows it: origin = \"https://certwell.example.org\"";
        mistakes.advise(*place, problem, advice);
    }
    if token_file.is_none() && !section.has("token-file") {
        if let (Some(text), Some(address)) = (&text, listen)
            && !is_loopback(address)
        {
            let problem = format!(
                "{address} can be reached from elsewhere, and no token-file says who may look"
            );
            mistakes.advise(text.place, problem, TOKEN);
        } else if let Some(origin) = &origin {
            let problem = "behind a proxy the page needs a token-file, or whoever comes may look";
            mistakes.advise(origin.place, problem, TOKEN);
        }
    }
    section.finish(mistakes);
    Page {
        listen,
        is_default: text.is_none(),
        token_file: token_file.map(|text| directory.join(text.value)),
        origin: origin.map(|text| text.value),
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => mapped.is_loopback(),
            None => address.is_loopback(),
        },
    }
}

/// Scheme, host, and a port if it isn't the scheme's own: nothing behind it.
fn check_origin(text: &str) -> Result<(), String> {
    let (rest, port) = match text.split_once("://") {
        Some(("https", rest)) => (rest, "443"),
        Some(("http", rest)) => (rest, "80"),
        _ => return Err(format!("{text:?} begins with neither https:// nor http://")),
    };
    if rest.contains(['/', '?', '#', '@']) {
        return Err(format!(
            "{text:?} has more than a scheme, a host and a port"
        ));
    }
    if rest.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!(
            "{text:?} must be in lower case, as browsers send it"
        ));
    }
    let own = format!(":{port}");
    if rest.ends_with(&own) {
        return Err(format!(
            "{text:?} names the port that browsers leave out; remove {own}"
        ));
    }
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    if has_port {
        check_endpoint(rest)
    } else {
        check_endpoint(&format!("{rest}{own}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for right in [
            "https://certwell.example.org",
            "https://certwell.example.org:8443",
            "http://localhost:7480",
            "https://[2001:db8::1]",
            "https://192.0.2.1:8443",
        ] {
            assert_eq!(check_origin(right), Ok(()), "{right}");
        }
        for wrong in [
            "certwell.example.org",
            "ftp://certwell.example.org",
            "https://certwell.example.org/",
            "https://certwell.example.org:443",
            "https://Certwell.example.org",
            "https://user@certwell.example.org",
            "https://",
            "https://a b",
        ] {
            assert!(check_origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn loopback_is_told_from_all_else() {
        for (address, inside) in [
            ("127.0.0.1:1", true),
            ("127.9.8.7:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
        ] {
            assert_eq!(is_loopback(address.parse().unwrap()), inside, "{address}");
        }
    }
}
