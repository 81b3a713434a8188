//! The lab's own parts come up, do what the tests rely on, and leave nothing behind.

use std::{fs, net::TcpListener, time::Duration};

use anyhow::{Result, ensure};
use certwell_lab::{
    MEDIA, Site, ca::Ca, certs::LabRoot, dns::Dns, host::Host, leftovers, paths::Home, ports::Net,
    probe,
};

#[test]
fn pebble_and_its_dns_come_up_twice_in_one_directory() -> Result<()> {
    let taken = Home::take("lab/parts-ca")?;
    let home = taken.path();
    let net = Net::allocate()?;
    for _ in 0..2 {
        let dns = Dns::start(&net, home)?;
        dns.set(MEDIA, &[net.host(0), net.host(1)])?;
        let root = LabRoot::new()?;
        let ca = Ca::start(&net, home, &root, Some(Duration::from_secs(180)))?;
        let served = probe::handshake(net.ca(), &net.ca().ip().to_string())?;
        ensure!(
            served.leaf.issuer.contains("certwell lab root"),
            "{}",
            served.leaf.issuer
        );
        ensure!(!ca.issuing_root().is_empty());
        ensure!(certwell_proto::pem::read_certificates(&fs::read(ca.roots())?)?.len() == 2);
    }
    ensure!(
        fs::read_to_string(home.join("pebble.log"))?.contains("validity period of 180 seconds")
    );
    Ok(fs::remove_dir_all(home)?)
}

#[test]
fn a_host_serves_an_expired_certificate_from_a_plain_directory() -> Result<()> {
    let taken = Home::take("lab/parts-host")?;
    let home = taken.path();
    let net = Net::allocate()?;
    let mut host = Host::lay_out(
        &net,
        home,
        0,
        "sally",
        &[Site::new(MEDIA, &[MEDIA])],
        "info",
    )?;
    host.nginx.start()?;
    let served = host.served(MEDIA)?;
    ensure!(
        served.leaf.not_after.to_string().starts_with("2023-02-28"),
        "{}",
        served.leaf.not_after
    );
    ensure!(fs::symlink_metadata(host.live(MEDIA))?.is_dir());
    ensure!(probe::http_get(host.http(), MEDIA, "/")?.0 == 301);
    // Pid 1 to 4 aren't this nginx: a leftover is found by where it works.
    host.nginx.stop();
    ensure!(
        TcpListener::bind(host.https()).is_ok(),
        "nginx still listens"
    );
    ensure!(leftovers::end_leftovers(home)? == 0);
    Ok(fs::remove_dir_all(home)?)
}
