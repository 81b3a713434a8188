//! `[issuer]` and `[renewal]`.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use certwell_proto::{FleetName, Identifier};

use crate::config::{
    Issuer, Renewal,
    mistake::{At, Mistakes},
    section::Section,
};

/// No pause is set shorter: hosts and CAs are asked over a network.
const SHORTEST: Duration = Duration::from_secs(1);
/// Backups that stay, unless said otherwise.
const BACKUPS_KEPT: usize = 14;

pub(super) fn issuer(
    mut section: Section<'_, '_>,
    directory: &Path,
    mistakes: &mut Mistakes<'_>,
) -> Option<Issuer> {
    let path = |section: &mut Section<'_, '_>, key, default: &str, mistakes: &mut Mistakes<'_>| {
        let text = section.string(key, mistakes);
        if let Some(At { value, place }) = &text
            && value.is_empty()
        {
            mistakes.add(*place, format!("{key} is empty"));
        }
        directory.join(text.map_or_else(|| default.to_owned(), |text| text.value))
    };
    let fleet = section.parsed::<FleetName>("fleet", mistakes);
    let state_directory = path(
        &mut section,
        "state-directory",
        "/var/lib/certwell-issuer",
        mistakes,
    );
    let admin_socket = path(
        &mut section,
        "admin-socket",
        "/run/certwell/admin.sock",
        mistakes,
    );
    let key_encryption_key = path(&mut section, "key-encryption-key", "issuer.kek", mistakes);
    let backup_directory = path(
        &mut section,
        "backup-directory",
        "/var/backups/certwell-issuer",
        mistakes,
    );
    let backups_kept = match section.count("backups-kept", mistakes) {
        None => BACKUPS_KEPT,
        Some(count) => count,
    };
    let admin_group = section
        .string("admin-group", mistakes)
        .map(|text| text.value);
    let listen = match section.strings("listen", mistakes) {
        None => vec![SocketAddr::from(([0, 0, 0, 0], 7443))],
        Some(At {
            value: items,
            place,
        }) => {
            if items.is_empty() {
                mistakes.advise(
                    place,
                    "listen is empty",
                    "write listen = [\"0.0.0.0:7443\"]",
                );
            }
            items
                .iter()
                .filter_map(|item| listen_address(item, mistakes))
                .collect()
        }
    };
    let endpoints = match section.strings("endpoints", mistakes) {
        None if section.has("endpoints") => Vec::new(),
        None => {
            section.missing(
                "endpoints",
                "[\"issuer.example.org:7443\"], as agents reach this issuer",
                mistakes,
            );
            Vec::new()
        }
        Some(At {
            value: items,
            place,
        }) => {
            if items.is_empty() {
                mistakes.advise(
                    place,
                    "endpoints is empty",
                    "write endpoints = [\"issuer.example.org:7443\"]",
                );
            }
            items
                .into_iter()
                .filter_map(|item| endpoint(item, mistakes))
                .collect()
        }
    };
    if fleet.is_none() && !section.has("fleet") {
        section.missing(
            "fleet",
            "\"NAME\", the one that `certwell-issuer init` was given",
            mistakes,
        );
    }
    section.finish(mistakes);
    let fleet = fleet?.value;
    Some(Issuer {
        fleet,
        state_directory,
        listen,
        endpoints,
        admin_socket,
        admin_group,
        key_encryption_key,
        backup_directory,
        backups_kept,
    })
}

pub(super) fn listen_address(text: &At<String>, mistakes: &mut Mistakes<'_>) -> Option<SocketAddr> {
    let advice = "write ADDRESS:PORT, as in \"0.0.0.0:7443\" or \"[::]:7443\"";
    match text.value.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => return Some(address),
        Ok(_) => mistakes.advise(text.place, "port 0 is no port to listen on", advice),
        Err(_) => mistakes.advise(
            text.place,
            format!("{:?} is no address to listen on", text.value),
            advice,
        ),
    }
    None
}

/// Checks `HOST:PORT`.
///
/// # Errors
/// One fragment that says what is wrong.
pub fn check_endpoint(text: &str) -> Result<(), String> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("{text:?} lacks a port"))?;
    if port.parse::<u16>().ok().filter(|port| *port != 0).is_none() {
        return Err(format!(
            "{text:?} lacks a port, 1 to 65535, behind its last colon"
        ));
    }
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let valid = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        // `localhost` and other single labels are fine here: agents resolve them as they like.
        None => {
            format!("{host}.x")
                .parse::<Identifier>()
                .is_ok_and(|name| !name.is_wildcard())
                || is_v4(host)
        }
    };
    if valid {
        Ok(())
    } else {
        Err(format!(
            "{host:?} is no host name or IP address (IPv6 goes in brackets)"
        ))
    }
}

fn is_v4(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok()
}

fn endpoint(text: At<String>, mistakes: &mut Mistakes<'_>) -> Option<String> {
    match check_endpoint(&text.value) {
        Ok(()) => Some(text.value),
        Err(problem) => {
            mistakes.advise(
                text.place,
                problem,
                "write HOST:PORT, as in \"issuer.example.org:7443\"",
            );
            None
        }
    }
}

pub(super) fn renewal(mut section: Section<'_, '_>, mistakes: &mut Mistakes<'_>) -> Renewal {
    let at_fraction = section.float("at-fraction", mistakes);
    if let Some(At { value, place }) = &at_fraction
        && !(0.1..=0.9).contains(value)
    {
        let advice = "0.667 renews a 90-day certificate 30 days before its end";
        mistakes.advise(*place, "at-fraction must lie between 0.1 and 0.9", advice);
    }
    let preflight_wait = section.duration("preflight-wait", mistakes);
    let retry_first = section.duration("retry-first", mistakes);
    let retry_max = section.duration("retry-max", mistakes);
    section.finish(mistakes);
    for (key, setting) in [
        ("preflight-wait", &preflight_wait),
        ("retry-first", &retry_first),
        ("retry-max", &retry_max),
    ] {
        if let Some(At { value, place }) = setting
            && *value < SHORTEST
        {
            let advice = "write \"1s\" or more; short-lived certificates are hurried for anyway";
            mistakes.advise(*place, format!("{key} is shorter than a second"), advice);
        }
    }
    let default = Renewal::default();
    let renewal = Renewal {
        at_fraction: at_fraction
            .as_ref()
            .map_or(default.at_fraction, |at| at.value),
        preflight_wait: preflight_wait.map_or(default.preflight_wait, |at| at.value),
        retry_first: retry_first
            .as_ref()
            .map_or(default.retry_first, |at| at.value),
        retry_max: retry_max.as_ref().map_or(default.retry_max, |at| at.value),
    };
    if renewal.retry_first > renewal.retry_max
        && let Some(At { place, .. }) = retry_max.or(retry_first)
    {
        mistakes.add(place, "retry-first must not be longer than retry-max");
    }
    renewal
}

impl Default for Renewal {
    fn default() -> Self {
        Self {
            at_fraction: 2.0 / 3.0,
            preflight_wait: Duration::from_secs(30),
            retry_first: Duration::from_secs(60),
            retry_max: Duration::from_secs(6 * 3_600),
        }
    }
}
