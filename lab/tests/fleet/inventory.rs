//! The sprawl: what certbot made, what was copied by hand, what nobody uses any more.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA, Settings, Site, World,
    certbot::Certbot,
    receivers::{Answer, HttpReceiver},
    story, wait_for,
};
use serde_json::Value;

use crate::{SOON, media_on};

/// Of certbot's, served by sally, and copied to esme by hand.
const COPIED: &str = "static.hachyderm.io";
/// Of certbot's, and nothing uses it.
const DEAD: &str = "old.hachyderm.io";

#[test]
fn certificates_that_sprawled_over_the_hosts_are_told_in_one_place() -> Result<()> {
    let settings = Settings::default().only(&["sally", "esme"]);
    story("inventory", &settings, |world| {
        let directory = world.host("sally")?.certbot();
        let certbot = Certbot::new(world, &directory)?;
        for lineage in [COPIED, DEAD] {
            world.dns.set(lineage, &[certbot.address()])?;
            certbot
                .order(lineage, "ecdsa")?
                .success("certbot certonly")?;
        }
        let sally = world.host_mut("sally")?;
        let site = Site::new(COPIED, &[COPIED]).with_files_in(&certbot.live(COPIED));
        sally.nginx.add_site(site)?;
        sally.nginx.reload()?;
        world.join_all()?;
        let declared = media_on(&["sally", "esme"]);
        world.issuer.declare("20-media", &declared)?;
        world.all_serve_new(MEDIA, None, SOON, |_| true)?;
        wait_for("the inventory of sally", SOON, || {
            let all = inventory(world)?;
            let copied = one(&all, COPIED)?;
            ensure!(places(copied) == ["sally certbot yes"], "{copied:#}");
            let dead = one(&all, DEAD)?;
            ensure!(places(dead) == ["sally certbot unused"], "{dead:#}");
            ensure!(dead["dead"] == true, "{dead:#}");
            let media = one(&all, MEDIA)?;
            let expected = ["esme certwell yes", "sally certwell yes"];
            ensure!(places(media) == expected, "{media:#}");
            Ok(())
        })?;

        // By hand to another host, as it was done then: nginx's configuration changes there, and the issuer knows.
        let copy = world.directory().join("copied");
        fs::create_dir_all(&copy)?;
        for file in ["fullchain.pem", "privkey.pem"] {
            fs::copy(certbot.live(COPIED).join(file), copy.join(file))?;
        }
        let esme = world.host_mut("esme")?;
        let site = Site::new(COPIED, &[COPIED]).with_files_in(&copy);
        esme.nginx.add_site(site)?;
        esme.nginx.reload()?;
        wait_for("the copy on esme", SOON, || {
            let all = inventory(world)?;
            let copied = one(&all, COPIED)?;
            let expected = ["esme nobody yes", "sally certbot yes"];
            ensure!(places(copied) == expected, "{copied:#}");
            ensure!(copied["unmanaged"] == true, "{copied:#}");
            Ok(())
        })?;
        // No timer runs this certbot: its lineages aren't renewed by themselves, and nothing keeps their names.
        let renews = one(&inventory(world)?, COPIED)?["places"][1]["managed_by"]["renews"].clone();
        let mut expected = BTreeSet::from([DEAD]);
        if renews == false {
            expected.insert(COPIED);
        }
        let domains = world
            .issuer
            .certwell(&["inventory", "--domains"])?
            .success("--domains")?;
        let found: BTreeSet<&str> = domains.stdout.lines().collect();
        ensure!(found == expected, "{found:?}, not {expected:?}");
        let text = world
            .issuer
            .certwell(&["inventory"])?
            .success("inventory")?;
        let words: Vec<&str> = text.stdout.split_whitespace().collect();
        ensure!(
            words.join(" ").contains("dead: no server block uses it"),
            "{}",
            text.stdout
        );

        sent(world)?;

        let retired = ["hosts", "retire", "sally", "--yes"];
        world.issuer.certwell(&retired)?.success("retire")?;
        let all = inventory(world)?;
        ensure!(
            all.iter()
                .all(|one| !places(one).iter().any(|p| p.starts_with("sally"))),
            "{all:#?}"
        );
        ensure!(one(&all, DEAD).is_err(), "{all:#?}");
        Ok(())
    })
}

/// As the post-mortem asked: to where people talk.
fn sent(world: &World) -> Result<()> {
    let receiver = HttpReceiver::start(world.net.receiver(0))?;
    let url = receiver.url("/hook");
    let hook = format!("[notifier.hook]\ntype = \"webhook\"\nurl = \"{url}\"\n");
    world.issuer.declare("30-hook", &hook)?;
    wait_for("the notifier", SOON, || {
        world
            .issuer
            .certwell(&["inventory", "--send", "hook"])?
            .success("--send")
    })?;
    // Alerts go there too.
    let mut texts = receiver.received();
    texts.retain(|received| received.field("kind") == "text");
    ensure!(texts.len() == 1, "{}", texts.len());
    let text = texts[0].field("text");
    for words in [DEAD, "dead: no server block uses it", "nobody renews it"] {
        ensure!(text.contains(words), "no {words:?} in {text}");
    }
    receiver.answer(Answer::Status(500, "no".to_owned()));
    let refused = world.issuer.certwell(&["inventory", "--send", "hook"])?;
    ensure!(refused.code == 5, "{refused:?}");
    let unknown = world.issuer.certwell(&["inventory", "--send", "nobody"])?;
    ensure!(unknown.code == 7, "{unknown:?}");
    Ok(())
}

fn inventory(world: &World) -> Result<Vec<Value>> {
    let told = world
        .issuer
        .certwell(&["inventory", "--json"])?
        .success("inventory")?;
    ensure!(!told.stdout.contains("PRIVATE"), "a key was printed");
    let told: Value = serde_json::from_str(&told.stdout)?;
    Ok(told["certificates"]
        .as_array()
        .context("no certificates")?
        .clone())
}

/// The certificate of this name alone.
fn one<'a>(all: &'a [Value], name: &str) -> Result<&'a Value> {
    let mut found = all
        .iter()
        .filter(|one| one["names"] == serde_json::json!([name]));
    let one = found
        .next()
        .with_context(|| format!("nothing of {name}: {all:#?}"))?;
    ensure!(found.next().is_none(), "two of {name}: {all:#?}");
    Ok(one)
}

/// Host, who sees to it, whether it is served.
fn places(one: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<String> = one["places"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|place| {
            let who = text(&place["managed_by"]["kind"]);
            format!("{} {who} {}", text(&place["host"]), text(&place["served"]))
        })
        .collect();
    found.sort();
    found
}
