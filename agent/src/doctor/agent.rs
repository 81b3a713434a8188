//! The agent itself, and the way to the issuer.

use std::{io, sync::Arc, time::Duration};

use jiff::Timestamp;
use nix::unistd::{Gid, Uid};
use rustls::ClientConfig;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    app, clock,
    config::{Config, ConfigError},
    disk::{
        Permissions,
        holds::{Holds, Read},
        permissions::PermissionError,
    },
    issuer::{Identity as Present, IdentityError, tls},
    nginx::Place,
    plan::doctor::agent::{Configuration, Facts, Identity, Reach, Us},
    tasks::alarm,
};

/// For each step on the way to the issuer.
const STEP_LIMIT: Duration = Duration::from_secs(4);

pub(super) fn gather(
    config: &Config,
    fault: Option<&ConfigError>,
    identity: &Result<Present, IdentityError>,
) -> Facts {
    let files = [
        config.state_file(),
        config.ledger_file(),
        config.desired_file(),
        config.identity_directory().join("fleet.json"),
    ];
    let written = files.into_iter().filter_map(|path| {
        let modified = std::fs::metadata(&path).and_then(|meta| meta.modified());
        Some((path, Timestamp::try_from(modified.ok()?).ok()?))
    });
    let unknown_group = match Permissions::new(config.file_group.as_deref()) {
        Err(PermissionError::UnknownGroup(name)) => Some(name),
        _ => None,
    };
    Facts {
        configuration: configuration(fault),
        us: us(),
        unknown_group,
        last_written: written.max_by_key(|(_, at)| *at),
        identity: judged(identity, config),
        endpoints: Vec::new(),
        // What can't be looked at is told by others.
        running: app::is_running(config).unwrap_or(true),
        alarm_refused: alarm::read(&config.alarm_file())
            .into_values()
            .flat_map(|record| record.sent)
            .filter(|(name, sent)| !sent.problem.is_empty() && config.alarms.contains_key(name))
            .map(|(name, sent)| (name, sent.problem))
            .collect(),
        // Without its directory there are none, and that is told.
        holds: if config.state_directory.is_dir() {
            Holds::read(&config.holds_file())
        } else {
            Read::Known(Holds::default())
        },
    }
}

fn configuration(fault: Option<&ConfigError>) -> Configuration {
    match fault {
        None => Configuration::Right,
        Some(ConfigError::Read { path, source }) => Configuration::Unreadable {
            path: path.clone(),
            why: source.to_string(),
        },
        Some(ConfigError::Mistakes { path, mistakes }) => {
            let each = mistakes.iter().map(|mistake| {
                let at = Place {
                    file: path.clone(),
                    line: u32::try_from(mistake.line).unwrap_or(u32::MAX),
                };
                let alone = ConfigError::Mistakes {
                    path: path.clone(),
                    mistakes: vec![mistake.clone()],
                };
                (at, alone.to_string())
            });
            Configuration::Mistaken(each.collect())
        }
    }
}

fn us() -> Us {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    Us {
        user: Uid::effective().as_raw(),
        group: Gid::effective().as_raw(),
        // Where the kernel doesn't tell, nothing is said of them.
        capabilities: capabilities.unwrap_or(u64::MAX),
    }
}

fn judged(identity: &Result<Present, IdentityError>, config: &Config) -> Identity {
    match identity {
        Ok(present) => Identity::Valid {
            from: present.not_before,
            until: present.not_after,
        },
        Err(IdentityError::NotEnrolled) => Identity::Absent,
        Err(IdentityError::Damaged { path, problem }) => Identity::Damaged {
            path: path.clone(),
            problem: problem.clone(),
        },
        Err(IdentityError::Permission(PermissionError::Untrusted {
            path,
            problem,
            remedy,
        })) => Identity::Untrusted {
            path: path.clone(),
            problem: problem.clone(),
            remedy: remedy.clone(),
        },
        Err(
            IdentityError::Disk(error) | IdentityError::Permission(PermissionError::Disk(error)),
        ) if error.source.kind() == io::ErrorKind::PermissionDenied => {
            Identity::Denied(error.path.clone())
        }
        // There is no directory to look into: its place tells why.
        Err(IdentityError::Disk(error)) if error.source.kind() == io::ErrorKind::NotADirectory => {
            Identity::Absent
        }
        Err(IdentityError::Disk(error)) => Identity::Damaged {
            path: error.path.clone(),
            problem: error.source.to_string(),
        },
        Err(error) => Identity::Damaged {
            path: config.identity_directory(),
            problem: error.to_string(),
        },
    }
}

/// Each endpoint, all at once; nothing without an identity that is valid now.
pub(super) fn dial(identity: Option<Present>) -> impl Future<Output = Vec<(String, Reach)>> {
    let now = clock::now();
    let mut dialling = JoinSet::new();
    let valid = identity.filter(|known| known.not_before <= now && now <= known.not_after);
    if let Some(identity) = valid
        && let Ok(config) = tls::with_identity(&identity)
    {
        for endpoint in identity.endpoints {
            let config = config.clone();
            dialling.spawn(async move {
                let reach = reach(&endpoint, config).await;
                (endpoint, reach)
            });
        }
    }
    async {
        let mut found = dialling.join_all().await;
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found
    }
}

async fn reach(endpoint: &str, config: Arc<ClientConfig>) -> Reach {
    let late = || format!("no answer within {} s", STEP_LIMIT.as_secs());
    let found = match timeout(STEP_LIMIT, lookup_host(endpoint)).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return Reach::Unresolved(error.to_string()),
        Err(_) => return Reach::Unresolved(late()),
    };
    if found.is_empty() {
        return Reach::Unresolved("it has no address".to_owned());
    }
    let tcp = match timeout(STEP_LIMIT, TcpStream::connect(found.as_slice())).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => return Reach::Unconnected(error.to_string()),
        Err(_) => return Reach::Unconnected(late()),
    };
    let shaken = async {
        let mut stream = TlsConnector::from(config)
            .connect(tls::server_name(), tcp)
            .await?;
        // With TLS 1.3 a server refuses our certificate after its own handshake; the issuer's first word comes unasked.
        match stream.read(&mut [0; 1]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    };
    match timeout(STEP_LIMIT, shaken).await {
        Ok(Ok(())) => Reach::Reached,
        Ok(Err::<(), io::Error>(error)) => Reach::Refused(error.to_string()),
        Err(_) => Reach::Refused(late()),
    }
}
