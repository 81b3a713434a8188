//! The sections in an order in which they can happen to one fleet, what has to have happened before each of them, and
//! what it leads to.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA,
    debian::{
        Fleet, Machine,
        fleet::{self, FRITZ, SOON},
        world::ZONE,
    },
    wait::wait_for,
};

use crate::{
    chat::{self, Chat},
    page::{self, Section},
    player::{Player, was_typed},
};

const PAGE: &str = "docs/operations.md";
/// certbot's, at first.
const LINEAGE: &str = "sally.hachyderm.io";
/// As somebody left it, and how it is mended.
const BROKEN: &str = "server { listen 80; server_name gallery.hachyderm.io; return 404;\n";
const MEND: &str = "echo '}' >>";
const BACKUPS: &str = "/var/backups/certwell-issuer";
const AGENT: &str = "/var/lib/certwell-agent";

/// All of the page.
pub(crate) fn play(fleet: &mut Fleet) -> Result<()> {
    let sections = page::read(PAGE)?;
    let addresses = ["sally", "esme", "cdn-frankfurt-1", "cdn-fremont-1"]
        .map(|name| fleet.edge(name).map(|edge| edge.address));
    let [sally, esme, frankfurt, fremont] = addresses;
    let (sally, esme, frankfurt, fremont) = (sally?, esme?, frankfurt?, fremont?);
    for edge in &fleet.edges {
        carry(edge, &fleet.packages.agent)?;
    }
    fleet.world.lead_to(&[sally, esme])?;
    let chat = Chat::open()?;
    let table = before_all(fleet, &chat)?;
    chat.trusted_by(fleet.edge("sally")?)?;
    let mut player = Player::new(fleet, table);
    let mut played = Vec::new();
    let mut section = |title: &str| -> Result<&Section> {
        played.push(title.to_owned());
        let mut all = sections.iter();
        all.find(|section| section.title == title)
            .with_context(|| format!("{PAGE} has no section {title:?}"))
    };

    player.play(section("Install the issuer")?)?;
    let enroll = section("Enroll a host")?;
    player.play(enroll)?;
    player.play_for(enroll, Some(("sally", "esme")))?;
    player.play(section("Where nginx doesn't listen at port 80")?)?;
    player.play(section("Add a certificate")?)?;
    serves(&player, 2, &["sally", "esme"])?;

    player.play(section("Be told when something is wrong")?)?;
    chat.hears(&["test", "certwell"])?;
    chat.hears(&["drill: nothing is wrong"])?;
    chat.hears(&["sally", "test"])?;
    player.play(section("Look at it all")?)?;

    somebody_breaks_nginx(&player)?;
    player.play(section("What to do when an alert fires")?)?;
    serves(&player, 3, &["sally", "esme"])?;
    player.play(section("Logs")?)?;

    player.play(section("Try with the staging CA, then go to production")?)?;
    serves(&player, 5, &["sally", "esme"])?;

    certbot_has_a_lineage(&player)?;
    player.play(section("Take a host over from certbot")?)?;
    adopted(&player)?;

    player.play(section("Maintenance: keep hands off")?)?;
    player.play(section("Tell other programs of a new certificate")?)?;
    renew(&player)?;
    serves(&player, 6, &["sally", "esme"])?;
    hook_ran(&player, 6)?;

    player
        .machines
        .insert("new".into(), "cdn-frankfurt-1".into());
    bring_nginx_along(&player)?;
    player.fleet.world.lead_to(&[esme, frankfurt])?;
    player.play(section("Move a host to another machine")?)?;
    left(&player)?;
    player
        .machines
        .insert("sally".into(), "cdn-frankfurt-1".into());
    serves(&player, 6, &["sally", "esme"])?;

    player.fleet.edge_mut("esme")?.pull_plug()?;
    player.machines.insert("new".into(), "cdn-fremont-1".into());
    player.fleet.world.lead_to(&[frankfurt, fremont])?;
    player.play(section("Replace a dead host")?)?;
    player
        .machines
        .insert("esme".into(), "cdn-fremont-1".into());
    serves(&player, 6, &["sally", "esme"])?;
    the_dead_come_back(&mut player)?;

    player.play(section("A host that was broken into")?)?;
    serves(&player, 7, &["sally", "esme"])?;

    player.play(section("Retire a host")?)?;
    player.fleet.world.lead_to(&[fremont])?;
    left(&player)?;
    retired(&player)?;

    player.play(section("Back up the issuer")?)?;
    renew(&player)?;
    serves(&player, 8, &["esme"])?;
    the_disk_is_lost(&mut player, &chat)?;
    player.play(section("Restore the issuer")?)?;
    serves(&player, 9, &["esme"])?;

    all_was_typed(&sections, &played, &player)
}

/// What the page takes for granted: the packages' files, a CA that the system trusts, and another one.
fn before_all(fleet: &Fleet, chat: &Chat) -> Result<Vec<(String, String)>> {
    prepare_issuer(fleet, chat)?;
    let (staging, roots) = fleet.world.another_authority()?;
    fleet.fritz.write("/root/staging-of-the-lab.pem", roots)?;
    let here = [
        ("issuer.example.org", &format!("{FRITZ}.{ZONE}")),
        ("ops@example.org", &format!("ops@{ZONE}")),
        ("example.org", &ZONE.to_owned()),
        (
            "https://acme-v02.api.letsencrypt.org/directory",
            &fleet.world.directory(),
        ),
        (
            "https://acme-staging-v02.api.letsencrypt.org/directory",
            &staging,
        ),
        (
            "https://letsencrypt.org/certs/staging/letsencrypt-stg-root-x1.pem",
            &"file:///root/staging-of-the-lab.pem".to_owned(),
        ),
        (chat::URL, &chat.url()),
        ("editor ", &MEND.to_owned()),
    ];
    Ok(here
        .map(|(word, here)| (word.to_owned(), here.clone()))
        .to_vec())
}

fn prepare_issuer(fleet: &Fleet, chat: &Chat) -> Result<()> {
    carry(&fleet.fritz, &fleet.packages.issuer)?;
    fleet.fritz.write(
        "/usr/local/share/ca-certificates/pebble-issues.crt",
        fleet.world.issuing_root()?,
    )?;
    let roots = fleet.world.roots()?;
    let of_its_https = roots.replace(&fleet.world.issuing_root()?, "");
    fleet.fritz.write(
        "/usr/local/share/ca-certificates/pebble-https.crt",
        of_its_https,
    )?;
    chat.trusted_by(&fleet.fritz)
}

fn carry(machine: &Machine, package: &std::path::Path) -> Result<()> {
    let file = package.file_name().context("a package's name")?;
    fs::copy(package, machine.path("/root").join(file))?;
    Ok(())
}

fn renew(player: &Player) -> Result<()> {
    let asked = player.fleet.certwell(&["certificates", "renew", MEDIA])?;
    asked.success("certwell certificates renew")?;
    Ok(())
}

/// These hosts, by their names in the fleet, converge on this generation or a later one, and serve one leaf.
fn serves(player: &Player, generation: u64, hosts: &[&str]) -> Result<()> {
    let fleet = &player.fleet;
    fleet.converged(MEDIA, generation, SOON, |_| true)?;
    let status = fleet.status()?;
    let media = status.certificate(MEDIA).context("not in status")?;
    ensure!(media.hosts.len() == hosts.len(), "{}", media.states());
    let mut leaves = Vec::new();
    for host in hosts {
        leaves.push(fleet.served(player.machine(host)?, MEDIA)?.fingerprint());
    }
    leaves.dedup();
    ensure!(leaves.len() == 1, "{hosts:?} serve {leaves:?}");
    Ok(())
}

/// A renewal comes, and can't be installed on sally.
fn somebody_breaks_nginx(player: &Player) -> Result<()> {
    let sally = player.machine("sally")?;
    sally.write("/etc/nginx/conf.d/gallery.conf", BROKEN)?;
    renew(player)?;
    wait_for("a host that is held", SOON, || {
        let status = player.fleet.status()?;
        let media = status.certificate(MEDIA).context("not in status")?;
        let held = media.hosts.iter().any(|host| host.state == "held");
        ensure!(held, "{}", media.states());
        Ok::<_, anyhow::Error>(())
    })
}

fn site(live: &str) -> String {
    format!(
        "server {{ listen 80; listen [::]:80; server_name {LINEAGE}; root /var/www/html; }}\n\
         server {{ listen 443 ssl http2; listen [::]:443 ssl http2; server_name {LINEAGE}; root /var/www/html;\n\
         ssl_certificate {live}/{LINEAGE}/fullchain.pem; ssl_certificate_key {live}/{LINEAGE}/privkey.pem; }}\n"
    )
}

fn certbot_has_a_lineage(player: &Player) -> Result<()> {
    let (fleet, sally) = (&player.fleet, player.machine("sally")?);
    sally.write("/root/roots.pem", fleet.world.roots()?)?;
    let whole = site("/etc/letsencrypt/live");
    let plain = whole.lines().next().unwrap_or_default();
    sally.write("/etc/nginx/sites-enabled/sally", plain)?;
    let server = fleet.world.directory();
    let order = format!(
        "systemctl reload nginx && REQUESTS_CA_BUNDLE=/root/roots.pem certbot certonly --non-interactive --agree-tos \
         --register-unsafely-without-email --server {server} --webroot -w /var/www/html -d {LINEAGE}"
    );
    let limit = Duration::from_secs(120);
    sally
        .run_with(["sh", "-ec", &order], "", limit)?
        .success("certbot certonly")?;
    sally.write("/etc/nginx/sites-enabled/sally", whole)?;
    sally.shell("nginx -t && systemctl reload nginx")?;
    Ok(())
}

fn adopted(player: &Player) -> Result<()> {
    let sally = player.machine("sally")?;
    let here = sally.shell(&format!(
        "readlink -f /etc/letsencrypt/live/{LINEAGE} && openssl x509 -noout -fingerprint -sha256 -in \
         /etc/certwell/live/{LINEAGE}/cert.pem"
    ))?;
    ensure!(here.contains("/var/lib/certwell-agent/store/"), "{here}");
    let served = player.fleet.served(sally, LINEAGE)?.fingerprint();
    let found = here.replace(':', "").to_lowercase();
    ensure!(found.contains(&served.to_string()), "{served}: {here}");
    Ok(())
}

/// The machine to which sally moves has her configuration, and nginx has loaded none of it.
fn bring_nginx_along(player: &Player) -> Result<()> {
    let new = player.machine("new")?;
    new.write("/etc/nginx/sites-enabled/sally", site("/etc/certwell/live"))
}

/// sally's machine has had the renewal told to its hook, which had nothing against it.
fn hook_ran(player: &Player, generation: u64) -> Result<()> {
    let sally = player.machine("sally")?;
    wait_for("the hook to have run", SOON, || {
        let record = fs::read(sally.path(AGENT).join("post-install.json"))?;
        let record: serde_json::Value = serde_json::from_slice(&record)?;
        let (told, problem) = (&record[MEDIA]["generation"], &record[MEDIA]["problem"]);
        ensure!(*told == generation && *problem == "", "{record}");
        Ok::<_, anyhow::Error>(())
    })
}

/// sally's machine has left: its agent has ended for good, its keys are gone, and nginx goes on.
fn left(player: &Player) -> Result<()> {
    let sally = player.machine("sally")?;
    let unit = sally.shell(
        "systemctl is-active certwell-agent || true; systemctl is-enabled certwell-agent || true",
    )?;
    ensure!(
        unit.split_whitespace().eq(["inactive", "disabled"]),
        "{unit}"
    );
    let identity = sally.path(AGENT).join("identity");
    let keys = fs::read_dir(&identity).into_iter().flatten().count();
    ensure!(keys == 0, "{keys} files are in {}", identity.display());
    player.fleet.served(sally, MEDIA)?;
    Ok(())
}

/// esme's old machine is switched on again: it serves what it has, and gets nothing any more.
fn the_dead_come_back(player: &mut Player) -> Result<()> {
    let old = player.fleet.edge_mut("esme")?;
    old.boot()?;
    wait_for("the old machine to be refused", SOON, || {
        let status = old.run(["certwell-agent", "status"])?;
        let refused = status.stdout.contains("the issuer refuses this host");
        ensure!(refused, "{}", status.stdout);
        Ok::<_, anyhow::Error>(())
    })?;
    old.pull_plug()
}

/// Nobody has its name any more, nor gets it again, though somebody declares it by mistake.
fn retired(player: &Player) -> Result<()> {
    let fleet = &player.fleet;
    wait_for("a list without sally", SOON, || {
        let said = fleet.certwell(&["hosts", "list"])?;
        ensure!(!said.stdout.contains("sally"), "{}", said.stdout);
        Ok::<_, anyhow::Error>(())
    })?;
    fleet.declare("11-again", "[host.sally]\n")?;
    wait_for("the name to be refused for good", SOON, || {
        let refused = fleet.certwell(&["token", "create", "--host", "sally"])?;
        ensure!(refused.code != 0, "a retired name is given again");
        ensure!(refused.stderr.contains("retired for good"), "{refused:?}");
        Ok::<_, anyhow::Error>(())
    })?;
    fleet.fritz.shell("rm /etc/certwell/conf.d/11-again.toml")?;
    Ok(())
}

/// A new fritz at the same address: only the backups are there, which outlive its disk.
fn the_disk_is_lost(player: &mut Player, chat: &Chat) -> Result<()> {
    let fleet = &mut *player.fleet;
    fleet.fritz.pull_plug()?;
    fleet.fritz.lose_disk()?;
    fleet::bare_issuer(&fleet.fritz)?;
    fleet.fritz.boot()?;
    ensure!(fleet.fritz.path(BACKUPS).exists(), "the backups are gone");
    prepare_issuer(fleet, chat)
}

/// No section with commands is left out, and every command of running text is one of those, here and in the README.
fn all_was_typed(sections: &[Section], played: &[String], player: &Player) -> Result<()> {
    let left_out = sections
        .iter()
        .filter(|section| !section.steps.is_empty() && !played.contains(&section.title));
    let left_out: Vec<&str> = left_out.map(|section| section.title.as_str()).collect();
    ensure!(left_out.is_empty(), "nobody played {left_out:?}");
    for file in [PAGE, "README.md"] {
        let mut untyped: Vec<String> = page::read(file)?
            .into_iter()
            .flat_map(|section| section.mentioned)
            .filter(|mentioned| !was_typed(mentioned, &player.typed))
            .collect();
        untyped.sort();
        untyped.dedup();
        ensure!(untyped.is_empty(), "{file}: nobody typed {untyped:#?}");
    }
    Ok(())
}
