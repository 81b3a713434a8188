//! Each edge tells people by a program of its own (`[alarm.pager]`), which writes where the agent's sandbox lets nobody
//! write.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    debian::{Fleet, Machine, fleet::SOON},
    incident::{LIFE, Stage},
    wait::wait_for,
};

const PROGRAM: &str = "/usr/local/bin/page-somebody";
const SCRIPT: &str = "set -e\ncat >> /root/paged\necho >> /root/paged";
const PAGED: &str = "/root/paged";
const DECLARED: &str =
    "\n[alarm.pager]\ntype = \"exec\"\ncommand = \"/usr/local/bin/page-somebody\"\n";

/// Every edge gets one, and tries it.
pub(super) fn hand_out(fleet: &Fleet) -> Result<()> {
    for edge in &fleet.edges {
        edge.write_program(PROGRAM, SCRIPT)?;
        let config = edge.shell("cat /etc/certwell/agent.toml")?;
        if !config.contains(DECLARED) {
            edge.write("/etc/certwell/agent.toml", format!("{config}{DECLARED}"))?;
        }
        let test =
            "certwell-agent check && systemctl restart certwell-agent && certwell-agent alarm test";
        edge.shell(&format!("rm -f {PAGED}; {test}"))?;
        ensure!(told(edge)?.len() == 1, "{}: {:?}", edge.name, told(edge)?);
    }
    Ok(())
}

/// What each edge's program got while fritz was off has one key, names the edge, and says until when it serves.
pub(super) fn everybody_was_paged(stage: &Stage<'_>) -> Result<()> {
    let edges = &stage.fleet.edges;
    for edge in edges {
        let page = wait_for("the program to be run", LIFE, || {
            let all = told(edge)?;
            let page = all.into_iter().find(|one| one["state"] == "firing");
            page.with_context(|| format!("{} paged nobody", edge.name))
        })?;
        let key = page["key"].as_str().unwrap_or_default();
        let of = &page["members"][0];
        ensure!(
            key.ends_with("/issuer-unreachable")
                && of["host"] == edge.name.as_str()
                && of["served_not_after"].is_string(),
            "{}: {page}",
            edge.name
        );
    }
    stage.tell(format!(
        "each of {} edges has had its own program page somebody, outside its sandbox",
        edges.len()
    ));
    Ok(())
}

/// Each is told that it is over, once.
pub(super) fn everybody_hears_that_it_is_over(fleet: &Fleet) -> Result<()> {
    for edge in &fleet.edges {
        wait_for("a resolved message", SOON, || {
            let all = told(edge)?;
            let over = all.iter().filter(|one| one["state"] == "resolved").count();
            let last = all.last().map(|one| one["state"].clone());
            ensure!(
                over >= 1 && last == Some("resolved".into()),
                "{}: {over} of {}, the last {last:?}",
                edge.name,
                all.len()
            );
            Ok::<_, anyhow::Error>(())
        })?;
    }
    Ok(())
}

fn told(edge: &Machine) -> Result<Vec<Value>> {
    let text = fs::read_to_string(edge.path(PAGED)).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}
