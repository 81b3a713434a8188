//! A host whose certificates Debian's certbot made is taken over.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{Settings, Site, World, certbot::Certbot, story, wait_for};
use certwell_proto::Fingerprint;
use serde_json::Value;

use crate::SOON;

/// Of an operator's own, in nginx all along.
const STATIC: &str = "static.hachyderm.io";
/// A lineage as it comes.
const MEDIA: &str = "media.hachyderm.io";
/// Renewed thrice, with RSA keys.
const CDN: &str = "cdn.hachyderm.io";
/// Its private key is gone.
const BROKEN: &str = "broken.hachyderm.io";
/// Its renewal configuration is garbage.
const GARBLED: &str = "garbled.hachyderm.io";
const LINEAGES: [&str; 4] = [MEDIA, CDN, BROKEN, GARBLED];

#[test]
fn lineages_of_certbot_are_taken_over_and_certbot_does_no_harm() -> Result<()> {
    let settings = Settings {
        sites: vec![Site::new(STATIC, &[STATIC])],
        ..Settings::default().only(&["sally"])
    };
    story("certbot", &settings, |world| {
        let certbot = lineages(world)?;
        // A worker that nginx sent away may answer once more.
        wait_for("the inventory before anything of certwell's", SOON, || {
            listed(world, &certbot)
        })?;
        world.join_all()?;
        for lineage in LINEAGES {
            world.dns.set(lineage, &[world.net.host(0)])?;
        }
        let declared: String = LINEAGES
            .iter()
            .map(|name| format!("[certificate.\"{name}\"]\nhosts = [\"sally\"]\n"))
            .collect();
        world.issuer.declare("20-lineages", &declared)?;
        for lineage in LINEAGES {
            active(world, lineage)?;
        }
        let config = fs::read(world.host("sally")?.nginx.config())?;

        adopted(world, &certbot)?;
        harmless(world, &certbot)?;
        renewed(world)?;
        ordered_anew(world, &certbot)?;
        mended(world, &certbot)?;
        given_back(world, &certbot)?;
        let after = fs::read(world.host("sally")?.nginx.config())?;
        let text = String::from_utf8(after)?;
        for line in String::from_utf8(config)?.lines() {
            ensure!(text.contains(line), "a line of nginx's was changed: {line}");
        }
        Ok(())
    })
}

/// Debian's certbot makes them, and nginx serves two.
fn lineages(world: &mut World) -> Result<Certbot> {
    let directory = world.host("sally")?.certbot();
    let certbot = Certbot::new(world, &directory)?;
    for lineage in LINEAGES {
        world.dns.set(lineage, &[certbot.address()])?;
        let kind = if lineage == CDN { "rsa" } else { "ecdsa" };
        certbot.order(lineage, kind)?.success("certbot certonly")?;
    }
    for _ in 0..3 {
        certbot.renew_now(CDN)?.success("certbot renew")?;
    }
    fs::remove_file(certbot.archive(BROKEN).join("privkey1.pem"))?;
    fs::write(certbot.conf(GARBLED), "\u{1}garbage\n")?;
    let sally = world.host_mut("sally")?;
    for lineage in [MEDIA, CDN] {
        let site = Site::new(lineage, &[lineage]).with_files_in(&certbot.live(lineage));
        sally.nginx.add_site(site)?;
    }
    sally.nginx.reload()?;
    serves(world, MEDIA, certbot.leaf(MEDIA, 1)?)?;
    serves(world, CDN, certbot.leaf(CDN, 4)?)?;
    Ok(certbot)
}

fn serves(world: &World, name: &str, leaf: Fingerprint) -> Result<()> {
    wait_for(&format!("{name} with another leaf"), SOON, || {
        let served = world.host("sally")?.served(name)?.fingerprint();
        ensure!(served == leaf, "{served} is served, not {leaf}");
        Ok(())
    })
}

fn active(world: &World, name: &str) -> Result<()> {
    wait_for(&format!("generation 1 of {name}"), SOON, || {
        let target = fs::read_link(world.host("sally")?.live(name))?;
        ensure!(target.ends_with("1"), "{}", target.display());
        anyhow::Ok(())
    })
}

/// What certwell has of this name on the host.
fn ours(world: &World, name: &str) -> Result<Fingerprint> {
    let text = fs::read(world.host("sally")?.live(name).join("cert.pem"))?;
    let leaf = certwell_proto::pem::read_certificates(&text)?;
    Ok(Fingerprint::of(leaf.first().context("no certificate")?))
}

fn inventory(world: &World) -> Result<Vec<Value>> {
    let output = world
        .host("sally")?
        .agent_command(&["inventory", "--json"])?
        .success("inventory")?;
    ensure!(!output.stdout.contains("PRIVATE"), "a key was printed");
    let document: Value = serde_json::from_str(&output.stdout)?;
    let rows = document["certificates"].as_array();
    Ok(rows.context("no certificates")?.clone())
}

/// The one row that is about this name.
fn row(rows: &[Value], name: &str) -> Result<Value> {
    let mut found = rows.iter().filter(|row| {
        row["names"]
            .as_array()
            .is_some_and(|names| names[..] == [name])
    });
    let row = found.next().with_context(|| format!("no row for {name}"))?;
    ensure!(found.next().is_none(), "two rows for {name}: {rows:#?}");
    Ok(row.clone())
}

/// Before anything of certwell's is there, without an enrollment.
fn listed(world: &World, certbot: &Certbot) -> Result<()> {
    let rows = inventory(world)?;
    ensure!(rows.len() == 5, "{rows:#?}");
    let ends: Vec<&str> = rows
        .iter()
        .map(|row| row["not_after"].as_str().unwrap_or_default())
        .collect();
    ensure!(ends.is_sorted(), "{ends:?}");
    for (name, kind, served, number) in [
        (MEDIA, "certbot", "yes", 1),
        (CDN, "certbot", "yes", 4),
        (BROKEN, "certbot", "unused", 1),
        (GARBLED, "certbot", "unused", 1),
    ] {
        let row = row(&rows, name)?;
        ensure!(
            row["managed_by"]["kind"] == kind && row["served"] == served,
            "{row:#}"
        );
        let leaf = certbot.leaf(name, number)?.to_string();
        ensure!(row["fingerprint"] == leaf.as_str(), "{row:#}");
        ensure!(
            row["issuer"]
                .as_str()
                .is_some_and(|issuer| issuer.contains("Pebble")),
            "{row:#}"
        );
        let problems = row["problems"].to_string();
        let word = match name {
            BROKEN => "privkey1.pem, which is gone",
            GARBLED => "of no use to certbot",
            _ => "[]",
        };
        ensure!(problems.contains(word), "{name}: {problems}");
    }
    let own = row(&rows, STATIC)?;
    ensure!(
        own["managed_by"]["kind"] == "nobody" && own["problems"].to_string().contains("expired"),
        "{own:#}"
    );
    let sally = world.host("sally")?;
    let used = &row(&rows, MEDIA)?["used_by"][0];
    ensure!(
        used["listeners"][0] == sally.https().to_string().as_str()
            && used["names"][0] == MEDIA
            && used["at"]
                .as_str()
                .is_some_and(|at| at.contains("nginx.conf:")),
        "{used:#}"
    );
    Ok(())
}

fn adopted(world: &World, certbot: &Certbot) -> Result<()> {
    let sally = world.host("sally")?;
    for lineage in [MEDIA, CDN] {
        let said = sally
            .agent_command(&["adopt", lineage])?
            .success("certwell-agent adopt")?;
        ensure!(
            said.stdout.contains("1 listener and name"),
            "{}",
            said.stdout
        );
        ensure!(
            sally.served(lineage)?.fingerprint() == ours(world, lineage)?,
            "{lineage}: another leaf is served"
        );
        ensure!(certbot.live(lineage).is_symlink());
        let row = row(&inventory(world)?, lineage)?;
        ensure!(
            row["managed_by"]["kind"] == "certwell"
                && row["managed_by"]["adopted"][0] == lineage
                && row["served"] == "yes",
            "{row:#}"
        );
    }
    Ok(())
}

/// What lies below a directory: paths with contents, or where they lead.
fn contents(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                waiting.push(path);
            } else if meta.is_symlink() {
                let target = fs::read_link(&path)?.display().to_string();
                found.insert(path.display().to_string(), target.into_bytes());
            } else {
                found.insert(path.display().to_string(), fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// certbot goes on with what is its own, and neither sees nor touches what was taken over.
fn harmless(world: &World, certbot: &Certbot) -> Result<()> {
    let sally = world.host("sally")?;
    let store = sally.agent_state().join("store");
    let (ours_before, archive) = (contents(&store)?, contents(&certbot.archive(MEDIA))?);
    let link = fs::read_link(certbot.live(MEDIA))?;
    // The broken ones are the only ones left to it, and it says so, as it did before.
    let output = certbot.run(&["renew", "--force-renewal"])?;
    let said = [output.stdout, output.stderr].concat();
    for lineage in [MEDIA, CDN] {
        ensure!(!said.contains(lineage), "certbot sees {lineage}: {said}");
    }
    ensure!(said.contains(BROKEN) && said.contains(GARBLED), "{said}");
    let listed = certbot.run(&["certificates"])?;
    ensure!(
        listed.code == 0 && !listed.stdout.contains(MEDIA),
        "{listed:?}"
    );
    ensure!(
        contents(&store)? == ours_before,
        "certwell's store was touched"
    );
    ensure!(
        contents(&certbot.archive(MEDIA))? == archive,
        "the archive was touched"
    );
    ensure!(fs::read_link(certbot.live(MEDIA))? == link);
    ensure!(sally.served(MEDIA)?.fingerprint() == ours(world, MEDIA)?);
    Ok(())
}

/// The next generation is served through the adopted path, and the issuer knows it.
fn renewed(world: &World) -> Result<()> {
    let before = ours(world, MEDIA)?;
    world
        .issuer
        .certwell_within(&["certificates", "renew", MEDIA, "--wait"], SOON)?
        .success("certwell certificates renew --wait")?;
    world.converged(MEDIA, 2, SOON)?;
    let after = ours(world, MEDIA)?;
    ensure!(after != before, "it wasn't renewed");
    ensure!(world.host("sally")?.served(MEDIA)?.fingerprint() == after);
    Ok(())
}

/// Somebody asks certbot for the same name all the same.
fn ordered_anew(world: &World, certbot: &Certbot) -> Result<()> {
    world.dns.set(MEDIA, &[certbot.address()])?;
    let link = fs::read_link(certbot.live(MEDIA))?;
    let first = certbot.order(MEDIA, "ecdsa")?;
    let said = [first.stdout, first.stderr].concat();
    ensure!(
        first.code != 0 && said.contains("archive directory exists"),
        "{said}"
    );
    ensure!(
        fs::metadata(certbot.conf(MEDIA))?.len() == 0,
        "no empty file is left"
    );
    let second = certbot.order(MEDIA, "ecdsa")?;
    let numbered = format!("{MEDIA}-0001");
    ensure!(
        second.code == 0 && certbot.live(&numbered).is_dir(),
        "{second:?}"
    );
    ensure!(fs::read_link(certbot.live(MEDIA))? == link);
    ensure!(world.host("sally")?.served(MEDIA)?.fingerprint() == ours(world, MEDIA)?);
    // The lineage beside is certbot's, and nginx doesn't use it.
    let rows = inventory(world)?;
    let beside = rows
        .iter()
        .find(|row| row["managed_by"]["name"] == numbered.as_str())
        .context("the new lineage isn't listed")?;
    ensure!(beside["served"] == "unused", "{beside:#}");
    Ok(())
}

/// The lineage whose key is gone: nginx refuses it until certwell's takes its place. The operator's new server block
/// is loaded by the operator.
fn mended(world: &mut World, certbot: &Certbot) -> Result<()> {
    let site = Site::new(BROKEN, &[BROKEN]).with_files_in(&certbot.live(BROKEN));
    let sally = world.host_mut("sally")?;
    sally.nginx.add_site(site)?;
    ensure!(
        sally.nginx.test()?.code != 0,
        "nginx takes a pair without a key"
    );
    let first = sally.agent_command(&["adopt", BROKEN])?;
    ensure!(
        first.code == 3 && first.stderr.contains("an edit seems to be in progress"),
        "{first:?}"
    );
    ensure!(sally.nginx.test()?.code == 0);
    sally.nginx.reload()?;
    serves(world, BROKEN, ours(world, BROKEN)?)?;
    let sally = world.host("sally")?;
    sally
        .agent_command(&["adopt", BROKEN])?
        .success("certwell-agent adopt")?;
    serves(world, BROKEN, ours(world, BROKEN)?)
}

fn given_back(world: &World, certbot: &Certbot) -> Result<()> {
    let sally = world.host("sally")?;
    for (lineage, number) in [(MEDIA, 1), (CDN, 4)] {
        sally
            .agent_command(&["adopt", lineage, "--undo"])?
            .success("certwell-agent adopt --undo")?;
        ensure!(
            sally.served(lineage)?.fingerprint() == certbot.leaf(lineage, number)?,
            "{lineage}: another leaf is served"
        );
    }
    // certbot renews it again, and nginx takes that up.
    world.dns.set(CDN, &[certbot.address()])?;
    certbot.renew_now(CDN)?.success("certbot renew")?;
    sally.nginx.reload()?;
    serves(world, CDN, certbot.leaf(CDN, 5)?)
}
