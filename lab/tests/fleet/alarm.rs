//! A fleet whose issuer is gone tells by itself, before what it serves is over.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA, Settings, World,
    receivers::{Answer, HttpReceiver, Received},
    story, wait_for,
};
use jiff::Timestamp;

use crate::{SOON, first_issuance};

const VALIDITY: Duration = Duration::from_secs(180);
const KEY: &str = "certwell/lab/issuer-unreachable";

/// Appends to a host's `agent.toml`.
fn configure(world: &World, host: &str, text: &str) -> Result<()> {
    let path = world.host(host)?.agent_config();
    let present = fs::read_to_string(&path)?;
    Ok(fs::write(path, format!("{present}\n{text}"))?)
}

fn hook(name: &str, url: &str) -> String {
    format!("[alarm.{name}]\ntype = \"webhook\"\nurl = {url:?}\nlimit = \"2s\"\n")
}

/// What came in this state, the first of each host.
fn by_host(received: &[Received], state: &str) -> BTreeMap<String, Received> {
    let mut found = BTreeMap::new();
    for one in received {
        let host = one.json()["members"][0]["host"].as_str().map(str::to_owned);
        if let Some(host) = host.filter(|_| one.field("state") == state && one.accepted) {
            found.entry(host).or_insert_with(|| one.clone());
        }
    }
    found
}

#[test]
fn without_the_issuer_each_host_tells_under_one_key_and_not_in_one_instant() -> Result<()> {
    let settings = Settings {
        validity: Some(VALIDITY),
        ..Settings::default()
    };
    story("alarm", &settings, |world| {
        let receiver = HttpReceiver::start(world.net.receiver(0))?;
        let hanging = HttpReceiver::start(world.net.receiver(1))?;
        hanging.answer(Answer::Hang);
        let hosts: Vec<String> = world.hosts.iter().map(|host| host.name.clone()).collect();
        for host in &hosts {
            configure(world, host, &hook("hook", &receiver.url("/alarm")))?;
            // One that hangs holds up neither the other nor the agent.
            configure(world, host, &hook("hanging", &hanging.url("/alarm")))?;
        }
        let served = first_issuance(world)?;
        let test = world.host("sally")?.agent_command(&["alarm", "test"])?;
        ensure!(test.code == 3, "{}{}", test.stdout, test.stderr);
        ensure!(
            test.stdout.contains("hook (webhook): accepted"),
            "{}",
            test.stdout
        );
        ensure!(
            test.stdout.contains("hanging (webhook): not accepted"),
            "{}",
            test.stdout
        );
        ensure!(receiver.received().len() == 1 && receiver.received()[0].field("state") == "test");
        receiver.forget();

        world.issuer.stop();
        let first = receiver.wait_for("an alarm of each host", VALIDITY, |received| {
            let found = by_host(received, "firing");
            (found.len() == hosts.len()).then_some(found)
        })?;
        let ends = served.leaf.not_after;
        let old_from = ends - ends.duration_since(served.leaf.not_before) / 4;
        let mut times: Vec<Timestamp> = Vec::new();
        for (host, one) in &first {
            ensure!(one.field("key") == KEY, "{host}");
            ensure!(
                one.at > old_from && one.at < ends,
                "{host}: {} for {ends}",
                one.at
            );
            let text = String::from_utf8_lossy(&one.body).into_owned();
            let until = one.json()["members"][0]["served_not_after"].to_string();
            ensure!(until.contains(&ends.to_string()), "{text}");
            for said in [
                MEDIA,
                "generation 1",
                "dials the issuer again",
                "certwell-agent doctor",
                "hasn't reached the issuer since",
            ] {
                ensure!(text.contains(said), "{said} isn't said: {text}");
            }
            times.push(one.at);
        }
        times.sort();
        let spread = times[times.len() - 1].duration_since(times[0]);
        ensure!(spread.as_millis() > 100, "all in one instant: {times:?}");

        // A restart of the agent repeats nothing: what was told is remembered.
        let told = |host: &str| {
            let all = receiver.received();
            all.iter()
                .filter(|one| {
                    one.json()["members"][0]["host"] == host && one.field("state") == "firing"
                })
                .map(|one| one.json()["number"].as_u64().unwrap_or_default())
                .collect::<Vec<_>>()
        };
        let sally = world.host_mut("sally")?;
        sally.kill9_agent()?;
        sally.start_agent()?;
        world.issuer.serve()?;
        receiver.wait_for("the end of each host's", SOON, |received| {
            (by_host(received, "resolved").len() == hosts.len()).then_some(())
        })?;
        for host in &hosts {
            let numbers = told(host);
            let mut once = numbers.clone();
            once.dedup();
            ensure!(numbers.len() <= once.len() + 1, "{host} told {numbers:?}");
        }
        let resolved = by_host(&receiver.received(), "resolved");
        ensure!(resolved.values().all(|one| one.field("key") == KEY));
        // The agent itself was held up by nobody: a new one is drawn.
        world.all_serve_new(MEDIA, Some(served.fingerprint()), VALIDITY, |_| true)?;
        wait_for("nothing to be left of it", SOON, || {
            let kept = fs::read_to_string(world.host("esme")?.agent_state().join("alarm.json"))?;
            ensure!(kept == "{}", "{kept}");
            Ok(())
        })
        .context("alarm.json")
    })
}
