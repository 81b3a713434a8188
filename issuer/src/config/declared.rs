//! What the files declare, each value checked by itself; names that point elsewhere are resolved later.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_proto::{CertificateName, FleetName, HostName, Identifier, pem};
use toml::de::DeTable;

use super::{
    Authority, Host, Issuer, KeyType, Renewal, Roots,
    mistake::{At, Mistakes, Place, listed},
    section::{Section, parse},
};

/// Everything in all files.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// Whether there is an `[issuer]`, right or wrong.
    pub(super) has_issuer: bool,
    pub(super) issuer: Option<Issuer>,
    pub(super) renewal: Option<Renewal>,
    pub(super) authorities: BTreeMap<String, At<Authority>>,
    pub(super) hosts: BTreeMap<HostName, At<Host>>,
    pub(super) certificates: BTreeMap<CertificateName, At<DeclaredCertificate>>,
}

/// A certificate with its references as written.
#[derive(Debug)]
pub(super) struct DeclaredCertificate {
    pub(super) identifiers: Vec<Identifier>,
    pub(super) hosts: Vec<At<String>>,
    pub(super) challenge_hosts: Option<Vec<At<String>>>,
    pub(super) authorities: Option<Vec<At<String>>>,
    pub(super) key_type: KeyType,
}

impl Declared {
    /// Adds what one file declares. Only the first file, `issuer.toml`, may hold `[issuer]` and `[renewal]`.
    pub(super) fn read(
        &mut self,
        file: usize,
        table: &DeTable<'_>,
        directory: &Path,
        mistakes: &mut Mistakes<'_>,
    ) {
        let mut root = Section::new(table, file, 0..0, "");
        let main = file == 0;
        for key in ["issuer", "renewal"] {
            let Some(section) = root.table(key, mistakes) else {
                continue;
            };
            if !main {
                let advice = format!("move it to {}", mistakes.sources[0].path.display());
                mistakes.advise(
                    section.place,
                    format!("[{key}] is not allowed in conf.d"),
                    advice,
                );
            } else if key == "issuer" {
                self.has_issuer = true;
                self.issuer = issuer(section, directory, mistakes);
            } else {
                self.renewal = Some(renewal(section, mistakes));
            }
        }
        for (name, section) in root.tables("authority", mistakes) {
            let place = name.place;
            let name = authority_name(name, mistakes);
            let authority = authority(section, directory, mistakes);
            if let (Some(name), Some(value)) = (name, authority) {
                insert(
                    &mut self.authorities,
                    "authorities",
                    name,
                    At { value, place },
                    mistakes,
                );
            }
        }
        for (name, section) in root.tables("host", mistakes) {
            let (value, name) = (host(section, mistakes), parse::<HostName>(&name, mistakes));
            if let Some(At { value: name, place }) = name {
                insert(
                    &mut self.hosts,
                    "hosts",
                    name,
                    At { value, place },
                    mistakes,
                );
            }
        }
        for (name, section) in root.tables("certificate", mistakes) {
            let name = parse::<CertificateName>(&name, mistakes);
            let value = certificate(section, name.as_ref(), mistakes);
            if let Some(At { value: name, place }) = name {
                insert(
                    &mut self.certificates,
                    "certificates",
                    name,
                    At { value, place },
                    mistakes,
                );
            }
        }
        root.finish(mistakes);
    }
}

fn insert<N: Ord + AsRef<str>, T>(
    into: &mut BTreeMap<N, At<T>>,
    what: &str,
    name: N,
    value: At<T>,
    mistakes: &mut Mistakes<'_>,
) {
    if let Some(first) = into.get(&name) {
        let advice = format!(
            "the first is at {}; rename or remove one",
            mistakes.describe(first.place)
        );
        mistakes.advise(
            value.place,
            format!("two {what} of one name, {:?}", name.as_ref()),
            advice,
        );
    } else {
        into.insert(name, value);
    }
}

fn issuer(
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
    })
}

fn listen_address(text: &At<String>, mistakes: &mut Mistakes<'_>) -> Option<SocketAddr> {
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
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
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
    host.parse::<std::net::Ipv4Addr>().is_ok()
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

fn renewal(mut section: Section<'_, '_>, mistakes: &mut Mistakes<'_>) -> Renewal {
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

fn is_plain_name(text: &str) -> bool {
    text.parse::<HostName>().is_ok()
}

fn authority_name(name: At<String>, mistakes: &mut Mistakes<'_>) -> Option<String> {
    if is_plain_name(&name.value) {
        return Some(name.value);
    }
    let problem = format!("{:?} is no authority name", name.value);
    mistakes.advise(
        name.place,
        problem,
        "use up to 63 of a-z 0-9 -, beginning with a letter or digit",
    );
    None
}

fn authority(
    mut section: Section<'_, '_>,
    base: &Path,
    mistakes: &mut Mistakes<'_>,
) -> Option<Authority> {
    let directory = section.string("directory", mistakes);
    match &directory {
        None if !section.has("directory") => {
            section.missing(
                "directory",
                "\"https://…\", the CA's ACME directory",
                mistakes,
            );
        }
        None => {}
        Some(At { value, place }) => {
            let uri = value.parse::<http::Uri>().ok();
            let https =
                uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
            if !https {
                let advice = "a CA's directory begins with https:// and a host name";
                mistakes.advise(*place, format!("{value:?} is no https URL"), advice);
            }
        }
    }
    let contact = section
        .strings("contact", mistakes)
        .map(|at| at.value)
        .unwrap_or_default();
    for At { value, place } in &contact {
        if !value
            .strip_prefix("mailto:")
            .is_some_and(|address| address.contains('@'))
        {
            let advice = "write \"mailto:ops@example.org\"";
            mistakes.advise(*place, format!("{value:?} is no mailto: URL"), advice);
        }
    }
    let roots = match section.string("roots", mistakes) {
        Some(At { value, place }) if value != "system" => {
            read_roots(base.join(value), place, mistakes)
        }
        _ => Some(Roots::System),
    };
    let http_01_port = section.port("http-01-port", mistakes).unwrap_or(80);
    section.finish(mistakes);
    Some(Authority {
        directory: directory?.value,
        contact: contact.into_iter().map(|at| at.value).collect(),
        roots: roots?,
        http_01_port,
    })
}

fn read_roots(path: PathBuf, place: Place, mistakes: &mut Mistakes<'_>) -> Option<Roots> {
    let advice = "give \"system\", or a PEM file with the CA's root certificates";
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) => {
            mistakes.advise(
                place,
                format!("can't read {}: {error}", path.display()),
                advice,
            );
            return None;
        }
    };
    let problem = match pem::read_certificates(&text) {
        Ok(found) if found.is_empty() => format!("{} holds no certificate", path.display()),
        Ok(found) => {
            let damaged = found
                .iter()
                .position(|der| certwell_proto::Leaf::read(der).is_err());
            match damaged {
                None => {
                    let certificates = found.iter().map(|der| der.to_vec()).collect();
                    return Some(Roots::File { path, certificates });
                }
                Some(at) => format!(
                    "{}: certificate {} in it is damaged",
                    path.display(),
                    at + 1
                ),
            }
        }
        Err(error) => format!("{} is damaged: {error}", path.display()),
    };
    mistakes.advise(place, problem, advice);
    None
}

fn host(mut section: Section<'_, '_>, mistakes: &mut Mistakes<'_>) -> Host {
    let labels = section
        .strings("labels", mistakes)
        .map(|at| at.value)
        .unwrap_or_default();
    section.finish(mistakes);
    for At { value, place } in &labels {
        if !is_plain_name(value) {
            let problem = format!("{value:?} is no label");
            mistakes.advise(
                *place,
                problem,
                "use up to 63 of a-z 0-9 -, beginning with a letter or digit",
            );
        }
    }
    Host {
        labels: labels.into_iter().map(|at| at.value).collect(),
    }
}

fn certificate(
    mut section: Section<'_, '_>,
    name: Option<&At<CertificateName>>,
    mistakes: &mut Mistakes<'_>,
) -> DeclaredCertificate {
    let identifiers = match section.strings("identifiers", mistakes) {
        Some(list) => identifiers(list, mistakes),
        None if section.has("identifiers") => Vec::new(),
        None => default_identifiers(name, mistakes),
    };
    let mut references = |key, mistakes: &mut Mistakes<'_>| {
        let list = section.strings(key, mistakes)?;
        if list.value.is_empty() {
            mistakes.add(list.place, format!("{key} is empty"));
        }
        Some(list.value)
    };
    let hosts = references("hosts", mistakes);
    let challenge_hosts = references("challenge-hosts", mistakes);
    let authorities = references("authorities", mistakes);
    if let Some(At { value, place }) = section.string("challenge", mistakes)
        && value != "http-01"
    {
        let problem = format!("challenge {value:?} is not one that this version does");
        mistakes.advise(place, problem, "write challenge = \"http-01\"");
    }
    let key_type = section
        .string("key-type", mistakes)
        .and_then(|text| key_type(text, mistakes));
    if hosts.is_none() && !section.has("hosts") {
        section.missing(
            "hosts",
            "[\"HOST\", \"label:LABEL\"], the hosts that need it",
            mistakes,
        );
    }
    section.finish(mistakes);
    DeclaredCertificate {
        identifiers,
        hosts: hosts.unwrap_or_default(),
        challenge_hosts,
        authorities,
        key_type: key_type.unwrap_or_default(),
    }
}

fn key_type(text: At<String>, mistakes: &mut Mistakes<'_>) -> Option<KeyType> {
    match text.value.as_str() {
        "ecdsa-p256" => return Some(KeyType::EcdsaP256),
        "ecdsa-p384" => return Some(KeyType::EcdsaP384),
        "rsa-2048" => return Some(KeyType::Rsa2048),
        other => {
            let advice = format!(
                "known: {}",
                listed(["ecdsa-p256", "ecdsa-p384", "rsa-2048"])
            );
            mistakes.advise(text.place, format!("unknown key-type {other:?}"), advice);
        }
    }
    None
}

fn identifiers(list: At<Vec<At<String>>>, mistakes: &mut Mistakes<'_>) -> Vec<Identifier> {
    let count = list.value.len();
    let most = certwell_proto::limits::IDENTIFIERS_PER_CERTIFICATE;
    if count == 0 {
        mistakes.advise(
            list.place,
            "identifiers is empty",
            "leave it out to cover the certificate's own name",
        );
    } else if count > most {
        let problem = format!("{count} identifiers, at most {most} go into one certificate");
        mistakes.advise(list.place, problem, "split it into several certificates");
    }
    let mut found: Vec<At<Identifier>> = Vec::new();
    for text in &list.value {
        let Some(identifier) = parse::<Identifier>(text, mistakes) else {
            continue;
        };
        if identifier.value.is_wildcard() {
            wildcard(&identifier, mistakes);
        }
        match found
            .iter()
            .find(|earlier| earlier.value == identifier.value)
        {
            Some(_) => mistakes.advise(
                text.place,
                format!("{} is listed twice", identifier.value),
                "remove one",
            ),
            None => found.push(identifier),
        }
    }
    found.into_iter().map(|at| at.value).collect()
}

fn wildcard(identifier: &At<Identifier>, mistakes: &mut Mistakes<'_>) {
    let problem = format!(
        "{}: wildcards need dns-01, which this version doesn't do",
        identifier.value
    );
    mistakes.advise(identifier.place, problem, "list each name by itself");
}

/// The certificate's own name, which has to be one that a CA can certify.
fn default_identifiers(
    name: Option<&At<CertificateName>>,
    mistakes: &mut Mistakes<'_>,
) -> Vec<Identifier> {
    let Some(At { value: name, place }) = name else {
        return Vec::new();
    };
    match name.as_str().parse::<Identifier>() {
        Ok(identifier) => vec![identifier],
        Err(error) => {
            let advice =
                "without identifiers the name itself is what it covers: add identifiers = [\"…\"]";
            mistakes.advise(*place, error.to_string(), advice);
            Vec::new()
        }
    }
}
