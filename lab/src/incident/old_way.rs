//! Act 7: the loop of that night (scp, rm, ln -s, `nginx -t`, reload, over ssh, host by host) beside ours, in one run on
//! the same hosts: from a certificate that is stored on fritz until all four edges serve it.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Fingerprint;
use jiff::Timestamp;

use super::{Stage, ssh};
use crate::{
    MEDIA,
    certs::Pair,
    clock,
    debian::{Fleet, Machine, fleet::SOON},
    probe,
    wait::wait_for,
};

const ROUNDS: usize = 3;
/// A vhost of its own, so that neither way is in the other's.
const OLD: &str = "old.hachyderm.io";
const SITE: &str = "/etc/nginx/sites-enabled/old";
const ON_FRITZ: &str = "/root/old-way";
const ON_EDGE: &str = "/etc/old-way";
/// Between two looks at an edge.
const GLANCE: Duration = Duration::from_millis(2);
/// Ours is to take this part of the loop's time, or less.
const AIM: f64 = 0.25;
/// As they were typed that night, one command after the other for each host.
const LOOP: &str = r#"set -e
name=$1; shift
for host; do
    scp -q "/root/old-way/$name-fullchain.pem" "/root/old-way/$name-privkey.pem" "$host:/etc/old-way/"
    ssh -n "$host" rm -f /etc/old-way/fullchain.pem /etc/old-way/privkey.pem
    ssh -n "$host" ln -s "/etc/old-way/$name-fullchain.pem" /etc/old-way/fullchain.pem
    ssh -n "$host" ln -s "/etc/old-way/$name-privkey.pem" /etc/old-way/privkey.pem
    ssh -n "$host" nginx -q -t
    ssh -n "$host" systemctl reload nginx
done
"#;

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    stage.tell("fritz gets a key for ssh, the edges a vhost of the old way");
    prepare(stage.fleet)?;
    let (mut old, mut ours) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let took = by_hand(stage.fleet, round)?;
        stage.tell(format!("by hand: four edges serve it {took:.2} s later"));
        old.push(took);
        let took = by_certwell(stage.fleet)?;
        stage.tell(format!("certwell: four edges serve it {took:.2} s later"));
        ours.push(took);
    }
    clear(stage.fleet)?;
    let (old, ours) = (median(old)?, median(ours)?);
    stage.figure(
        "by hand, stored to served on all four",
        format!("{old:.2} s"),
    );
    stage.figure(
        "certwell, stored to served on all four",
        format!("{ours:.2} s"),
    );
    stage.figure(
        "certwell's part of the time",
        format!("{:.2} (aim: {AIM} or less)", ours / old),
    );
    // How fast is a figure, and no reason to fail a busy machine; slower than by hand is one.
    ensure!(ours < old, "certwell took longer than the loop");
    Ok(())
}

/// Seconds from the loop's start, with the pair on fritz, until each edge serves it.
fn by_hand(fleet: &Fleet, round: usize) -> Result<f64> {
    let pair = Pair::expired(&[OLD.to_owned()])?;
    let leaf = Fingerprint::of(&pair.certificate_der);
    for (file, content) in [("fullchain", &pair.certificate), ("privkey", &pair.key)] {
        let at = format!("{ON_FRITZ}/{round}-{file}.pem");
        fleet.fritz.write_as(&at, content, 0o600)?;
    }
    let began = clock::now();
    let watch = Watch::begin(fleet, OLD, move |seen| seen == leaf);
    let hosts: Vec<String> = fleet
        .edges
        .iter()
        .map(|edge| edge.address.to_string())
        .collect();
    let round = round.to_string();
    let words = ["sh", "-c", LOOP, "loop", &round];
    fleet
        .fritz
        .run_with(
            words.into_iter().chain(hosts.iter().map(String::as_str)),
            "",
            SOON,
        )?
        .success("the loop")?;
    watch.last_since(began)
}

/// Seconds from the bundle in the store until each edge serves it.
fn by_certwell(fleet: &Fleet) -> Result<f64> {
    let before = fleet.common_leaf()?;
    let newest = fleet.events()?.last().map_or(0, |event| event.id);
    let watch = Watch::begin(fleet, MEDIA, move |seen| seen != before);
    fleet.renew(MEDIA)?;
    let stored = wait_for("the certificate to be issued", SOON, || {
        let all = fleet.events()?;
        let issued = all
            .into_iter()
            .find(|event| event.id > newest && event.kind == "issued");
        issued.context("not issued yet")
    })?;
    let took = watch.last_since(stored.at.parse()?)?;
    fleet.converged(MEDIA, stored.generation.unwrap_or_default(), SOON, |_| true)?;
    Ok(took)
}

/// Looks at each edge until it serves what is waited for.
struct Watch(Vec<thread::JoinHandle<Result<Timestamp>>>);

impl Watch {
    fn begin(
        fleet: &Fleet,
        name: &'static str,
        arrived: impl Fn(Fingerprint) -> bool + Send + Sync + 'static,
    ) -> Self {
        let arrived = Arc::new(arrived);
        let look = |edge: &Machine| {
            let (arrived, address) = (Arc::clone(&arrived), (edge.address, 443).into());
            thread::spawn(move || {
                let end = clock::now() + SOON;
                while clock::now() < end {
                    if arrived(probe::handshake(address, name)?.fingerprint()) {
                        return Ok(clock::now());
                    }
                    thread::sleep(GLANCE);
                }
                anyhow::bail!("{address} doesn't serve it")
            })
        };
        Self(fleet.edges.iter().map(look).collect())
    }

    /// Seconds from `began` until the last of them.
    fn last_since(self, began: Timestamp) -> Result<f64> {
        let mut last = began;
        for thread in self.0 {
            let at = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            last = last.max(at);
        }
        Ok((last - began).as_secs_f64())
    }
}

fn prepare(fleet: &Fleet) -> Result<()> {
    for edge in &fleet.edges {
        let pair = Pair::expired(&[OLD.to_owned()])?;
        for (file, content) in [("fullchain", &pair.certificate), ("privkey", &pair.key)] {
            edge.write_as(&format!("{ON_EDGE}/{file}.pem"), content, 0o600)?;
        }
        edge.write(
            SITE,
            format!(
                "server {{\n    listen 443 ssl;\n    server_name {OLD};\n    ssl_certificate {ON_EDGE}/fullchain.pem;\n    \
                 ssl_certificate_key {ON_EDGE}/privkey.pem;\n    return 204;\n}}\n"
            ),
        )?;
        edge.shell("nginx -q -t; systemctl reload nginx")?;
        wait_for("the old way's vhost", SOON, || {
            let served = fleet.served(edge, OLD)?;
            ensure!(
                served.leaf.fingerprint == Fingerprint::of(&pair.certificate_der),
                "another certificate"
            );
            Ok::<_, anyhow::Error>(())
        })?;
        ssh::let_in(fleet, edge)?;
    }
    Ok(())
}

/// As it was before.
fn clear(fleet: &Fleet) -> Result<()> {
    for edge in &fleet.edges {
        edge.shell(&format!(
            "rm -rf {SITE} {ON_EDGE}; nginx -q -t; systemctl reload nginx"
        ))?;
        ssh::shut_out(fleet, edge)?;
    }
    fleet.fritz.shell(&format!("rm -rf {ON_FRITZ}")).map(drop)
}

fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values
        .get(values.len() / 2)
        .copied()
        .context("nothing was measured")
}
