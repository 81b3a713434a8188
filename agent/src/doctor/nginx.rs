//! nginx: its master, its configuration, the challenge map, and who listens for a CA.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{errno::Errno, sys::signal, unistd::Pid as ProcessId};

use super::{ASK_LIMIT, absolute, questions, silence};
use crate::{
    clock,
    config::Config,
    disk::Permissions,
    inventory::spellings,
    issuer::Desired,
    nginx::{
        CertificateSource, Invocation, Master as Running, Nginx, Parsed, Settings, Sites,
        addresses, challenge_map,
        dump::{self, DumpError},
        edits::{self, Edit},
        master::masters,
        preflight, run,
        workers::Rights,
    },
    plan::{
        doctor::{
            nginx::{Facts, KeptOut, Map, Master, Other, Pid, Read},
            port_80,
        },
        edit,
    },
};

/// For one run of nginx, as in the daemon.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// Of a pid file that names no master.
const SHOWN: usize = 40;
/// Below the directory of nginx's first file.
const SNIPPET: &str = "snippets/certwell-acme.conf";

pub(super) async fn gather(
    config: &Config,
    desired: Option<&Desired>,
    port: u16,
) -> (Facts, Option<Parsed>) {
    let settings = &config.nginx;
    let found = Nginx::find(settings, clock::now()).ok();
    let running = found.as_ref().and_then(|nginx| nginx.master.clone());
    let (read, parsed) = match &found {
        Some(nginx) => read(&nginx.invocation).await,
        None => (Read::Not, None),
    };
    let root = root(config);
    let directory = parsed.as_ref().and_then(Parsed::directory);
    let directory = directory.or(root.parent()).unwrap_or(Path::new("/"));
    let snippet = directory.join(SNIPPET);
    let map = &settings.challenge_map;
    let ours = running.as_ref().map(|master| master.pid);
    let facts = Facts {
        pid: pid(settings, running.as_ref()),
        pid_file: settings.pid_file.clone(),
        binary_there: settings.binary.exists(),
        binary: settings.binary.clone(),
        config: settings.config.clone(),
        master: running.as_ref().map(|master| Master {
            pid: master.pid,
            may_be_signalled: signal::kill(ProcessId::from_raw(master.pid), None)
                != Err(Errno::EPERM),
        }),
        others: masters()
            .into_iter()
            .filter(|(pid, _)| Some(*pid) != ours)
            .map(|(pid, command)| Other { pid, command })
            .collect(),
        edit: parsed
            .as_ref()
            .and_then(|parsed| edit(config, parsed, running.as_ref())),
        map: Map {
            is_there: map.exists(),
            is_included: parsed
                .as_ref()
                .map(|parsed| parsed.includes_at_http_level(&absolute(map))),
            http: parsed
                .as_ref()
                .and_then(|parsed| parsed.http.first().cloned()),
            path: map.clone(),
        },
        snippet_there: snippet.exists(),
        snippet_silent: is_silent(&snippet),
        snippet,
        kept_out: match (&parsed, rights(found.as_ref(), parsed.as_ref()).await) {
            (Some(parsed), Some(rights)) => kept_out(config, parsed, &rights),
            _ => Vec::new(),
        },
        port_80: match &parsed {
            Some(parsed) => port_80(config, parsed, running.is_some(), desired, port).await,
            None => port_80::Facts::default(),
        },
        read,
    };
    (facts, parsed)
}

/// A file that can be read, has no line about the challenge map's variable, and includes none that may have.
fn is_silent(snippet: &Path) -> bool {
    let may_answer = |line: &str| {
        let line = line.trim_start();
        !line.starts_with('#')
            && (line.contains("$certwell_acme_reply") || line.contains("include"))
    };
    std::fs::read(snippet).is_ok_and(|text| !String::from_utf8_lossy(&text).lines().any(may_answer))
}

/// nginx's first file, as it is called, or as configured.
pub(super) fn root(config: &Config) -> PathBuf {
    let found = Nginx::find(&config.nginx, clock::now()).ok();
    let called = found.and_then(|nginx| nginx.invocation.config);
    called.unwrap_or_else(|| config.nginx.config.clone())
}

async fn read(invocation: &Invocation) -> (Read, Option<Parsed>) {
    match dump::listeners(Path::new(dump::SELF), invocation, RUN_LIMIT).await {
        Ok(parsed) => (Read::Known(parsed.warnings.clone()), Some(parsed)),
        Err(DumpError::Refused { words }) => (Read::Refused(words), None),
        Err(error) => (Read::Failed(error.to_string()), None),
    }
}

fn pid(settings: &Settings, running: Option<&Running>) -> Pid {
    if running.is_some() {
        return Pid::Ours;
    }
    match std::fs::read_to_string(&settings.pid_file) {
        Ok(text) => {
            let text: String = text.trim().chars().take(SHOWN).collect();
            match text.as_str() {
                // `nginx -t` leaves an empty one.
                "" => Pid::Missing,
                text => Pid::Stale(text.escape_debug().to_string()),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Pid::Missing,
        Err(error) => Pid::Unreadable(error.to_string()),
    }
}

/// A configuration file that is newer than the workers, as the installer sees it.
fn edit(config: &Config, parsed: &Parsed, running: Option<&Running>) -> Option<Edit> {
    let edit = edits::newest_foreign_change(
        &parsed.files,
        &config.live_directory,
        &config.nginx.challenge_map,
        clock::now(),
    )?;
    let since = running?.serving_since();
    edit::in_progress(Some(edit.at), since).then_some(edit)
}

/// Of nginx's workers, or of those that it would start.
async fn rights(nginx: Option<&Nginx>, parsed: Option<&Parsed>) -> Option<Rights> {
    let nginx = nginx?;
    let mut workers = nginx.master.iter().flat_map(Running::active);
    if let Some(rights) = workers.find_map(|worker| Rights::of(worker.pid)) {
        return Some(rights);
    }
    let user = match parsed?.user.clone() {
        Some(user) => user,
        None => run::built_for(&nginx.invocation, RUN_LIMIT).await.ok()?,
    };
    Rights::of_user(&user)
}

/// Server blocks whose certificates in the live directory are read by workers that can't.
fn kept_out(config: &Config, parsed: &Parsed, rights: &Rights) -> Vec<KeptOut> {
    let group = Permissions::new(config.file_group.as_deref()).unwrap_or_default();
    let live = spellings(&config.live_directory);
    // What lies above the agent's own directory is the operator's.
    let closed = rights.kept_from(&absolute(&config.state_directory).join("x"));
    let closed = closed.filter(|closed| !closed.starts_with(&config.state_directory));
    if closed.is_none() && rights.reads_files_of(group) {
        return Vec::new();
    }
    let of_ours = |source: &CertificateSource| match source {
        CertificateSource::Variable(written) => live
            .iter()
            .any(|live| Path::new(written).starts_with(live))
            .then(|| written.clone()),
        _ => None,
    };
    parsed
        .servers
        .iter()
        .filter_map(|server| {
            let mut named = server
                .certificates
                .iter()
                .flat_map(|files| [&files.certificate, &files.key]);
            Some(KeptOut {
                at: server.at.clone(),
                written: named.find_map(of_ours)?,
                user: rights.user(),
                group: rights.group(),
                closed: closed.clone(),
            })
        })
        .collect()
}

async fn port_80(
    config: &Config,
    parsed: &Parsed,
    is_running: bool,
    desired: Option<&Desired>,
    port: u16,
) -> port_80::Facts {
    let local = addresses::local().unwrap_or_default();
    let mut silent = Vec::new();
    if is_running {
        for address in Sites::new(&parsed.servers, &local).plain_http(port) {
            silent.extend(silence(address).await.map(|why| (address, why)));
        }
    }
    let challenges = desired
        .map(|desired| desired.challenges.as_slice())
        .unwrap_or_default();
    let names = challenges.iter().flat_map(|challenge| challenge.names());
    let mut facts = port_80::Facts {
        port,
        names: names
            .filter(|name| !name.is_wildcard())
            .map(ToString::to_string)
            .collect(),
        servers: parsed.servers.clone(),
        local,
        silent,
        unanswered: Vec::new(),
    };
    // What the map doesn't say yet can't be answered; the running agent sees to that.
    let map = std::fs::read(&config.nginx.challenge_map);
    let is_current = map.is_ok_and(|map| map == challenge_map::render(challenges).as_bytes());
    if is_running && is_current && facts.silent.is_empty() {
        let asking = async {
            let mut told = Vec::new();
            for ask in questions(desired, port) {
                let verdict = preflight::preflight(&ask, &facts.servers, &facts.local).await;
                told.extend(port_80::unanswered(verdict));
            }
            told
        };
        facts.unanswered = tokio::time::timeout(ASK_LIMIT, asking)
            .await
            .unwrap_or_default();
    }
    facts
}
