//! `[probe]`, and what certificates and hosts say of how they are looked at from outside.

use std::{net::SocketAddr, time::Duration};

use certwell_proto::Identifier;

use crate::{
    config::{
        Probe, ProbeUrl,
        mistake::{At, Mistakes},
        section::Section,
    },
    plan::seen::covers,
};

/// Not more often, whatever lives how long: edges are asked over a network.
const SHORTEST: Duration = Duration::from_secs(1);

/// How `probe-url` is written.
pub(super) const PROBE_URL: &str =
    "{ url = \"https://media.example.org/health.png\", status = 200, content-type = \"image/\" }";

pub(super) fn probe(mut section: Section<'_, '_>, mistakes: &mut Mistakes<'_>) -> Probe {
    let default = Probe::default();
    let enabled = section.boolean("enabled", mistakes);
    let every = section.duration("every", mistakes);
    let resolvers = addresses(&mut section, "resolvers", mistakes);
    let port = section.port("port", mistakes);
    section.finish(mistakes);
    if let Some(At { value, place }) = &every
        && *value < SHORTEST
    {
        let advice =
            "write \"1s\" or more; short-lived certificates are looked at more often anyway";
        mistakes.advise(*place, "every is shorter than a second", advice);
    }
    Probe {
        enabled: enabled.map_or(default.enabled, |at| at.value),
        every: every.map_or(default.every, |at| at.value),
        resolvers,
        port: port.unwrap_or(default.port),
    }
}

/// A list of `ADDRESS:PORT`; empty when it isn't there or wrong.
pub(super) fn addresses(
    section: &mut Section<'_, '_>,
    key: &'static str,
    mistakes: &mut Mistakes<'_>,
) -> Vec<SocketAddr> {
    let list = section
        .strings(key, mistakes)
        .map(|at| at.value)
        .unwrap_or_default();
    let mut addresses = Vec::new();
    for At { value, place } in list {
        let advice = "write \"192.0.2.13:443\" or \"[2001:db8::13]:443\"";
        match value.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 || address.ip().is_unspecified() => {
                mistakes.advise(
                    place,
                    format!("nothing can be reached at {value:?}"),
                    advice,
                );
            }
            Ok(address) if addresses.contains(&address) => {
                mistakes.advise(place, format!("{value} is listed twice"), "remove one");
            }
            Ok(address) => addresses.push(address),
            Err(_) => {
                let problem = format!("{value:?} is no IP address with a port");
                mistakes.advise(place, problem, advice);
            }
        }
    }
    addresses
}

pub(super) fn probe_url(
    mut section: Section<'_, '_>,
    identifiers: &[Identifier],
    mistakes: &mut Mistakes<'_>,
) -> Option<ProbeUrl> {
    let url = section.string("url", mistakes);
    if url.is_none() && !section.has("url") {
        section.missing(
            "url",
            "\"https://NAME/PATH\", what is got at each address",
            mistakes,
        );
    }
    let status = section.status("status", mistakes);
    let content_type = section.string("content-type", mistakes);
    section.finish(mistakes);
    if let Some(At { value, place }) = &content_type
        && !value.is_ascii()
    {
        mistakes.add(*place, "content-type has letters that no content type has");
    }
    let At { value: url, place } = url?;
    let name = match name_of(&url) {
        Ok(name) => name,
        Err(problem) => {
            mistakes.advise(place, problem, format!("write probe-url = {PROBE_URL}"));
            return None;
        }
    };
    // Of a certificate whose names are wrong nothing can be said.
    if !identifiers.is_empty() && !covers(identifiers, &name) {
        let advice = "its host must be one of the certificate's identifiers";
        mistakes.advise(
            place,
            format!("the certificate doesn't cover {name}"),
            advice,
        );
        return None;
    }
    Some(ProbeUrl {
        url,
        name,
        status: status.unwrap_or(200),
        content_type: content_type
            .map(|at| at.value.to_ascii_lowercase())
            .unwrap_or_default(),
    })
}

/// Whether DNS is asked for the names of a certificate: where none of its identifiers is a name, it isn't asked anyway,
/// and whoever says so expects something else of it.
pub(super) fn probe_dns(
    written: &At<bool>,
    identifiers: &[Identifier],
    mistakes: &mut Mistakes<'_>,
) -> bool {
    let mut all = identifiers.iter();
    // Of a certificate whose names are wrong nothing can be said.
    if !identifiers.is_empty() && all.all(|identifier| matches!(identifier, Identifier::Ip(_))) {
        let advice = "remove it: addresses are looked at as they are";
        mistakes.advise(
            written.place,
            "probe-dns is about names, and the certificate has none",
            advice,
        );
    }
    written.value
}

/// The host of an https URL, without the brackets of an IPv6 address.
fn name_of(url: &str) -> Result<String, String> {
    let uri: http::Uri = url.parse().map_err(|_| format!("{url:?} is no URL"))?;
    let authority = uri
        .authority()
        .filter(|_| uri.scheme_str() == Some("https"));
    let Some(authority) = authority.filter(|authority| !authority.host().is_empty()) else {
        return Err(format!("{url:?} is no https URL"));
    };
    if authority.as_str().contains('@') {
        return Err(format!("{url:?} has a user name, which isn't sent"));
    }
    let host = authority.host();
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    Ok(bare.to_ascii_lowercase())
}
