//! What Prometheus is told: by its own tools, by the page that lists it, and by a real Prometheus that asks a fleet.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA, Settings, World, paths, probe::http_get, process::Process, program::Program, story,
    wait_for,
};
use serde_json::Value;

use crate::{SOON, first_issuance};

const TOOL: Duration = Duration::from_secs(60);

#[test]
fn the_shipped_rules_are_right_and_fire_when_they_should() -> Result<()> {
    let directory = paths::packaging().join("prometheus");
    for arguments in [
        ["check", "rules", "certwell.rules.yml"],
        ["test", "rules", "certwell.test.yml"],
    ] {
        Program::new("promtool", "promtool", arguments)
            .run(&directory, "", TOOL)?
            .success("promtool")?;
    }
    Ok(())
}

#[test]
fn prometheus_is_told_of_the_whole_fleet() -> Result<()> {
    story("metrics", &Settings::default(), |world| {
        let agents = agents(world)?;
        first_issuance(world)?;
        let issuer = world.net.page();
        // Handshakes, the inventory: what comes a little later.
        let (from_issuer, from_agent) = wait_for("all that is told", SOON, || {
            let (issuer, agent) = (scrape(issuer)?, scrape(agents[0])?);
            for (text, wanted) in [
                (
                    &issuer,
                    "certwell_certificate_generation{certificate=\"media.hachyderm.io\",host=\"sally\",fact=\"served\"} 1",
                ),
                (
                    &issuer,
                    "certwell_inventory_certificates{host=\"esme\",managed_by=\"certwell\",use=\"used\"} 1",
                ),
                (&agent, "certwell_agent_connected 1"),
                (
                    &agent,
                    "certwell_agent_inventory_certificates{managed_by=\"certwell\",use=\"used\"} 1",
                ),
            ] {
                ensure!(text.lines().any(|line| line == wanted), "no {wanted}");
            }
            Ok((issuer, agent))
        })?;
        for text in [&from_issuer, &from_agent] {
            Program::new("promtool", "promtool", ["check", "metrics"])
                .run(world.directory(), text, TOOL)?
                .success("promtool check metrics")?;
        }
        for step in ["preflight", "order", "challenge", "finalize"] {
            let wanted = format!(
                "certwell_issuance_step_duration_seconds_count{{step=\"{step}\",result=\"passed\"}} 1"
            );
            ensure!(from_issuer.contains(&wanted), "no {wanted}:\n{from_issuer}");
        }
        documented(&from_issuer, &from_agent)?;
        used(&from_issuer, &from_agent)?;
        asked_by_prometheus(world, issuer, &agents)
    })
}

/// Has each agent answer, before it starts.
fn agents(world: &World) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for host in &world.hosts {
        // A port of this host's own address that nobody has.
        let address = TcpListener::bind((host.https().ip(), 0))?.local_addr()?;
        let config = host.agent_config();
        let mut text = fs::read_to_string(&config)?;
        text.push_str(&format!("\n[metrics]\nlisten = \"{address}\"\n"));
        fs::write(&config, text)?;
        addresses.push(address);
    }
    Ok(addresses)
}

fn scrape(address: SocketAddr) -> Result<String> {
    let (status, body) = http_get(address, &address.to_string(), "/metrics")?;
    ensure!(status == 200, "{address} answered {status}");
    Ok(String::from_utf8(body)?)
}

/// The families of an answer.
fn families(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect()
}

/// Names of metrics in a text, without what histograms and rules add to them.
fn mentioned(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !is_part(c));
    words
        .filter(|word| word.starts_with("certwell_") || word.starts_with("process_"))
        .map(|word| {
            let base = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| word.strip_suffix(end));
            base.unwrap_or(word).to_owned()
        })
        .collect()
}

/// docs/metrics.md has each, and no other.
fn documented(issuer: &str, agent: &str) -> Result<()> {
    let page = fs::read_to_string(paths::workspace().join("docs/metrics.md"))?;
    let of = |title: &str| -> Result<BTreeSet<String>> {
        let section = page
            .split("\n## ")
            .find(|section| section.starts_with(title))
            .with_context(|| format!("no section {title}"))?;
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.filter_map(|line| line.split(" | ").next());
        Ok(cells.flat_map(mentioned).collect())
    };
    let mut both = of("Both")?;
    both.insert("certwell_build_info".to_owned());
    for (title, text) in [("The issuer", issuer), ("An agent", agent)] {
        let written: BTreeSet<String> = &of(title)? | &both;
        let told = families(text);
        let differ: Vec<_> = written.symmetric_difference(&told).collect();
        ensure!(differ.is_empty(), "{title}: on one side only: {differ:?}");
    }
    Ok(())
}

/// Rules and dashboard speak of nothing that nobody tells.
fn used(issuer: &str, agent: &str) -> Result<()> {
    let told = &families(issuer) | &families(agent);
    for file in ["prometheus/certwell.rules.yml", "grafana/certwell.json"] {
        let text = fs::read_to_string(paths::packaging().join(file))?;
        let found = mentioned(&text);
        ensure!(found.len() > 5, "{file} speaks of {found:?} alone");
        let unknown: Vec<_> = found.difference(&told).collect();
        ensure!(unknown.is_empty(), "{file} speaks of {unknown:?}");
    }
    let board = fs::read_to_string(paths::packaging().join("grafana/certwell.json"))?;
    let board: Value = serde_json::from_str(&board)?;
    let panels = board["panels"].as_array().context("no panels")?;
    let ids: BTreeSet<u64> = panels.iter().filter_map(|p| p["id"].as_u64()).collect();
    ensure!(ids.len() == panels.len(), "two panels have one id");
    Ok(())
}

/// Debian's Prometheus asks all of them by the shipped rules.
fn asked_by_prometheus(world: &World, issuer: SocketAddr, agents: &[SocketAddr]) -> Result<()> {
    let directory = world.directory().join("prometheus");
    fs::create_dir_all(&directory)?;
    let address = TcpListener::bind((issuer.ip(), 0))?.local_addr()?;
    let rules = paths::packaging().join("prometheus/certwell.rules.yml");
    let targets: Vec<String> = agents.iter().map(|a| format!("\"{a}\"")).collect();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{rules:?}]\nscrape_configs:\n\
         - job_name: certwell-issuer\n  static_configs: [{{targets: [\"{issuer}\"]}}]\n\
         - job_name: certwell-agent\n  static_configs: [{{targets: [{}]}}]\n",
        targets.join(", ")
    );
    let file = directory.join("prometheus.yml");
    fs::write(&file, config)?;
    let arguments = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", directory.join("data").display()),
        format!("--web.listen-address={address}"),
        "--log.level=warn".to_owned(),
    ];
    let program = Program::new("prometheus", "prometheus", arguments);
    let mut prometheus = Process::start(&program, &directory, &directory.join("prometheus.log"))?;
    prometheus.ready(SOON, || {
        let up = query(address, "up")?;
        let count = up.iter().filter(|(_, value)| *value == 1.0).count();
        ensure!(count == agents.len() + 1, "{up:?}");
        Ok(())
    })?;
    let ends = "certwell_certificate_not_after_timestamp_seconds{fact=\"served\"}";
    // A scrape that took too long leaves a moment without.
    let told = wait_for("the end of each", SOON, || {
        let told = query(address, ends)?;
        ensure!(told.len() == world.hosts.len(), "{told:?}");
        Ok(told)
    })?;
    for host in &world.hosts {
        let served = host.served(MEDIA)?.leaf.not_after.as_second() as f64;
        let (_, of_host) = told
            .iter()
            .find(|(labels, _)| labels["host"] == host.name && labels["certificate"] == MEDIA)
            .with_context(|| format!("nothing of {}: {told:?}", host.name))?;
        ensure!(*of_host == served, "{}: {of_host}, not {served}", host.name);
    }
    // The shipped rules make something of it.
    wait_for("a recorded rule", SOON, || {
        let left = query(address, "certwell:certificate_life_left:ratio")?;
        let fresh = left.iter().filter(|(_, left)| (0.9..=1.0).contains(left));
        ensure!(fresh.count() == world.hosts.len(), "{left:?}");
        Ok(())
    })
}

/// Labels and value of each series.
fn query(address: SocketAddr, expression: &str) -> Result<Vec<(Value, f64)>> {
    let encoded: String = expression
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let path = format!("/api/v1/query?query={encoded}");
    let (status, body) = http_get(address, &address.to_string(), &path)?;
    ensure!(
        status == 200,
        "{status}: {}",
        String::from_utf8_lossy(&body)
    );
    let answer: Value = serde_json::from_slice(&body)?;
    let found = answer["data"]["result"].as_array().context("no result")?;
    found
        .iter()
        .map(|series| {
            let value = series["value"][1].as_str().context("no value")?;
            Ok((series["metric"].clone(), value.parse()?))
        })
        .collect()
}

#[test]
fn what_the_packages_ship_is_where_the_documentation_says() -> Result<()> {
    let page = fs::read_to_string(paths::workspace().join("docs/metrics.md"))?;
    let cargo = fs::read_to_string(paths::workspace().join("issuer/Cargo.toml"))?;
    for kind in ["prometheus/*.rules.yml", "grafana/*"] {
        let kind = Path::new(kind).parent().context("no directory")?;
        let shipped = format!("usr/share/doc/certwell-issuer/examples/{}/", kind.display());
        ensure!(cargo.contains(&shipped), "{shipped} isn't packaged");
    }
    ensure!(page.contains("/usr/share/doc/certwell-issuer/examples/prometheus/certwell.rules.yml"));
    Ok(())
}
