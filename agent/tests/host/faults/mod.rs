//! What can go wrong around an install, and that nginx serves the best certificate that it can throughout: each fault
//! made for real, and mended, after which the agent goes on by itself.
//!
//! ```text
//! gate            an agent that is held between two of its steps
//! small_disk      a file system that can be filled, or made read-only
//! witness         somebody who looks on, and judges by what is served
//! clock           a clock that is an hour or ten days off
//! draining        after a reload: old workers that answer, and listeners that fail
//! drift           somebody alters what lies at live/NAME
//! edits           an operator saves half an edit, or a whole one, between two of our steps
//! foreign_reload  another hand reloads or restarts nginx between our steps
//! full_disk       a disk that is full, without inodes, read-only, or fails
//! hold            a person keeps the agent's hands off
//! live            something else at live/NAME, or at live
//! nginx_broken    the host's own configuration is broken before we come
//! not_applied     a reload that returns 0 and changes nothing
//! parents         directories that another user could change
//! processes       nginx stopped, absent, replaced, upgraded while it runs
//! rollback        nginx fails our new generation
//! ```

pub(crate) mod clock;
mod draining;
mod drift;
mod edits;
mod foreign_reload;
mod full_disk;
pub(crate) mod gate;
mod hold;
mod live;
mod nginx_broken;
mod not_applied;
mod parents;
mod processes;
mod rollback;
mod small_disk;
mod witness;

use std::{fs, path::Path};

use certwell_proto::{pem, v1};

use super::{
    host::Host,
    issuer::eventually,
    world::{World, leaf},
};

/// Looked at without a line of the agent's own code: what lies at `live/NAME` is this pair, whole, nginx takes its
/// configuration with it, and serves it.
pub(crate) async fn serves(world: &World, bundle: &v1::Bundle) {
    assert!(
        is_pair(&world.host.live(), bundle),
        "another pair than generation {}, or half of one, at {:?}",
        bundle.generation,
        fs::read_link(world.host.live())
    );
    world.host.assert_nginx_takes_its_configuration();
    eventually("it is served", || async {
        (world.host.served() == Some(leaf(bundle))).then_some(())
    })
    .await;
}

/// Whether key and chain in a directory are these.
pub(crate) fn is_pair(directory: &Path, bundle: &v1::Bundle) -> bool {
    let pair = &bundle.key_pairs[0];
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
    let chain = pem::certificates(pair.fullchain.iter().map(Vec::as_slice));
    let key = pem::private_key(&pair.private_key);
    read("fullchain.pem") == chain && read("privkey.pem") == *key
}

/// Reloads nginx, to the end: new workers answer, and old ones take nothing new. They may drain for long: an agent that
/// is held by its log holds the connections of its other tasks.
pub(crate) async fn reloaded(host: &Host) {
    let before = host.workers();
    host.reload_nginx();
    eventually("nginx has reloaded", || async {
        let (old, new): (Vec<i32>, Vec<i32>) = host
            .workers()
            .into_iter()
            .partition(|worker| before.contains(worker));
        (!new.is_empty() && old.into_iter().all(drains)).then_some(())
    })
    .await;
}

/// Whether a worker has been told to go, or is gone.
fn drains(worker: i32) -> bool {
    let title = fs::read_to_string(format!("/proc/{worker}/cmdline")).unwrap_or_default();
    title.is_empty() || title.contains("is shutting down")
}

/// `certwell-agent status` says one thing, which holds all these words.
pub(crate) async fn status_says(host: &Host, words: &[&str]) -> String {
    let mut last = Vec::new();
    for _ in 0..400 {
        last = problems(host);
        if let [problem] = &last[..]
            && words.iter().all(|word| problem.contains(word))
        {
            return last.remove(0);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("status doesn't say {words:?}, but {last:#?}");
}

/// One of the sentences of `certwell-agent status` has all these words.
pub(crate) async fn status_has(host: &Host, what: &str, words: &[&str]) {
    let mut last = Vec::new();
    for _ in 0..200 {
        last = problems(host);
        let has = |problem: &String| words.iter().all(|word| problem.contains(word));
        if last.iter().any(has) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{what}: status doesn't say {words:?}, but {last:#?}");
}

/// The sentences of `certwell-agent status --json`.
pub(crate) fn problems(host: &Host) -> Vec<String> {
    let output = host.verb(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    problems
        .iter()
        .map(|problem| problem.as_str().unwrap().to_owned())
        .collect()
}
