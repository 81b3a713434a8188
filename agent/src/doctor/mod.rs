//! Gathers what may be in the agent's way on this host, and changes nothing.
//!
//! ```text
//! agent   the agent's configuration, rights, identity, and the way to the issuer
//! places  the directories that it writes in
//! nginx   nginx, its configuration, the challenge map, and who listens for a CA
//! exec    a server that isn't nginx
//! ```
//!
//! What it adds up to is [`crate::plan::doctor`]'s. It needs neither an enrollment nor an issuer nor the daemon.

mod agent;
mod exec;
mod nginx;
pub mod places;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_proto::v1;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    app,
    config::{Config, ConfigError},
    inventory,
    issuer::{Desired, IdentityStore},
    nginx::{Ask, Parsed},
    plan::doctor::{Facts, Server, beside, nginx as nginx_facts},
};

/// For a connection on this host.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// For asking by all names and addresses.
const ASK_LIMIT: Duration = Duration::from_secs(20);

/// What was found, and what nginx is configured to do, where that is known.
pub struct Gathered {
    /// The facts.
    pub facts: Facts,
    /// See [`Gathered`].
    pub parsed: Option<Parsed>,
}

/// Everything that [`crate::plan::doctor::examine`] takes. `fault` is what is wrong with `agent.toml`, `port` where a
/// CA's requests arrive.
pub async fn gather(config: &Config, fault: Option<&ConfigError>, port: u16) -> Gathered {
    let identity = IdentityStore::new(config.identity_directory()).look();
    let desired = app::last_desired(config);
    let desired = desired.as_deref();
    let agent = agent::gather(config, fault, &identity);
    let dialled = agent::dial(identity.ok());
    let (server, parsed) = match &config.exec {
        Some(settings) => {
            let exec = exec::gather(settings, desired, port).await;
            (Server::Exec(exec), None)
        }
        None => {
            let (nginx, parsed) = nginx::gather(config, desired, port).await;
            (Server::Nginx(Box::new(nginx)), parsed)
        }
    };
    let mut facts = Facts {
        agent,
        places: places::gather(config),
        server,
        beside: beside(config, parsed.as_ref().unwrap_or(&Parsed::default())),
    };
    facts.agent.endpoints = dialled.await;
    Gathered { facts, parsed }
}

/// What is known of nginx alone, and its first file.
pub async fn nginx(config: &Config, port: u16) -> (nginx_facts::Facts, PathBuf) {
    let desired = app::last_desired(config);
    let (facts, parsed) = nginx::gather(config, desired.as_deref(), port).await;
    let root = parsed.and_then(|parsed| parsed.files.into_iter().next());
    let root = root.unwrap_or_else(|| nginx::root(config));
    (facts, root)
}

fn beside(config: &Config, parsed: &Parsed) -> beside::Facts {
    // A directory that can't be looked into is told by others.
    let Ok(facts) = inventory::on_disk(config, parsed) else {
        return beside::Facts::default();
    };
    let rows = crate::plan::inventory::rows(&facts, crate::clock::now());
    let own = facts.own.into_iter().map(|own| {
        let names = own.leaves.into_iter().flat_map(|leaf| leaf.identifiers);
        (own.name, names.collect())
    });
    beside::Facts {
        rows,
        own: own.collect(),
        lineages: facts.lineages,
    }
}

/// Why nothing listens there; `None` when something does.
async fn silence(address: SocketAddr) -> Option<String> {
    match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", CONNECT_LIMIT.as_secs())),
    }
}

/// A made-up token for the names of each account.
fn questions(desired: Option<&Desired>, port: u16) -> Vec<Ask> {
    let challenges = desired.map(|desired| desired.challenges.as_slice());
    let asked = challenges.unwrap_or_default().iter().map(|challenge| {
        let names = challenge.names().iter().filter(|name| !name.is_wildcard());
        v1::PreflightRequest {
            token: uuid::Uuid::new_v4().simple().to_string(),
            thumbprint: challenge.thumbprint().to_owned(),
            names: names.map(ToString::to_string).collect(),
            port: port.into(),
            ..Default::default()
        }
    });
    asked
        .filter(|request| !request.names.is_empty())
        .filter_map(|request| Ask::from_wire(&request).ok())
        .collect()
}

/// A path that doesn't depend on the working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
