//! What becomes of a host when the packages come, are upgraded, go, and are purged; on both releases.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    debian::{Machine, Network, Suite, Tree, Trees, fleet::install, packages::Packages},
    paths::Home,
    probe,
    wait::wait_for,
};

const NAME: &str = "media.example.org";
const SITE: &str = "server { listen 443 ssl; server_name media.example.org; \
    ssl_certificate /etc/certwell/live/media.example.org/fullchain.pem; \
    ssl_certificate_key /etc/certwell/live/media.example.org/privkey.pem; }\n\
    server { listen 80; server_name media.example.org; include snippets/certwell-acme.conf; }\n";
/// Nobody listens there: nothing is ever issued, and the host serves its placeholder.
const DECLARED: &str = "[authority.none]\ndirectory = \"https://127.0.0.1:1/\"\ncontact = [\"mailto:ops@example.org\"]\n\
    [host.one]\n[certificate.\"media.example.org\"]\nhosts = [\"one\"]\n";
const SOON: Duration = Duration::from_secs(60);

/// A host of each release, one after another, in a network of its own.
pub(crate) fn on_both(
    home: &str,
    story: impl Fn(&Machine, &Packages) -> Result<()> + Send + 'static,
) -> Result<()> {
    let home = Home::take(&format!("lab/{home}"))?;
    let trees = Trees::ready(&|line| eprintln!("{line}"))?;
    let packages = Packages::ready()?;
    Network::within(move |_| {
        for (suite, number) in [(Suite::Bookworm, 31), (Suite::Trixie, 32)] {
            let mut host = Machine::lay_out(
                home.path(),
                trees.path(Tree::Host(suite)),
                suite.name(),
                number,
                Network::address(2),
            )?;
            host.mask("ssh.service")?;
            host.boot()?;
            story(&host, &packages).with_context(|| {
                format!(
                    "on {}; its journal:\n{}",
                    suite.name(),
                    host.journal(None, 60)
                )
            })?;
            host.power_off()?;
        }
        Ok(())
    })
}

fn state(host: &Machine, unit: &str) -> Result<(String, String)> {
    let shown = host.shell(&format!(
        "systemctl show --value -p ActiveState -p MainPID {unit}"
    ))?;
    let mut lines = shown.lines();
    let mut line = || lines.next().unwrap_or_default().to_owned();
    let (first, second) = (line(), line());
    // In either order.
    Ok(match first.parse::<u32>() {
        Ok(_) => (second, first),
        Err(_) => (first, second),
    })
}

pub(crate) fn settled(host: &Machine) -> Result<()> {
    let running = host.run(["systemctl", "is-system-running"])?.stdout;
    ensure!(running.trim() == "running", "the host is {running}");
    Ok(())
}

/// Both packages on one host, which is enrolled.
pub(crate) fn begin_fleet_of_one(host: &Machine, packages: &Packages) -> Result<()> {
    install(host, &packages.issuer)?;
    install(host, &packages.agent)?;
    host.shell(
        "certwell-issuer init --fleet test --endpoint 127.0.0.1:7443 --listen 127.0.0.1:7443",
    )?;
    host.write("/etc/certwell/conf.d/all.toml", DECLARED)?;
    host.shell("systemctl start certwell-issuer && certwell token create --host one | tail -n 1 >/root/token")?;
    host.shell("certwell-agent enroll - </root/token || true; systemctl is-active certwell-agent")
        .map(drop)
}

#[test]
fn a_fresh_install_starts_nothing_half_configured_and_says_what_is_missing() {
    if !crate::able("a_fresh_install_starts_nothing_half_configured_and_says_what_is_missing") {
        return;
    }
    on_both("debian-install", |host, packages| {
        install(host, &packages.issuer)?;
        install(host, &packages.agent)?;
        for (unit, missing) in [
            ("certwell-agent", "certwell-agent enroll TOKEN"),
            ("certwell-issuer", "certwell-issuer init"),
        ] {
            let (before, _) = state(host, unit)?;
            host.shell(&format!("systemctl start {unit}"))?;
            let (after, _) = state(host, unit)?;
            ensure!(
                [before.as_str(), after.as_str()] == ["inactive"; 2],
                "{unit} is {before}, then {after}"
            );
            let status = host.run(["systemctl", "status", "--no-pager", unit])?;
            ensure!(status.stdout.contains(missing), "{}", status.stdout);
        }
        let enabled = host.run(["systemctl", "is-enabled", "certwell-agent"])?;
        ensure!(enabled.stdout.trim() == "disabled", "{}", enabled.stdout);
        host.shell(
            "nginx -t && test \"$(stat -c %U:%a /var/lib/certwell-issuer)\" = certwell-issuer:700",
        )?;
        host.shell("grep -q certwell_acme_reply /etc/nginx/conf.d/certwell-acme.conf /etc/nginx/snippets/certwell-acme.conf")?;
        settled(host)
    })
    .unwrap();
}

#[test]
fn an_upgrade_restarts_what_runs_and_what_is_served_outlives_removal_and_purge() {
    if !crate::able("an_upgrade_restarts_what_runs_and_what_is_served_outlives_removal_and_purge") {
        return;
    }
    on_both("debian-upgrade", |host, packages| {
        begin_fleet_of_one(host, packages)?;
        wait_for("the placeholder", SOON, || {
            host.shell(&format!("test -e /etc/certwell/live/{NAME}/privkey.pem"))
        })?;
        host.write("/etc/nginx/sites-enabled/media", SITE)?;
        host.shell("nginx -t && systemctl restart nginx")?;
        let served = || {
            Ok::<_, anyhow::Error>(
                probe::handshake((host.address, 443).into(), NAME)?.fingerprint(),
            )
        };
        let before = served()?;

        let newer = [&packages.agent, &packages.issuer].map(|package| raised(host, package));
        for package in newer {
            let package = package?;
            let units = ["certwell-agent", "certwell-issuer"];
            let unit = units
                .into_iter()
                .find(|unit| package.contains(unit))
                .context("whose")?;
            let (_, old) = state(host, unit)?;
            host.shell(&format!("dpkg -i {package}"))?;
            let (active, new) = state(host, unit)?;
            ensure!(
                active == "active" && old != new && new != "0",
                "{unit}: {active}, {old}, {new}"
            );
        }
        host.shell("systemctl is-active certwell-issuer-backup.timer")?;
        settled(host)?;

        let nginx = state(host, "nginx")?;
        host.shell("apt-get remove -y certwell-agent")?;
        ensure!(state(host, "certwell-agent")?.0 == "inactive", "it runs on");
        ensure!(state(host, "nginx")? == nginx, "the removal stopped nginx");
        host.shell("nginx -t && systemctl restart nginx")?;
        ensure!(
            served()? == before,
            "after the removal another leaf is served"
        );

        let nginx = state(host, "nginx")?;
        let said = host.shell("apt-get purge -y certwell-agent certwell-issuer")?;
        ensure!(state(host, "nginx")? == nginx, "the purge stopped nginx");
        for kept in [
            "kept /etc/certwell/live/media.example.org",
            "includes the snippet",
        ] {
            ensure!(said.contains(kept), "{kept:?} isn't said: {said}");
        }
        host.shell("nginx -t && systemctl restart nginx")?;
        ensure!(
            served()? == before,
            "after the purge another leaf is served"
        );
        for gone in [
            "/var/lib/certwell-agent/identity",
            "/var/lib/certwell-issuer",
            "/etc/certwell/issuer.kek",
            "/run/certwell-agent.pause",
            "/run/certwell-issuer.pause",
        ] {
            host.shell(&format!("! test -e {gone}"))?;
        }
        settled(host)
    })
    .unwrap();
}

/// The same package under a later version, on the host; its path there.
fn raised(host: &Machine, package: &Path) -> Result<String> {
    let home = tempfile::tempdir()?;
    let parts = home.path().join("parts");
    let file = package
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .replace("_0.", "_1.");
    let at = format!("/root/{file}");
    let dpkg_deb = |arguments: &[&Path]| {
        let status = Command::new("dpkg-deb").args(arguments).status()?;
        ensure!(status.success(), "dpkg-deb {arguments:?}");
        Ok(())
    };
    dpkg_deb(&["--raw-extract".as_ref(), package, &parts])?;
    let control = parts.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control)?.replace("Version: 0.", "Version: 1.");
    std::fs::write(&control, text)?;
    dpkg_deb(&[
        "-Zgzip".as_ref(),
        "-z1".as_ref(),
        "--root-owner-group".as_ref(),
        "--build".as_ref(),
        &parts,
        &host.path(&at),
    ])?;
    Ok(at)
}
