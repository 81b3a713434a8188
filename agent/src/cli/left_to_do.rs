//! What is left to do on a host that was just enrolled: what doctor finds, and the lines that nginx's configuration
//! lacks.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_proto::CertificateName;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    doctor::{Lists, print},
    patiently, say, tell,
};
use crate::{
    app, clock,
    config::Config,
    disk::{Live, LiveDirectory, Store},
    doctor, inventory,
    issuer::{Desired, Wanted},
    plan::{
        doctor::{Findings, examine},
        inventory::unnamed,
    },
    tasks::state_file::StateFile,
};

/// An agent that starts connects within seconds.
const LIMIT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);
/// Where a CA's requests arrive.
const PORT: u16 = 80;

/// What was found.
#[derive(Debug)]
pub(super) struct LeftToDo {
    found: Findings,
    live: PathBuf,
    /// Whether the server isn't nginx.
    other_server: bool,
    /// `None` where the issuer hasn't said it yet.
    assigned: Option<Vec<CertificateName>>,
    /// Those that no server block of nginx names; `None` where its configuration isn't known.
    unnamed: Option<Vec<CertificateName>>,
}

/// The same for `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    #[serde(flatten)]
    found: Lists<'a>,
    live_directory: String,
    assigned: Option<Vec<&'a str>>,
    unnamed: Option<Vec<&'a str>>,
}

/// Looks, at the agent that was started then.
pub(super) async fn find(config: &Config, began: Timestamp) -> LeftToDo {
    let asked = assigned(config, began);
    let desired = patiently(
        "waiting for the issuer's word on this host's certificates",
        asked,
    )
    .await;
    if let Some(desired) = &desired {
        patiently("waiting for a first pair of each", placed(config, desired)).await;
    }
    let gathered = doctor::gather(config, None, PORT).await;
    let assigned: Option<Vec<CertificateName>> =
        desired.map(|desired| desired.certificates.keys().cloned().collect());
    let other_server = config.exec.is_some();
    let facts = gathered
        .parsed
        .filter(|_| !other_server)
        .and_then(|parsed| inventory::on_disk(config, &parsed).ok());
    LeftToDo {
        found: examine(&gathered.facts, clock::now()),
        live: config.live_directory.clone(),
        other_server,
        unnamed: facts
            .zip(assigned.as_deref())
            .map(|(facts, assigned)| unnamed(&facts, assigned)),
        assigned,
    }
}

impl LeftToDo {
    pub(super) fn told(&self) -> Told<'_> {
        fn names(of: Option<&Vec<CertificateName>>) -> Option<Vec<&str>> {
            of.map(|of| of.iter().map(CertificateName::as_str).collect())
        }
        Told {
            found: Lists::of(&self.found),
            live_directory: self.live.display().to_string(),
            assigned: names(self.assigned.as_ref()),
            unnamed: names(self.unnamed.as_ref()),
        }
    }

    /// For people.
    pub(super) fn print(&self) {
        print(&self.found);
        let Some(names) = &self.assigned else {
            return say(
                "which certificates this host is to serve isn't known yet: `certwell-agent status` tells when the issuer has said so",
            );
        };
        if names.is_empty() {
            return say(
                "no certificate is assigned to this host yet: name it under `hosts` of one in the issuer's configuration",
            );
        }
        say(format_args!("assigned to this host: {}", joined(names)));
        if self.other_server {
            return say(format_args!(
                "have the server name {}/NAME/combined.pem of each",
                self.live.display()
            ));
        }
        match &self.unnamed {
            Some(unnamed) => lines(&self.live, unnamed).iter().for_each(tell),
            None => say(
                "which of them nginx's configuration names isn't known, since it can't be read: `certwell-agent inventory` tells when it can",
            ),
        }
    }
}

/// What the issuer wants, once the agent that was started then has heard it.
async fn assigned(config: &Config, began: Timestamp) -> Option<std::sync::Arc<Desired>> {
    let heard = async {
        while !has_heard(config, began) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, heard).await.ok()?;
    app::last_desired(config)
}

/// Once a pair lies where nginx looks for each certificate, ours where one is issued: doctor would find fault with what
/// is right in a moment.
async fn placed(config: &Config, desired: &Desired) {
    let live = LiveDirectory::at(config.live_directory.clone());
    let store = Store::at(config.store_directory());
    let is_there = |(name, wanted): (&CertificateName, &Wanted)| match live.look(name, &store) {
        Ok(Live::Ours(generation)) => generation >= wanted.generation,
        Ok(Live::Absent) | Err(_) => false,
        Ok(_) => wanted.generation.is_none(),
    };
    let all = async {
        while !desired.certificates.iter().all(is_there) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    // What is in the way of it, doctor tells.
    let _ = tokio::time::timeout(LIMIT, all).await;
}

/// The desired state is written after it has come, and state.json is older than the word of it only for a moment.
fn has_heard(config: &Config, began: Timestamp) -> bool {
    let since = |path: &Path| {
        let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
        modified
            .ok()
            .and_then(|time| Timestamp::try_from(time).ok())
            .is_some_and(|at| at >= began)
    };
    let state = std::fs::read(config.state_file()).ok();
    let state = state.and_then(|text| serde_json::from_slice::<StateFile>(&text).ok());
    since(&config.desired_file())
        && state.is_some_and(|state| state.connected && state.written >= began)
}

/// What to put into nginx's configuration for those that no server block of it names.
fn lines(live: &Path, unnamed: &[CertificateName]) -> Vec<String> {
    if unnamed.is_empty() {
        return vec!["nginx's configuration names each of them: nothing is to be put there".into()];
    }
    let mut lines = Vec::new();
    for name in unnamed {
        let path = live.join(name.as_str());
        let path = path.display();
        lines.push(format!(
            "no server block of nginx has {name} yet; in the one that is to serve it:"
        ));
        lines.push(format!("    ssl_certificate {path}/fullchain.pem;"));
        lines.push(format!("    ssl_certificate_key {path}/privkey.pem;"));
    }
    lines.push("then: nginx -t && systemctl reload nginx".into());
    lines
}

fn joined(names: &[CertificateName]) -> String {
    let names: Vec<&str> = names.iter().map(CertificateName::as_str).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_nginx_lacks_can_be_copied() {
        let live = Path::new("/etc/certwell/live");
        let said = lines(live, &["media.example.org".parse().unwrap()]).join("\n");
        for line in [
            "ssl_certificate /etc/certwell/live/media.example.org/fullchain.pem;",
            "ssl_certificate_key /etc/certwell/live/media.example.org/privkey.pem;",
            "systemctl reload nginx",
        ] {
            assert!(said.contains(line), "{said}");
        }
        assert_eq!(
            lines(live, &[]),
            ["nginx's configuration names each of them: nothing is to be put there"]
        );
    }

    /// What scripts read, as docs/cli.md shows it.
    #[test]
    fn the_json_names_what_is_assigned_and_what_nginx_lacks() {
        let name = || "media.example.org".parse().unwrap();
        let mut left = LeftToDo {
            found: Findings::default(),
            live: "/etc/certwell/live".into(),
            other_server: false,
            assigned: Some(vec![name(), "a.example.org".parse().unwrap()]),
            unnamed: Some(vec![name()]),
        };
        let mut wanted = serde_json::json!({
            "in_the_way": [],
            "notes": [],
            "live_directory": "/etc/certwell/live",
            "assigned": ["media.example.org", "a.example.org"],
            "unnamed": ["media.example.org"],
        });
        assert_eq!(serde_json::to_value(left.told()).unwrap(), wanted);
        (left.assigned, left.unnamed) = (None, None);
        wanted["assigned"] = serde_json::Value::Null;
        wanted["unnamed"] = serde_json::Value::Null;
        assert_eq!(serde_json::to_value(left.told()).unwrap(), wanted);
    }
}
