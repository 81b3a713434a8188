//! Act 2: `media` is an alias of a name that the DNS answers with one edge, another one each time. The CA comes to
//! whichever it is told, one of them is powered off, and nobody touches the DNS.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};

use super::Stage;
use crate::{
    MEDIA,
    debian::{
        Fleet, Machine,
        fleet::SOON,
        world::{GEO, ZONE},
    },
    status::Event,
    wait::wait_for,
};

/// The edge that is powered off.
const DEAD: &str = "cdn-fremont-1";
/// So many edges must have been met by the CA, in at most so many renewals: that luck is against it has one chance in
/// a hundred thousand.
const MET: usize = 3;
const RENEWALS: u32 = 20;
/// With an edge off, renewals are asked for until so many were issued, and one had failed first, in at most so many
/// orders.
const ISSUED: usize = 3;
const ORDERS: usize = 40;
/// From one order's end to the next one's: the preflight's patience and the pause after a failure, each at most a tenth
/// of what is left of three minutes, and what a busy machine adds.
const NEXT: Duration = Duration::from_secs(120);

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    let mut dns = Dns::look(stage.fleet)?;
    stage.tell(format!("the DNS says: {}", dns.answer.trim()));
    let generation = landing(stage, &mut dns)?;

    stage.fleet.edge_mut(DEAD)?.pull_plug()?;
    stage.tell(format!(
        "{DEAD} loses its power; the DNS goes on to name it, to the CA as well"
    ));
    let orders = without_one(stage, &mut dns)?;
    ensure!(orders.newest > generation, "nothing newer was issued");
    let newest = stage
        .fleet
        .converged(MEDIA, orders.newest, SOON, |host| host != DEAD)?;
    stage.tell(format!("the other three serve generation {newest}"));

    stage.fleet.edge_mut(DEAD)?.boot()?;
    let newest = stage.fleet.converged(MEDIA, newest, SOON, |_| true)?;
    stage.tell(format!(
        "{DEAD} is powered on again, and serves generation {newest} like the others"
    ));
    dns.is_unchanged(stage.fleet)?;
    stage.figure(
        "looks at the DNS, its file and its answer the same each time",
        dns.looks,
    );
    stage.figure("orders with an edge off, issued", orders.issued);
    stage.figure(
        "orders with an edge off, failed, each with the edge named",
        orders.failed,
    );
    stage.figure(
        "longest from a failure to what the issuer then got by itself",
        format!("{:.1} s", orders.longest.as_secs_f32()),
    );
    Ok(())
}

/// What the DNS is, in its file and by its word.
struct Dns {
    file: String,
    answer: String,
    looks: usize,
}

impl Dns {
    fn look(fleet: &Fleet) -> Result<Self> {
        let ask = format!("kdig @127.0.0.1 -p 5300 +noall +answer {MEDIA} CNAME");
        let dns = Self {
            file: fleet.world.zone_file()?,
            answer: fleet.world.machine.shell(&ask)?,
            looks: 1,
        };
        ensure!(
            dns.answer.contains(&format!("CNAME\t{GEO}.")) && dns.file.contains("media CNAME geo"),
            "{MEDIA} is no alias of {GEO} in {ZONE}: {:?}",
            dns.answer
        );
        Ok(dns)
    }

    fn is_unchanged(&mut self, fleet: &Fleet) -> Result<()> {
        let now = Self::look(fleet)?;
        self.looks += now.looks;
        ensure!(now.file == self.file, "the zone's file was changed");
        ensure!(
            now.answer == self.answer,
            "the DNS answers {:?}, and before {:?}",
            now.answer,
            self.answer
        );
        Ok(())
    }
}

/// Renews until the CA has come to several edges.
fn landing(stage: &mut Stage<'_>, dns: &mut Dns) -> Result<u64> {
    let fleet = &*stage.fleet;
    let before = validations(fleet)?;
    let mut generation = fleet.converged(MEDIA, 1, SOON, |_| true)?;
    let mut renewals = 0;
    let met = loop {
        fleet.renew(MEDIA)?;
        generation = fleet.converged(MEDIA, generation + 1, SOON, |_| true)?;
        renewals += 1;
        dns.is_unchanged(fleet)?;
        let met: BTreeMap<String, usize> = validations(fleet)?
            .into_iter()
            .map(|(edge, count)| {
                let before = before.get(&edge).copied().unwrap_or_default();
                (edge, count - before)
            })
            .collect();
        if met.values().filter(|count| **count > 0).count() >= MET {
            break met;
        }
        ensure!(
            renewals < RENEWALS,
            "after {renewals} renewals the CA has come to these alone: {met:?}"
        );
    };
    let each: Vec<String> = met
        .iter()
        .map(|(edge, count)| format!("{edge} {count}"))
        .collect();
    stage.figure("renewals with all edges on", renewals);
    stage.figure("the CA's questions there", each.join(", "));
    Ok(generation)
}

/// How many of the CA's questions each edge's nginx answered, by its log.
fn validations(fleet: &Fleet) -> Result<BTreeMap<String, usize>> {
    let from = format!("{} ", fleet.world.machine.address);
    let count = |edge: &Machine| {
        let log = fs::read_to_string(edge.path("/var/log/nginx/access.log"))
            .with_context(|| format!("{}: the log of nginx", edge.name))?;
        let questions = log.lines().filter(|line| {
            line.starts_with(&from)
                && line.contains("\"GET /.well-known/acme-challenge/")
                && line.contains("\" 200 ")
        });
        Ok((edge.name.clone(), questions.count()))
    };
    fleet.edges.iter().map(count).collect()
}

/// What came of the orders.
#[derive(Default)]
struct Orders {
    issued: usize,
    failed: usize,
    newest: u64,
    /// From the first failure in a row to the end of it.
    longest: Duration,
}

/// Renews with an edge off: after what was issued a person asks for another, what failed is left to the issuer.
fn without_one(stage: &mut Stage<'_>, dns: &mut Dns) -> Result<Orders> {
    let fleet = &*stage.fleet;
    let mut seen = fleet.events()?.last().map_or(0, |event| event.id);
    let mut orders = Orders::default();
    let mut failing: Option<Timestamp> = None;
    let mut asked = false;
    while orders.issued < ISSUED || orders.failed == 0 || failing.is_some() {
        if !asked {
            fleet.renew(MEDIA)?;
            asked = true;
        }
        let end = wait_for("the end of an order", NEXT, || {
            let ended = |event: &Event| {
                event.id > seen
                    && event.certificate.as_deref() == Some(MEDIA)
                    && ["issued", "order-failed"].contains(&event.kind.as_str())
            };
            let events = fleet.events()?;
            events.into_iter().find(ended).context("none yet")
        })?;
        seen = end.id;
        let at: Timestamp = end.at.parse()?;
        dns.is_unchanged(fleet)?;
        if end.kind == "issued" {
            orders.issued += 1;
            orders.newest = end.generation.context("issued without a generation")?;
            stage.tell(format!("generation {} is issued", orders.newest));
            if let Some(since) = failing.take() {
                let took = at.duration_since(since).max(SignedDuration::ZERO);
                orders.longest = orders.longest.max(Duration::try_from(took)?);
            }
            asked = false;
        } else {
            orders.failed += 1;
            failing.get_or_insert(at);
            stage.tell(format!("failed: {}", end.text));
            is_named(fleet, &end)?;
        }
        ensure!(
            orders.issued + orders.failed < ORDERS,
            "of {ORDERS} orders with {DEAD} off {} were issued, {} failed",
            orders.issued,
            orders.failed
        );
    }
    Ok(orders)
}

/// The failure says who is in the way, and so do `certwell explain` and `certwell status`.
fn is_named(fleet: &Fleet, failure: &Event) -> Result<()> {
    ensure!(
        failure.text.contains(DEAD),
        "{DEAD} isn't named: {}",
        failure.text
    );
    // The CA's own words have the address that it met only where the network told it in time that nobody is there.
    for edge in fleet.edges.iter().filter(|edge| edge.name != DEAD) {
        for innocent in [edge.name.clone(), format!("{}:", edge.address)] {
            ensure!(
                !failure.text.contains(&innocent),
                "{innocent} is named, which is innocent: {}",
                failure.text
            );
        }
    }
    wait_for("status to name it", SOON, || {
        let explained = fleet.certwell(&["explain", MEDIA])?.stdout;
        let status = fleet.status()?;
        let host = status
            .certificate(MEDIA)
            .and_then(|certificate| certificate.host(DEAD))
            .context("not in status")?;
        let problem = host.problem.as_deref().unwrap_or_default();
        ensure!(
            explained.contains(DEAD) && problem.contains(DEAD),
            "explain: {explained}\nstatus: {} {problem}",
            host.state
        );
        Ok::<_, anyhow::Error>(())
    })
}
