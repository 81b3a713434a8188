//! The fleet from outside: what the issuer and a probe elsewhere see, and what they find wrong.

use std::{fs, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    FLEET, MEDIA, MEDIA_DECLARED, Settings, World, status::CertificateStatus, story, wait_for,
};

use crate::{SOON, first_issuance};

fn media(world: &World) -> Result<CertificateStatus> {
    let status = world.issuer.status()?;
    status
        .certificate(MEDIA)
        .cloned()
        .context("it isn't declared")
}

/// Waits until all four hosts are seen with this generation, and nothing is found wrong.
fn all_well(world: &World, generation: u64) -> Result<()> {
    wait_for(
        &format!("generation {generation} seen everywhere"),
        SOON,
        || {
            let media = media(world)?;
            for host in &media.hosts {
                let seen = host
                    .facts
                    .seen
                    .as_ref()
                    .with_context(|| format!("{} isn't seen", host.host))?;
                ensure!(
                    seen.generation == Some(generation),
                    "{}: {seen:?}",
                    host.host
                );
                ensure!(
                    host.sightings.iter().any(|s| s.by_dns)
                        && host.sightings.iter().any(|s| !s.by_dns)
                );
                for sighting in host
                    .sightings
                    .iter()
                    .filter(|sighting| sighting.state == "leaf")
                {
                    ensure!(sighting.chain_problem.is_none(), "{sighting:?}");
                }
            }
            ensure!(media.findings.is_empty(), "{:?}", media.findings);
            Ok(())
        },
    )
}

/// Waits until just these findings are told, by kind and host.
fn found(world: &World, expected: &[(&str, Option<&str>)]) -> Result<Vec<String>> {
    wait_for(&format!("findings {expected:?}"), SOON, || {
        let findings = media(world)?.findings;
        let mut told: Vec<_> = findings
            .iter()
            .map(|f| (f.kind.as_str(), f.host.as_deref()))
            .collect();
        told.sort_unstable();
        ensure!(told == expected, "{findings:?}");
        Ok(findings.into_iter().map(|finding| finding.text).collect())
    })
}

fn hosts(more: &str) -> String {
    let table = |(name, labels): &(&str, &[&str])| format!("[host.{name}]\nlabels = {labels:?}\n");
    FLEET.iter().map(table).collect::<String>() + more
}

#[test]
fn four_hosts_are_seen_and_each_fault_is_found_and_gone_again() -> Result<()> {
    story("seen", &Settings::default(), |world| {
        first_issuance(world)?;
        all_well(world, 1)?;
        // From the second generation on no host can be on its way from the placeholder to its first.
        let renew = ["certificates", "renew", MEDIA];
        world.issuer.certwell(&renew)?.success("renew")?;
        all_well(world, 2)?;

        // A stranger on one edge, which its agent doesn't know of.
        let esme = world.host_mut("esme")?;
        esme.stop_agent();
        let link = esme.live(MEDIA);
        let ours = fs::read_link(&link)?;
        let aside = link.with_file_name("aside");
        fs::create_dir(&aside)?;
        let stranger = rcgen::generate_simple_self_signed(vec![MEDIA.to_owned()])?;
        fs::write(aside.join("fullchain.pem"), stranger.cert.pem())?;
        fs::write(
            aside.join("privkey.pem"),
            stranger.signing_key.serialize_pem(),
        )?;
        fs::remove_file(&link)?;
        std::os::unix::fs::symlink(&aside, &link)?;
        esme.nginx.reload()?;
        let told = found(world, &[("stranger", Some("esme"))])?;
        ensure!(told[0].contains("isn't of certwell"), "{told:?}");
        fs::remove_file(&link)?;
        std::os::unix::fs::symlink(&ours, &link)?;
        let esme = world.host_mut("esme")?;
        esme.nginx.reload()?;
        esme.start_agent()?;
        all_well(world, 2)?;

        // A name that leads elsewhere, and nowhere.
        let all = world.addresses(|_| true);
        let IpAddr::V4(v4) = all[0] else {
            anyhow::bail!("no IPv4 world")
        };
        let [one, two, three, _] = v4.octets();
        let nobody = IpAddr::from([one, two, three, 199]);
        world.dns.set(MEDIA, &[all[0], nobody])?;
        let told = found(world, &[("leads-elsewhere", None)])?;
        ensure!(told[0].contains(&nobody.to_string()), "{told:?}");
        world.dns.set(MEDIA, &[])?;
        found(world, &[("unresolved", None)])?;
        world.dns.set(MEDIA, &all)?;
        all_well(world, 2)?;

        // A URL that answers otherwise than it should, on every edge; and as it should.
        let with = |status: u16| {
            format!(
                "{MEDIA_DECLARED}probe-url = {{ url = \"https://{MEDIA}/nothing\", status = {status} }}\n"
            )
        };
        world.issuer.declare("20-media", &with(299))?;
        let on = |name| ("url", Some(name));
        found(
            world,
            &[
                on("cdn-frankfurt-1"),
                on("cdn-fremont-1"),
                on("esme"),
                on("sally"),
            ],
        )?;
        let answered = media(world)?.hosts[0]
            .sightings
            .iter()
            .find_map(|s| s.url.clone());
        let status = answered.and_then(|url| url.status).context("no status")?;
        world.issuer.declare("20-media", &with(status))?;
        all_well(world, 2)?;

        // An edge that is off is down from outside; the others are as before.
        world.host_mut("sally")?.nginx.stop();
        let told = found(world, &[("down", Some("sally"))])?;
        ensure!(told[0].contains("doesn't answer"), "{told:?}");
        Ok(())
    })
}

#[test]
fn a_host_that_is_nothing_but_a_probe_sees_in_the_place_of_the_issuer() -> Result<()> {
    let mut settings = Settings::default();
    settings.hosts.push(("fritz".to_owned(), Vec::new()));
    story("probe", &settings, |world| {
        world.host_mut("fritz")?.nginx.stop();
        let edges = world.addresses(|host| host.name != "fritz");
        world.dns.set(MEDIA, &edges)?;
        first_issuance_on_edges(world)?;
        all_well(world, 1)?;
        // The issuer looks no more; nobody does.
        world.issuer.stop_looking()?;
        wait_for("nothing is seen", SOON, || {
            let media = media(world)?;
            ensure!(media.hosts.iter().all(|host| host.facts.seen.is_none()));
            Ok(())
        })?;
        world
            .issuer
            .declare("10-hosts", &hosts("[host.fritz]\nprobe = true\n"))?;
        all_well(world, 1)?;
        world.host_mut("sally")?.nginx.stop();
        let told = found(world, &[("down", Some("sally"))])?;
        ensure!(told[0].contains("(seen by the probe on fritz)"), "{told:?}");
        wait_for("what fritz says of itself", SOON, || {
            let said = world.host("fritz")?.agent_command(&["status"])?;
            let line = "probe: 3 of 4 addresses of the fleet answered";
            ensure!(said.stdout.contains(line), "{}", said.stdout);
            ensure!(said.code == 0, "{said:?}");
            Ok(())
        })?;
        // Another host's agent has nothing to look at.
        let said = world.host("cdn-fremont-1")?.agent_command(&["status"])?;
        ensure!(!said.stdout.contains("probe:"), "{}", said.stdout);
        world.host_mut("sally")?.nginx.start()?;
        all_well(world, 1)
    })
}

fn first_issuance_on_edges(world: &mut World) -> Result<()> {
    world.join_all()?;
    world.issuer.declare("20-media", MEDIA_DECLARED)?;
    world.all_serve_new(MEDIA, None, SOON, |host| host.name != "fritz")?;
    Ok(())
}

#[test]
fn a_renewal_is_seen_within_seconds_and_is_no_finding_on_its_way() -> Result<()> {
    story("seen-renewal", &Settings::default(), |world| {
        let before = first_issuance(world)?;
        all_well(world, 1)?;
        world
            .issuer
            .certwell(&["certificates", "renew", MEDIA])?
            .success("certwell certificates renew")?;
        world.all_serve_new(MEDIA, Some(before.fingerprint()), SOON, |_| true)?;
        ensure!(
            media(world)?.findings.is_empty(),
            "{:?}",
            media(world)?.findings
        );
        wait_for("generation 2 seen", Duration::from_secs(30), || {
            all_seen(world, 2)
        })
    })
}

fn all_seen(world: &World, generation: u64) -> Result<()> {
    let media = media(world)?;
    ensure!(media.findings.is_empty(), "{:?}", media.findings);
    for host in media.hosts {
        let seen = host.facts.seen.context("not seen")?;
        ensure!(
            seen.generation == Some(generation),
            "{}: {seen:?}",
            host.host
        );
    }
    Ok(())
}
