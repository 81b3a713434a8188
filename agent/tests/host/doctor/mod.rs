//! `certwell-agent doctor`: what is in the agent's way, each thing made for real, and found.
//!
//! ```text
//! agent  its configuration, its rights, the clock, its identity, the issuer, other servers than nginx
//! disk   the directories that it writes in
//! nginx  nginx, its configuration, the challenge map, the server blocks at port 80
//! fix    the include is put into server blocks as people have them, and taken out
//!   fix_refused  what is not put in, or put back
//!   fix_scripted  what a script is told of it
//!   sites  a host with them
//! ```

mod agent;
mod disk;
mod fix;
mod fix_refused;
mod fix_scripted;
mod nginx;
mod sites;

use std::process::Command;

use serde_json::Value;

use super::{host::Host, world::serving};

/// What was said.
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) in_the_way: Vec<Value>,
    pub(crate) notes: Vec<Value>,
}

fn words(list: &[Value]) -> Vec<&str> {
    list.iter()
        .map(|one| one["what"].as_str().unwrap())
        .collect()
}

impl Told {
    pub(crate) fn in_the_way(&self) -> Vec<&str> {
        words(&self.in_the_way)
    }

    pub(crate) fn notes(&self) -> Vec<&str> {
        words(&self.notes)
    }

    /// The first of this kind, in the way or noted, whose sentence or remedy holds all these words.
    pub(crate) fn says(&self, what: &str, needles: &[&str]) -> &Value {
        let found = self.in_the_way.iter().chain(&self.notes);
        let mut found = found.filter(|one| one["what"] == what).filter(|one| {
            let text = |key: &str| one[key].as_str().unwrap_or_default();
            let text = format!("{} {}", text("sentence"), text("remedy"));
            needles.iter().all(|needle| text.contains(needle))
        });
        let found = found.next();
        found.unwrap_or_else(|| {
            panic!(
                "no {what} with {needles:?}: {:#?} {:#?}",
                self.in_the_way, self.notes
            )
        })
    }
}

/// The verb at the host's port for plain HTTP.
pub(crate) fn command(host: &Host) -> Command {
    let port = host.http.port().to_string();
    host.agent_command(&["doctor", "--json", "--port", &port])
}

/// Runs it beside this thread, on which the issuer answers.
pub(crate) async fn run(mut command: Command) -> Told {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let document: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
    assert_eq!(document["version"], 1);
    let list = |key: &str| document[key].as_array().unwrap().clone();
    let told = Told {
        code: output.status.code().unwrap(),
        in_the_way: list("in_the_way"),
        notes: list("notes"),
    };
    for one in told.in_the_way.iter().chain(&told.notes) {
        let is_text = |key: &str| one[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(
            is_text("what") && is_text("sentence") && is_text("remedy"),
            "{one}"
        );
        assert_eq!(one["file"].is_string(), one["line"].is_u64(), "{one}");
        assert_eq!(one.as_object().unwrap().len(), 5, "{one}");
    }
    told
}

pub(crate) async fn doctor(host: &Host) -> Told {
    run(command(host)).await
}

pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        crate::world::skipped("only root can make these faults");
    }
    root
}

#[tokio::test]
async fn a_host_that_is_well_has_nothing_in_the_way_and_nothing_is_touched() {
    let (world, _) = serving().await;
    let host = &world.host;
    let before = super::lineage::tree(host.root());
    let workers = host.workers();
    let told = doctor(host).await;
    assert_eq!(told.in_the_way(), [""; 0], "{:#?}", told.in_the_way);
    assert_eq!(told.code, 0);
    let mut plain = host.agent_command(&["doctor", "--port", &host.http.port().to_string()]);
    let output = tokio::task::spawn_blocking(move || plain.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.starts_with("nothing is in the agent's way\n"),
        "{text}"
    );
    let same = super::lineage::tree(host.root());
    let written = [host.path("run"), host.path("state/state.json")];
    for (path, content) in &before {
        let is_written = written.iter().any(|written| path.starts_with(written));
        assert!(
            is_written || same.get(path) == Some(content),
            "{}",
            path.display()
        );
    }
    assert_eq!(same.len(), before.len());
    assert_eq!(host.workers(), workers, "no reload");
    assert!(host.served().is_some());
}

#[tokio::test]
async fn without_an_issuer_and_before_an_enrollment_all_is_told_in_the_order_to_mend_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut host = Host::new();
    host.write_nginx(false, "");
    host.start_nginx().await;
    let told = doctor(&host).await;
    assert_eq!(told.in_the_way(), ["not-enrolled", "include-missing"]);
    assert_eq!(told.code, 3);
    told.says(
        "not-enrolled",
        &["certwell token create", "certwell-agent enroll"],
    );

    // One of each kind at once.
    let state = host.path("state");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(host.path("state/holds.json"), "{").unwrap();
    host.set_agent("edit-hold = \"soon\"");
    std::fs::remove_file(host.path("snippets/certwell-acme.conf")).unwrap();
    host.stop_nginx();
    let told = doctor(&host).await;
    assert_eq!(
        told.in_the_way(),
        [
            "configuration-mistake",
            "wrong-mode",
            "not-enrolled",
            "nginx-not-running",
            "snippet-missing",
            "include-missing",
            "holds-unreadable",
        ]
    );
    assert_eq!(told.code, 4);
    let text = host.agent_command(&["doctor"]).output().unwrap().stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(
        text.starts_with("6 things are in the agent's way, in the order to mend them:\n1. ")
            && text.contains("^^^^^^"),
        "{text}"
    );
    assert!(
        text.contains(&format!("{} can be written by everybody", state.display())),
        "{text}"
    );
}
