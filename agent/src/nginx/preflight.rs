//! Asks this host's nginx for a made-up token, as the CA will for a real one.
//!
//! Each name is asked for on each local address where nginx speaks plain HTTP at the port, and redirects are followed
//! as a CA follows them (RFC 8555 8.3). Where the answer is wrong, nginx's configuration mostly shows why: the sentence
//! then names the file, the line and what to do.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use certwell_proto::{FieldError, Identifier, v1};

use super::{
    challenge_map::{identifiers, is_base64url, thumbprint},
    fetch::{Answer, Url, fetch},
    few,
    servers::{Protocol, Server},
    sites::Sites,
};

/// As many as a CA follows.
const REDIRECTS: usize = 10;
/// Problems told in one sentence; the rest are counted.
const TOLD: usize = 3;
/// What an operator adds.
const INCLUDE: &str = "include snippets/certwell-acme.conf;";

/// What is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    token: String,
    thumbprint: String,
    names: Vec<Identifier>,
    port: u16,
}

impl Ask {
    /// From the wire.
    ///
    /// # Errors
    /// When a field isn't what it should be; the error names it.
    pub fn from_wire(wire: &v1::PreflightRequest) -> Result<Self, FieldError> {
        let token = &wire.token;
        if !(16..=128).contains(&token.len()) || !token.bytes().all(is_base64url) {
            return Err(FieldError::new(
                "token",
                "16 to 128 characters of base64url are needed",
            ));
        }
        let port = u16::try_from(wire.port).ok().filter(|port| *port > 0);
        Ok(Self {
            token: token.clone(),
            thumbprint: thumbprint(&wire.thumbprint)?,
            names: identifiers(&wire.names)?,
            port: port.ok_or_else(|| FieldError::new("port", "1 to 65535 is needed"))?,
        })
    }

    fn expected(&self) -> String {
        format!("{}.{}", self.token, self.thumbprint)
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The key authorization, for each name on each address.
    Pass,
    /// Something else: one sentence, with what to do where the configuration shows it.
    Wrong(String),
    /// It couldn't be asked: nothing is known of what a CA would get. One sentence.
    Erred(String),
}

/// Asks for each name on each address where nginx listens at the port.
pub async fn preflight(ask: &Ask, servers: &[Server], local: &[IpAddr]) -> Verdict {
    let sites = Sites::new(servers, local);
    let addresses = sites.plain_http(ask.port);
    if addresses.is_empty() {
        return Verdict::Wrong(format!(
            "nginx speaks plain HTTP at port {} on no address of this host: enable the ready server block \
             certwell-port80.conf, or add a server block with `listen {};` and `{INCLUDE}`",
            ask.port, ask.port
        ));
    }
    let pairs = match pairs(ask, &addresses) {
        Ok(pairs) => pairs,
        Err(why) => return Verdict::Wrong(why),
    };
    let wrong = ask_all(ask, sites.proxied(), &pairs).await;
    summed_up(wrong, |name, address, fault| {
        if fault.answered {
            advice(&sites, address, name)
        } else {
            "; nginx is configured to listen there: is it reloaded since, and does a firewall let this host in?".to_owned()
        }
    })
}

/// Asks for each name at these addresses, of a server whose configuration isn't known. One that doesn't listen there
/// may be meant not to, as long as another answers.
pub async fn at(ask: &Ask, addresses: Vec<IpAddr>) -> Verdict {
    let addresses: Vec<SocketAddr> = addresses
        .into_iter()
        .map(|ip| SocketAddr::new(ip, ask.port))
        .collect();
    if addresses.is_empty() {
        return Verdict::Erred("none of exec.addresses is on this host now".to_owned());
    }
    let pairs = match pairs(ask, &addresses) {
        Ok(pairs) => pairs,
        Err(why) => return Verdict::Wrong(why),
    };
    let remedy = format!(
        "have the server answer /.well-known/acme-challenge/TOKEN with TOKEN.{} at port {}, or name other \
         challenge-hosts at the issuer",
        ask.thumbprint, ask.port
    );
    let mut wrong = ask_all(ask, HashSet::new(), &pairs).await;
    let (silent, all) = (
        wrong.iter().filter(|(.., fault)| !fault.answered).count(),
        pairs.len(),
    );
    if silent == all {
        return Verdict::Wrong(format!(
            "this host answers no HTTP-01: nothing listens at {}; {remedy}",
            few_of(addresses.iter().map(ToString::to_string).collect())
        ));
    }
    wrong.retain(|(.., fault)| fault.answered);
    summed_up(wrong, |_, _, _| format!("; {remedy}"))
}

/// Each name that HTTP-01 can validate, with each address.
fn pairs(ask: &Ask, addresses: &[SocketAddr]) -> Result<Vec<(String, SocketAddr)>, String> {
    let pairs: Vec<(String, SocketAddr)> = ask
        .names
        .iter()
        .filter(|name| !name.is_wildcard())
        .flat_map(|name| addresses.iter().map(move |address| (host(name), *address)))
        .collect();
    if pairs.is_empty() {
        return Err("there is no name that HTTP-01 can validate: wildcards need DNS-01".to_owned());
    }
    Ok(pairs)
}

/// Those that weren't answered as they should be.
async fn ask_all(
    ask: &Ask,
    proxied: HashSet<SocketAddr>,
    pairs: &[(String, SocketAddr)],
) -> Vec<(String, SocketAddr, Fault)> {
    let proxied = Arc::new(proxied);
    let asked = pairs.iter().cloned().map(|(name, address)| {
        let (ask, proxied) = (ask.clone(), proxied.clone());
        async move {
            let followed = follow(&ask, &proxied, &name, address).await;
            followed.err().map(|fault| (name, address, fault))
        }
    });
    few::at_once(asked).await.into_iter().flatten().collect()
}

fn summed_up(
    wrong: Vec<(String, SocketAddr, Fault)>,
    advice: impl Fn(&str, SocketAddr, &Fault) -> String,
) -> Verdict {
    let told: Vec<String> = wrong
        .iter()
        .map(|(name, address, fault)| {
            format!(
                "{name} at {address}: {}{}",
                fault.words,
                advice(name, *address, fault)
            )
        })
        .collect();
    if told.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Wrong(few_of(told))
    }
}

/// The first of them; the rest are counted.
fn few_of(told: Vec<String>) -> String {
    match told.len() {
        n if n <= TOLD => told.join("; "),
        n => format!("{}; and {} more", told[..TOLD].join("; "), n - TOLD),
    }
}

/// As it stands in a URL and in the Host header.
fn host(name: &Identifier) -> String {
    match name {
        Identifier::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        other => other.to_string(),
    }
}

/// What the configuration tells about a wrong answer.
fn advice(sites: &Sites<'_>, address: SocketAddr, name: &str) -> String {
    let Some(server) = sites.server(Protocol::Http, address, name) else {
        return format!(
            "; add \"{INCLUDE}\" as the first line of the server block that answers it"
        );
    };
    let block = &server.at;
    match (&server.challenge_include, &server.redirect_before_include) {
        (None, _) => {
            format!("; add \"{INCLUDE}\" as the first line of the server block at {block}")
        }
        (Some(include), Some(redirect)) => format!(
            "; \"{INCLUDE}\" at {include} comes after the redirect at {redirect} and loses: \
             make it the first line of the server block at {block}"
        ),
        (Some(include), None) => format!(
            "; the server block at {block} has the include ({include}): nginx may not have loaded the challenge map \
             yet, or what comes before nginx answers"
        ),
    }
}

/// What came back instead.
struct Fault {
    words: String,
    /// Whether anything did.
    answered: bool,
}

impl From<String> for Fault {
    fn from(words: String) -> Self {
        Self {
            words,
            answered: true,
        }
    }
}

/// One name on one address, redirects followed; the error says what came back.
async fn follow(
    ask: &Ask,
    proxied: &HashSet<SocketAddr>,
    name: &str,
    address: SocketAddr,
) -> Result<(), Fault> {
    let path = format!("/.well-known/acme-challenge/{}", ask.token);
    let mut url = Url {
        https: false,
        host: name.to_owned(),
        port: ask.port,
        path,
    };
    let mut way = String::new();
    for _ in 0..=REDIRECTS {
        let to = dial(ask, &url, address)
            .await
            .map_err(|e| format!("{way}{e}"))?;
        let answer = fetch(&url, to, proxied.contains(&to))
            .await
            .map_err(|e| Fault {
                words: format!("{way}{e}"),
                answered: !way.is_empty(),
            })?;
        match answer {
            Answer::Body(body) if body.trim_ascii_end() == ask.expected().as_bytes() => {
                return Ok(());
            }
            Answer::Body(body) => {
                return Err(format!("{way}200 with {} came back", shown(&body)).into());
            }
            Answer::Other { status, body } => {
                return Err(format!("{way}{status} with {} came back", shown(&body)).into());
            }
            Answer::Redirect { status, location } => {
                way = format!(
                    "{status} to {} came back, and from there ",
                    shown(location.as_bytes())
                );
                let next = url
                    .join(&location)
                    .filter(|next| [80, 443, ask.port].contains(&next.port));
                url = next.ok_or_else(|| {
                    format!(
                        "{status} to {} came back, where no CA follows",
                        shown(location.as_bytes())
                    )
                })?;
            }
        }
    }
    Err(format!("{way}yet another of over {REDIRECTS} redirects").into())
}

/// Where a URL leads: one of the names in question is on this very address, others are where DNS says.
async fn dial(ask: &Ask, url: &Url, address: SocketAddr) -> Result<SocketAddr, String> {
    if ask.names.iter().any(|name| host(name) == url.host) {
        return Ok(SocketAddr::new(address.ip(), url.port));
    }
    let bare = url.host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, url.port));
    }
    let unknown = |why: String| format!("{} can't be resolved ({why})", url.host);
    let found = tokio::net::lookup_host((bare, url.port))
        .await
        .map_err(|e| unknown(e.to_string()))?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| unknown("no address".to_owned()))
}

/// The first 60 characters, on one line.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    let cut: String = text.chars().take(60).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    if text.is_empty() {
        "nothing".to_owned()
    } else {
        format!("\"{}{more}\"", cut.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    #[tokio::test]
    async fn of_a_server_whose_configuration_is_not_known_one_address_that_answers_is_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ask = Ask {
            token: "preflight-token-0123456789".into(),
            thumbprint: "A".repeat(43),
            names: vec!["a.org".parse().unwrap()],
            port: listener.local_addr().unwrap().port(),
        };
        let reply = ask.expected();
        tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let _ = tcp.read(&mut [0; 2_000]).await;
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
                let text = format!("{head} {}\r\n\r\n{reply}", reply.len());
                tcp.write_all(text.as_bytes()).await.unwrap();
            }
        });
        let (here, silent) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        assert_eq!(at(&ask, vec![here, silent]).await, Verdict::Pass);
        let Verdict::Wrong(why) = at(&ask, vec![silent]).await else {
            panic!("nobody answers there");
        };
        assert!(why.contains("nothing listens at 127.0.0.2:"), "{why}");
        assert!(matches!(at(&ask, Vec::new()).await, Verdict::Erred(_)));
    }
}
