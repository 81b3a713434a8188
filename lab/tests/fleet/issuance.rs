//! The first issuance, and a renewal by hand.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{Host, MEDIA, Settings, story};
use certwell_proto::pem;
use nix::sys::signal::Signal;

use crate::{SOON, first_issuance};

#[test]
fn four_hosts_serve_the_first_issuance_and_a_renewal_by_hand() -> Result<()> {
    story("issuance", &Settings::default(), |world| {
        let expired: Vec<_> = world
            .hosts
            .iter()
            .map(|host| host.served(MEDIA))
            .collect::<Result<_>>()?;
        let masters: Vec<u32> = world
            .hosts
            .iter()
            .map(|host| host.nginx.master())
            .collect::<Result<_>>()?;
        let first = first_issuance(world)?;
        ensure!(
            world.ca.orders() == 1 && world.ca.issued() == 1,
            "one order was to be placed"
        );
        for (host, expired) in world.hosts.iter().zip(&expired) {
            let link = host.live(MEDIA);
            ensure!(
                fs::symlink_metadata(&link)?.is_symlink(),
                "{} is no link",
                link.display()
            );
            let on_disk = pem::read_certificates(&fs::read(link.join("fullchain.pem"))?)?;
            ensure!(
                on_disk
                    .iter()
                    .map(|der| der.to_vec())
                    .eq(first.chain.iter().cloned()),
                "{}: the disk holds others",
                host.name
            );
            let key = fs::metadata(link.join("privkey.pem"))?.permissions().mode() & 0o777;
            ensure!(key == 0o600, "{}: privkey.pem has mode {key:o}", host.name);
            let aside = kept_aside(host)?;
            let kept = pem::read_certificates(&fs::read(aside.join("fullchain.pem"))?)?;
            ensure!(
                kept.first().map(|der| der.to_vec()) == expired.chain.first().cloned(),
                "the old certificate is lost"
            );
        }

        let renewed = world
            .issuer
            .certwell_within(&["certificates", "renew", MEDIA, "--wait"], SOON)?;
        let renewed = renewed.success("certwell certificates renew --wait")?;
        // It returns when all serve the new generation, and not before.
        let second =
            world.all_serve_new(MEDIA, Some(first.fingerprint()), Duration::ZERO, |_| true)?;
        ensure!(second.fingerprint() != first.fingerprint());
        world.converged(MEDIA, 2, SOON)?;
        ensure!(
            world.ca.orders() == 2 && world.ca.issued() == 2,
            "{}",
            renewed.stdout
        );
        ensure!(
            world.issuer.certwell(&["status"])?.code == 0,
            "all have converged, so status exits 0"
        );
        let after: Vec<u32> = world
            .hosts
            .iter()
            .map(|host| host.nginx.master())
            .collect::<Result<_>>()?;
        ensure!(
            after == masters,
            "a master was restarted; a reload was enough"
        );
        for host in &mut world.hosts {
            let agent = host.agent()?;
            agent.signal(Signal::SIGTERM)?;
            let ended = agent.wait(Duration::from_secs(2))?;
            ensure!(
                ended.success(),
                "the agent of {} ended with {ended}",
                host.name
            );
            ensure!(
                host.served(MEDIA)? == second,
                "{} needs its agent to serve",
                host.name
            );
        }
        Ok(())
    })
}

/// The plain directory that was at the link's place: the only other thing under the host's files that holds the
/// expired certificate.
fn kept_aside(host: &Host) -> Result<PathBuf> {
    let mut waiting = vec![host.nginx.live().to_owned(), host.agent_state()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)?.flatten() {
            let path = entry.path();
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let old = fs::read(path.join("fullchain.pem"))
                .ok()
                .and_then(|text| pem::read_certificates(&text).ok())
                .and_then(|list| certwell_proto::Leaf::read(list.first()?).ok())
                .is_some_and(|leaf| leaf.not_after.to_string().starts_with("2023-02-28"));
            if old {
                return Ok(path);
            }
            waiting.push(path);
        }
    }
    None.with_context(|| format!("{}: the old plain directory is nowhere", host.name))
}
