//! The hosts themselves: what the stories of this binary stand on.

use std::{net::Ipv4Addr, time::Duration};

use certwell_lab::{
    MEDIA,
    debian::{Machine, Network, Suite, Tree, Trees, World, world::GEO},
    paths::Home,
    probe,
};

#[test]
fn hosts_boot_reach_each_other_and_keep_their_files_through_a_power_cut() {
    if !crate::able("hosts_boot_reach_each_other_and_keep_their_files_through_a_power_cut") {
        return;
    }
    let home = Home::take("lab/debian-boot").unwrap();
    let trees = Trees::ready(&|line| eprintln!("{line}")).unwrap();
    Network::within(move |_| {
        let dns = Network::address(2);
        let lay_out = |tree, name: &str, number| {
            Machine::lay_out(home.path(), trees.path(tree), name, number, dns)
        };
        let mut hosts = vec![
            lay_out(Tree::Host(Suite::Bookworm), "old", 11)?,
            lay_out(Tree::Host(Suite::Trixie), "new", 12)?,
        ];
        let addresses: Vec<Ipv4Addr> = hosts.iter().map(|host| host.address).collect();
        let mut world = World::lay_out(
            lay_out(Tree::World, "world", 2)?,
            Duration::from_secs(180),
            &[("old", addresses[0]), ("new", addresses[1])],
            &addresses,
        )?;
        world.machine.boot()?;
        world.ready()?;
        for host in &mut hosts {
            host.mask("ssh.service")?;
            host.boot()?;
            assert!(host.shell("systemctl is-active nginx")?.contains("active"));
            let (status, _) = probe::http_get((host.address, 80).into(), "anybody", "/")?;
            assert_eq!(status, 200);
        }
        hosts[0].shell("curl -sf http://new.hachyderm.io/")?;
        // One edge at a time, and each of them sooner or later.
        let mut answers = std::collections::BTreeMap::new();
        for _ in 0..40 {
            let found = world.resolve(MEDIA)?;
            assert_eq!(found.len(), 1, "{GEO}: {found:?}");
            *answers.entry(found[0]).or_insert(0) += 1;
        }
        assert_eq!(answers.len(), 2, "{answers:?}");
        hosts[1].shell("echo kept > /var/lib/kept && sync")?;
        hosts[1].pull_plug()?;
        hosts[1].boot()?;
        assert_eq!(hosts[1].shell("cat /var/lib/kept")?, "kept\n");
        hosts[1].power_off()?;
        Ok(())
    })
    .unwrap();
}
