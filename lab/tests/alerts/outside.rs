//! What only a look from outside shows, made by an operator's edit, a change of DNS, or an nginx that is off; and that it is
//! told when it is over.

use std::{fs, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use certwell_issuer::plan::alert::Class;
use certwell_lab::{Host, MEDIA, Settings, Site, World, story, wait_for};

use crate::{
    SOON,
    classes::{comes, comes_of, ends, living, now, taken_up},
    ear::{Ear, Heard, Speed, tell_all},
    media_on_sally, on_sally, sally,
};

/// Another certificate of ours, on the same host.
const OTHER: &str = "social.hachyderm.io";

/// One host, which is looked at from outside; generation 2 is seen there, and nothing is found wrong.
fn watched(
    name: &str,
    settings: &Settings,
    then: impl FnOnce(&mut World, &Ear) -> Result<()>,
) -> Result<()> {
    story(name, settings, |world| {
        let ear = Ear::listen(world, "hook", 0)?;
        tell_all(world, &[&ear], &Speed::default(), "")?;
        taken_up(world, ear.name)?;
        on_sally(world)?;
        // The placeholder was the last that was seen; beside the first generation a stranger is taken for it.
        seen(world, 1)?;
        let renew = ["certificates", "renew", MEDIA];
        world.issuer.certwell(&renew)?.success("renew")?;
        seen(world, 2)?;
        then(world, &ear)
    })
}

fn seen(world: &World, generation: u64) -> Result<()> {
    wait_for(&format!("generation {generation} seen"), SOON, || {
        let status = world.issuer.status()?;
        let media = status.certificate(MEDIA).context("it isn't declared")?;
        let host = media.host("sally").context("not on sally")?;
        let seen = host.facts.seen.as_ref().context("not seen")?;
        ensure!(seen.generation == Some(generation), "{seen:?}");
        ensure!(media.findings.is_empty(), "{:?}", media.findings);
        Ok(())
    })
}

/// An operator's edit of nginx's configuration, and the reload; what was there before.
fn edit(host: &Host, change: impl FnOnce(&str) -> String) -> Result<String> {
    let before = fs::read_to_string(host.nginx.config())?;
    let after = change(&before);
    ensure!(after != before, "nothing to change in {before}");
    save(host, &after)?;
    Ok(before)
}

fn save(host: &Host, text: &str) -> Result<()> {
    host.nginx.replace_config(text)?;
    let test = host.nginx.test()?;
    ensure!(test.code == 0, "{test:?}");
    host.nginx.reload()
}

/// Waits for the alert of an edit and, the edit undone, for its end.
fn told_and_over(
    world: &World,
    ear: &Ear,
    class: Class,
    change: impl FnOnce(&str) -> String,
) -> Result<Heard> {
    let host = world.host("sally")?;
    let mut before = String::new();
    let told = comes_of(ear, class, || {
        before = edit(host, change)?;
        Ok(())
    })?;
    ensure!(told.text("subject") == MEDIA, "{told:?}");
    ensure!(told.hosts() == ["sally"], "{told:?}");
    ensure!(told.severity == "page", "users are refused: {told:?}");
    save(host, &before)?;
    ends(ear, &told)?;
    Ok(told)
}

#[test]
pub(crate) fn another_hands_certificate() -> Result<()> {
    watched("alert-stranger", &sally(), |world, ear| {
        let host = world.host("sally")?;
        let (live, other) = (host.live(MEDIA), host.nginx.prefix().join("other"));
        let stranger = rcgen::generate_simple_self_signed(vec![MEDIA.to_owned()])?;
        fs::create_dir(&other)?;
        fs::write(other.join("fullchain.pem"), stranger.cert.pem())?;
        fs::write(
            other.join("privkey.pem"),
            stranger.signing_key.serialize_pem(),
        )?;
        let told = told_and_over(world, ear, Class::SeenStranger, |config| {
            config.replace(&live.display().to_string(), &other.display().to_string())
        })?;
        ensure!(told.text("cause").contains("isn't of certwell"), "{told:?}");
        Ok(())
    })
}

#[test]
pub(crate) fn a_name_that_leads_elsewhere() -> Result<()> {
    watched("alert-elsewhere", &sally(), |world, ear| {
        let ours = world.host("sally")?.https().ip();
        let elsewhere: IpAddr = world.net.ip(199);
        let told = comes_of(ear, Class::SeenElsewhere, || {
            world.dns.set(MEDIA, &[ours, elsewhere])
        })?;
        ensure!(told.text("subject") == MEDIA, "{told:?}");
        ensure!(
            told.text("title").contains(&elsewhere.to_string()),
            "{told:?}"
        );
        world.dns.set(MEDIA, &[ours])?;
        ends(ear, &told).map(drop)
    })
}

#[test]
fn a_cdn_before_a_name_is_an_alert_until_its_table_says_that_dns_is_left_out() -> Result<()> {
    watched("alert-cdn", &sally(), |world, ear| {
        let cdn: IpAddr = world.net.ip(199);
        let told = comes_of(ear, Class::SeenElsewhere, || world.dns.set(MEDIA, &[cdn]))?;
        ensure!(
            told.text("next").contains("Write probe-dns = false in"),
            "{told:?}"
        );
        let declared = media_on_sally() + "probe-dns = false\n";
        world.issuer.declare("20-media", &declared)?;
        ends(ear, &told)?;
        let status = world.issuer.status()?;
        let media = status.certificate(MEDIA).context("it isn't declared")?;
        ensure!(media.findings.is_empty(), "{:?}", media.findings);
        // The edge itself is looked at all the same: by its address, and told when it is off.
        world.host_mut("sally")?.nginx.stop();
        let down = comes(ear, Class::SeenDown, now())?;
        ensure!(down.hosts() == ["sally"], "{down:?}");
        let elsewhere = |heard: &&Heard| heard.class == Class::SeenElsewhere.slug();
        let heard = ear.heard();
        let last = heard.iter().rfind(elsewhere).context("none was heard")?;
        ensure!(last.state == "resolved", "told again: {last:?}");
        Ok(())
    })
}

#[test]
pub(crate) fn another_server_block_that_answers() -> Result<()> {
    let settings = Settings {
        // The first one answers for all names that no other has.
        sites: vec![Site::new(OTHER, &[OTHER]), Site::new(MEDIA, &[MEDIA])],
        ..sally()
    };
    watched("alert-vhost", &settings, |world, ear| {
        let both = media_on_sally() + &media_on_sally().replace(MEDIA, OTHER);
        world.issuer.declare("20-media", &both)?;
        world.converged(OTHER, 1, SOON)?;
        let told = told_and_over(world, ear, Class::SeenOtherVhost, |config| {
            let name = format!("server_name {MEDIA};");
            let (before, after) = config.rsplit_once(&name).unwrap_or_default();
            format!("{before}server_name mistyped.invalid;{after}")
        })?;
        ensure!(told.text("cause").contains(OTHER), "{told:?}");
        Ok(())
    })
}

#[test]
pub(crate) fn a_chain_without_its_intermediate() -> Result<()> {
    watched("alert-chain", &sally(), |world, ear| {
        const END: &str = "-----END CERTIFICATE-----\n";
        let host = world.host("sally")?;
        let (live, alone) = (
            host.live(MEDIA).join("fullchain.pem"),
            host.nginx.prefix().join("cert.pem"),
        );
        let chain = fs::read_to_string(&live)?;
        let (leaf, rest) = chain.split_once(END).context("no certificate")?;
        ensure!(rest.contains(END), "it has no intermediate: {chain}");
        fs::write(&alone, format!("{leaf}{END}"))?;
        told_and_over(world, ear, Class::SeenChain, |config| {
            config.replace(&live.display().to_string(), &alone.display().to_string())
        })?;
        Ok(())
    })
}

#[test]
pub(crate) fn a_copy_of_an_older_generation() -> Result<()> {
    watched("alert-lagging", &living(240), |world, ear| {
        let host = world.host("sally")?;
        let (live, copy) = (host.live(MEDIA), host.nginx.prefix().join("copy"));
        fs::create_dir(&copy)?;
        for file in ["fullchain.pem", "privkey.pem"] {
            fs::copy(live.join(file), copy.join(file))?;
        }
        // Where its agent looks, all is well: at a block for a proxy, say, beside the one that users get.
        let beside = format!(
            "server {{ listen {}:{} ssl; server_name {MEDIA}; ssl_certificate {live}/fullchain.pem; ssl_certificate_key {live}/privkey.pem; }}\n}}\n",
            host.https().ip(),
            host.https().port() + 1000,
            live = live.display()
        );
        let before = edit(host, |config| {
            let config = config.replace(&live.display().to_string(), &copy.display().to_string());
            let (blocks, _) = config.rsplit_once('}').unwrap_or_default();
            blocks.to_owned() + &beside
        })?;
        let told = comes_of(ear, Class::NotServed, || {
            let renew = ["certificates", "renew", MEDIA];
            world.issuer.certwell(&renew)?.success("renew").map(drop)
        })?;
        ensure!(told.hosts() == ["sally"], "{told:?}");
        let title = told.text("title");
        ensure!(
            title.contains("is not seen from outside on sally"),
            "{title}"
        );
        world.converged(MEDIA, 3, SOON)?;
        save(host, &before)?;
        ends(ear, &told).map(drop)
    })
}

#[test]
pub(crate) fn an_nginx_that_is_off() -> Result<()> {
    watched("alert-down", &sally(), |world, ear| {
        let nginx = &mut world.host_mut("sally")?.nginx;
        let told = comes_of(ear, Class::SeenDown, || {
            nginx.stop();
            Ok(())
        })?;
        ensure!(told.hosts() == ["sally"], "{told:?}");
        ensure!(told.severity == "page", "nobody answers: {told:?}");
        nginx.start()?;
        ends(ear, &told).map(drop)
    })
}

#[test]
pub(crate) fn images_that_do_not_load() -> Result<()> {
    watched("alert-url", &sally(), |world, ear| {
        let url = format!("https://{MEDIA}/image.png");
        let declared =
            media_on_sally() + &format!("probe-url = {{ url = \"{url}\", status = 200 }}\n");
        world.issuer.declare("20-media", &declared)?;
        wait_for("the URL to be looked at", SOON, || {
            let status = world.issuer.status()?;
            let media = status.certificate(MEDIA).context("it isn't declared")?;
            let host = media.host("sally").context("not on sally")?;
            let mut urls = host.sightings.iter().filter_map(|s| s.url.as_ref());
            ensure!(urls.any(|url| url.status == Some(200)), "{host:?}");
            Ok(())
        })?;
        let told = told_and_over(world, ear, Class::UrlBroken, |config| {
            config.replace("location / { return 200", "location / { return 404")
        })?;
        let cause = told.text("cause");
        ensure!(cause.contains(&url) && cause.contains("404"), "{cause}");
        Ok(())
    })
}
