//! Gathers what there is of certificates on this host: what nginx names and serves, certbot's lineages, certwell's own.
//!
//! It asks nobody but nginx, changes nothing, and needs neither an enrollment nor the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_proto::{CertificateName, Leaf};

use crate::{
    certbot::{
        Renewal,
        lineage::{self, is_timed, read_leaf},
    },
    clock,
    config::Config,
    disk::{Live, LiveDirectory, Store, durable::DiskError},
    nginx::{
        CertificateSource, KeyAlgorithm, Managed, Nginx, Parsed, Presented, ProbeTarget, Probed,
        Server, ServerName, addresses,
        dump::{self, DumpError},
        links, probe, targets,
    },
    plan::inventory::{Facts, Lineage, Own, Role, Seen, Shown, Use},
};

/// For one run of nginx, as in the daemon.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// How far nginx could be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// It runs, and its listeners were asked.
    Running,
    /// It doesn't run: its configuration was read.
    Stopped,
    /// It refuses its configuration, by these words.
    Refused(String),
    /// There is none, or it can't be asked: why.
    Unknown(String),
}

/// Everything that [`crate::plan::inventory::rows`] takes.
///
/// # Errors
/// When certbot's or certwell's directory can't be looked into.
pub async fn gather(config: &Config) -> Result<(Host, Facts), DiskError> {
    let (host, parsed) = ask(config).await;
    let mut facts = on_disk(config, &parsed)?;
    if host == Host::Running {
        see(&mut facts.uses, &parsed.servers, &facts.files).await;
    }
    Ok((host, facts))
}

/// The same without a handshake, where nginx's configuration is known.
///
/// # Errors
/// As for [`gather`].
pub fn on_disk(config: &Config, parsed: &Parsed) -> Result<Facts, DiskError> {
    let live = spellings(&config.live_directory);
    let certbot_live = spellings(&config.certbot_live_directory());
    let own = own(config)?;
    let lineages = lineage::all(&config.certbot_directory)?;
    let called = lineages.iter().map(|lineage| lineage.name.as_str());
    let called: Vec<&str> = called
        .chain(own.iter().map(|own| own.name.as_str()))
        .collect();
    let mut uses = uses(&parsed.servers, &called);
    uses.extend(parsed.presented.iter().map(presented));
    let mut files = BTreeMap::new();
    for used in &uses {
        if let CertificateSource::File(path) = &used.source
            && !files.contains_key(path)
        {
            files.insert(path.clone(), read_leaf(path).map(|(leaf, _)| leaf));
        }
    }
    let timed = is_timed(Path::new("/"));
    let lineages = lineages
        .into_iter()
        .map(|found| {
            let way = found.link.as_ref().map(|_| links::way(&found.live));
            let way = way.unwrap_or_default();
            let through = |directories: &[PathBuf]| {
                let mut entries = way.iter().filter_map(|step| entry_of(directories, step));
                entries.rfind(|entry| *entry != found.name)
            };
            // An operator's link; with a configuration it is a lineage all the same.
            let alias_of = through(&certbot_live).filter(|_| found.renewal == Renewal::None);
            let adopted_by = way.iter().find_map(|step| entry_of(&live, step));
            Lineage {
                alias_of,
                renews: found.renewal == Renewal::Configured && timed,
                adopted_by,
                name: found.name,
                leaf: found.leaf,
                problems: found.problems,
            }
        })
        .collect();
    Ok(Facts {
        uses,
        files,
        own,
        live,
        certbot_live,
        lineages,
    })
}

async fn ask(config: &Config) -> (Host, Parsed) {
    let nginx = match Nginx::find(&config.nginx, clock::now()) {
        Ok(nginx) => nginx,
        Err(error) => return (Host::Unknown(error.to_string()), Parsed::default()),
    };
    let agent = Path::new(dump::SELF);
    match dump::listeners(agent, &nginx.invocation, RUN_LIMIT).await {
        Ok(parsed) if nginx.master.is_some() => (Host::Running, parsed),
        Ok(parsed) => (Host::Stopped, parsed),
        Err(DumpError::Refused { words }) => (Host::Refused(words), Parsed::default()),
        Err(error) => (Host::Unknown(error.to_string()), Parsed::default()),
    }
}

/// A directory as it is configured, and as it really is: nginx's configuration may name either.
pub fn spellings(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    found.extend(
        std::fs::canonicalize(directory)
            .ok()
            .filter(|real| real != directory),
    );
    found
}

/// The entry of one of these directories that a link leads to.
pub fn entry_of(directories: &[PathBuf], link: &Path) -> Option<String> {
    let rest = directories
        .iter()
        .find_map(|directory| link.strip_prefix(directory).ok())?;
    rest.to_str()
        .filter(|entry| !entry.contains('/'))
        .map(str::to_owned)
}

/// Each certificate of each server block that speaks TLS; of the others those that no such block has: nginx loads them
/// all the same. `called` are names that may be asked for where a block takes any.
fn uses(servers: &[Server], called: &[&str]) -> Vec<Use> {
    let (mut found, idle): (Vec<Use>, Vec<Use>) = servers
        .iter()
        .flat_map(|server| uses_of(server, called))
        .partition(|used| !used.listeners.is_empty());
    let is_used = |idle: &Use| found.iter().any(|used| used.source == idle.source);
    let idle: Vec<Use> = idle.into_iter().filter(|idle| !is_used(idle)).collect();
    found.extend(idle);
    found
}

fn uses_of(server: &Server, called: &[&str]) -> Vec<Use> {
    let listeners: Vec<String> = server
        .listens
        .iter()
        .filter(|listen| listen.tls || listen.quic)
        .map(|listen| {
            let quic = if listen.quic { " (QUIC)" } else { "" };
            format!("{}{quic}", listen.address)
        })
        .collect();
    let used = |source: CertificateSource, through: Vec<PathBuf>| Use {
        role: Role::Listener,
        source,
        through,
        listeners: listeners.clone(),
        names: server.names.iter().map(ToString::to_string).collect(),
        at: server.at.clone(),
        seen: Vec::new(),
    };
    let written = server
        .certificates
        .iter()
        .map(|files| used(files.certificate.clone(), files.through.clone()));
    let expanded = by_variable(server, called).into_iter().map(|path| {
        let through = links::way(&path);
        used(CertificateSource::File(path), through)
    });
    written.chain(expanded).collect()
}

fn presented(named: &Presented) -> Use {
    Use {
        role: Role::Upstream,
        source: named.certificate.clone(),
        through: named.through.clone(),
        listeners: Vec::new(),
        names: Vec::new(),
        at: named.at.clone(),
        seen: Vec::new(),
    }
}

/// The files that are there of what paths with variables can be.
fn by_variable(server: &Server, called: &[&str]) -> BTreeSet<PathBuf> {
    let exact = |name: &ServerName| match name {
        ServerName::Exact(name) if !name.starts_with('_') => Some(name.clone()),
        _ => None,
    };
    let own: Vec<String> = server.names.iter().filter_map(exact).collect();
    let any = own.is_empty() || own.len() < server.names.len();
    let called = called.iter().filter(|_| any).copied();
    let names: Vec<&str> = own.iter().map(String::as_str).chain(called).collect();
    let expansions = server
        .certificates
        .iter()
        .flat_map(|files| &files.expansions);
    expansions
        .flat_map(|expansion| expansion.files(&names))
        .filter(|path| path.is_file())
        .collect()
}

/// One handshake for each server block on each of its listeners, at most four at once.
pub async fn see(
    uses: &mut [Use],
    servers: &[Server],
    files: &BTreeMap<PathBuf, Result<Leaf, String>>,
) {
    let Ok(local) = addresses::local() else {
        return;
    };
    let paths: Vec<&PathBuf> = files.keys().collect();
    // Names of no certificate: they only tell which file a handshake is about.
    let subjects: Vec<(&Path, Managed)> = paths
        .iter()
        .enumerate()
        .filter_map(|(at, path)| {
            let identifiers = files[*path].as_ref().map(|leaf| leaf.identifiers.clone());
            let managed = Managed {
                name: format!("{at}").parse().ok()?,
                identifiers: identifiers.unwrap_or_default(),
                keys: algorithm(path).into_iter().collect(),
            };
            Some((path.as_path(), managed))
        })
        .collect();
    let targets = targets::probes_of(servers, &local, &subjects)
        .into_iter()
        .filter(|target| target.first || target.way != targets::Way::Handshake)
        .collect();
    for (target, probed) in probe::probe_all(targets).await {
        let path = number(&target.certificate).and_then(|at| paths.get(at));
        let seen = sighting(&target, probed);
        let named = uses.iter_mut().filter(|used| {
            used.role == Role::Listener
                && used.at == target.at
                && matches!(&used.source, CertificateSource::File(named) if path.is_some_and(|path| *path == named))
        });
        for used in named {
            used.seen.push(seen.clone());
        }
    }
}

fn number(name: &CertificateName) -> Option<usize> {
    name.as_str().parse().ok()
}

/// Of the key of the leaf in this file; tells twins apart.
pub fn algorithm(path: &Path) -> Option<KeyAlgorithm> {
    let (_, leaf) = read_leaf(path).ok()?;
    Some(if crate::disk::staging::has_rsa_key(&leaf) {
        KeyAlgorithm::Rsa
    } else {
        KeyAlgorithm::Ecdsa
    })
}

fn sighting(target: &ProbeTarget, probed: Probed) -> Seen {
    let shown = match probed {
        Probed::Leaf { fingerprint, .. } => Shown::Leaf(fingerprint),
        Probed::Rejects if target.rejects => {
            Shown::Unprobed("it rejects handshakes by intent".into())
        }
        Probed::Rejects => Shown::Down("it rejects the handshake".into()),
        Probed::Down(why) => Shown::Down(why),
        Probed::Elsewhere => Shown::Unprobed("its address isn't on this host now".into()),
        Probed::Unprobed(why) => Shown::Unprobed(why),
    };
    Seen {
        address: target.endpoint.to_string(),
        name: target.server_name.clone().unwrap_or_default(),
        shown,
    }
}

/// What certwell has active here.
fn own(config: &Config) -> Result<Vec<Own>, DiskError> {
    let live = LiveDirectory::at(config.live_directory.clone());
    let store = Store::at(config.store_directory());
    let entries = match std::fs::read_dir(live.root()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::about("looking into", live.root())(error)),
    };
    let mut names: Vec<CertificateName> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        if let Live::Ours(generation) = live.look(&name, &store)? {
            found.push(Own {
                leaves: leaves(&store.path(&name, generation)),
                name: name.to_string(),
                generation,
            });
        }
    }
    Ok(found)
}

/// The leaves of a staged generation: of `fullchain.pem`, then those of its twins.
pub fn leaves(generation: &Path) -> Vec<Leaf> {
    let entries = std::fs::read_dir(generation)
        .into_iter()
        .flatten()
        .flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("fullchain") && name.ends_with(".pem")
        })
        .collect();
    // The plain name is the shortest.
    files.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    files
        .iter()
        .filter_map(|path| Some(read_leaf(path).ok()?.0))
        .collect()
}
