//! The world around the fleet: an ACME CA (Pebble), the DNS of the zone (Knot), and the resolver that the CA and the
//! hosts ask (Unbound). The geo name is answered with one edge, another one for each question, as geographic DNS does for
//! validators around the globe; the resolver remembers none of it.

use std::{fmt::Write as _, fs, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::machine::Machine;
use crate::{certs::LabRoot, probe::https_get, wait::wait_for};

/// The zone that the DNS is asked for.
pub const ZONE: &str = "hachyderm.io";
/// What `media` and `assets` are aliases of.
pub const GEO: &str = "geo.hachyderm.io";
const ACME: u16 = 14000;
const MANAGEMENT: u16 = 15000;
const UP: Duration = Duration::from_secs(30);
const PEBBLE: &str = "\
[Unit]
Description=Pebble, an ACME CA
Wants=network-online.target
After=network-online.target unbound.service
[Service]
ExecStart=/usr/bin/pebble -config /etc/pebble/pebble.json -strict -dnsserver 127.0.0.1:53
Environment=PEBBLE_WFE_NONCEREJECT=0 PEBBLE_VA_NOSLEEP=1 PEBBLE_AUTHZREUSE=0
Restart=on-failure
[Install]
WantedBy=multi-user.target
";
const KNOT: &str = "\
server:
    listen: [ 127.0.0.1@5300 ]
    rundir: /run/knot
database:
    storage: /var/lib/knot
log:
  - target: syslog
    any: info
mod-geoip:
  - id: edges
    config-file: /etc/knot/edges.conf
    ttl: 0
    mode: weighted
zone:
  - domain: hachyderm.io
    storage: /etc/knot
    file: hachyderm.io.zone
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none
    module: mod-geoip/edges
";
const UNBOUND: &str = "\
server:
    interface: 0.0.0.0
    access-control: 10.77.0.0/24 allow
    do-not-query-localhost: no
    module-config: \"iterator\"
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
    use-systemd: no
stub-zone:
    name: hachyderm.io
    stub-addr: 127.0.0.1@5300
";

/// The world's host, and what its CA signs with.
#[derive(Debug)]
pub struct World {
    /// The host.
    pub machine: Machine,
    root: LabRoot,
}

impl World {
    /// Writes what its programs read. Certificates live for `validity`; `hosts` have an address in the zone; questions
    /// for the geo name are answered with one of `edges`.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn lay_out(
        machine: Machine,
        validity: Duration,
        hosts: &[(&str, Ipv4Addr)],
        edges: &[Ipv4Addr],
    ) -> Result<Self> {
        let root = LabRoot::new()?;
        let pair = root.server(machine.address.into())?;
        machine.write("/etc/pebble/cert.pem", &pair.certificate)?;
        machine.write_as("/etc/pebble/key.pem", &pair.key, 0o600)?;
        let config = json!({ "pebble": {
            "listenAddress": format!("0.0.0.0:{ACME}"),
            "managementListenAddress": format!("0.0.0.0:{MANAGEMENT}"),
            "certificate": "/etc/pebble/cert.pem",
            "privateKey": "/etc/pebble/key.pem",
            "httpPort": 80,
            "tlsPort": 5001,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": validity.as_secs(),
        }});
        machine.write("/etc/pebble/pebble.json", config.to_string())?;
        machine.write("/etc/systemd/system/pebble.service", PEBBLE)?;
        machine.enable("/etc/systemd/system/pebble.service")?;
        machine.write("/etc/unbound/unbound.conf", UNBOUND)?;
        machine.write("/etc/knot/knot.conf", KNOT)?;
        machine.write("/etc/knot/hachyderm.io.zone", zone(&machine, hosts)?)?;
        let world = Self { machine, root };
        world.write_edges(edges)?;
        Ok(world)
    }

    /// Leads the geo name to these edges from now on.
    ///
    /// # Errors
    /// When the DNS doesn't take it up.
    pub fn lead_to(&self, edges: &[Ipv4Addr]) -> Result<()> {
        self.write_edges(edges)?;
        self.machine.shell("systemctl restart knot")?;
        wait_for("the DNS", UP, || self.resolve(GEO))?;
        Ok(())
    }

    /// Starts another CA beside the first, with a root of its own: its directory, and the roots as of [`World::roots`].
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn another_authority(&self) -> Result<(String, String)> {
        let [acme, management] = [ACME, MANAGEMENT].map(|port| port + 1);
        self.machine.shell(&format!(
            "sed 's/:{ACME}/:{acme}/; s/:{MANAGEMENT}/:{management}/' /etc/pebble/pebble.json >/etc/pebble/another.json
             sed 's/pebble.json/another.json/' /etc/systemd/system/pebble.service >/etc/systemd/system/another.service
             systemctl daemon-reload && systemctl start another"
        ))?;
        let root = wait_for("another Pebble", UP, || {
            https_get((self.machine.address, management).into(), "/roots/0")
        })?;
        let directory = format!("https://{}:{acme}/dir", self.machine.address);
        let roots = format!("{}{}", self.root.pem(), String::from_utf8(root)?);
        Ok((directory, roots))
    }

    fn write_edges(&self, edges: &[Ipv4Addr]) -> Result<()> {
        let mut table = format!("{GEO}:\n");
        for edge in edges {
            writeln!(table, "  - weight: 1\n    A: {edge}")?;
        }
        self.machine.write("/etc/knot/edges.conf", table)
    }

    /// Waits until CA and DNS answer.
    ///
    /// # Errors
    /// When one doesn't.
    pub fn ready(&self) -> Result<()> {
        wait_for("Pebble", UP, || self.issuing_root())?;
        wait_for("the DNS", UP, || self.resolve(GEO))?;
        Ok(())
    }

    /// The CA's directory, as the issuer asks it.
    pub fn directory(&self) -> String {
        format!("https://{}:{ACME}/dir", self.machine.address)
    }

    /// PEM for `authority.NAME.roots`: of the CA's own HTTPS, and of the chains that it issues.
    ///
    /// # Errors
    /// When the CA doesn't answer.
    pub fn roots(&self) -> Result<String> {
        Ok(format!("{}{}", self.root.pem(), self.issuing_root()?))
    }

    /// The root of what it issues, PEM.
    ///
    /// # Errors
    /// When the CA doesn't answer.
    pub fn issuing_root(&self) -> Result<String> {
        let pem = https_get((self.machine.address, MANAGEMENT).into(), "/roots/0")?;
        Ok(String::from_utf8(pem)?)
    }

    /// What the DNS answers for an address, its aliases followed.
    ///
    /// # Errors
    /// When it answers nothing.
    pub fn resolve(&self, name: &str) -> Result<Vec<Ipv4Addr>> {
        let said = self
            .machine
            .shell(&format!("kdig @127.0.0.1 +short {name} A"))?;
        let found: Vec<Ipv4Addr> = said.lines().filter_map(|line| line.parse().ok()).collect();
        anyhow::ensure!(!found.is_empty(), "no address of {name}: {said:?}");
        Ok(found)
    }

    /// How many certificates the CA has issued, one for each finalized order.
    ///
    /// # Errors
    /// When its log can't be read.
    pub fn issued(&self) -> Result<usize> {
        Ok(self
            .pebble_log()?
            .matches("Issued certificate serial ")
            .count())
    }

    /// The addresses from which Pebble fetched answers, by its own log: as many lines as validations.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn pebble_log(&self) -> Result<String> {
        self.machine
            .shell("journalctl --no-pager -o cat -u pebble.service")
    }

    /// What the zone's file holds now: that nobody changed it can be shown by its bytes.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn zone_file(&self) -> Result<String> {
        fs::read_to_string(self.machine.path("/etc/knot/hachyderm.io.zone"))
            .context("the zone's file")
    }
}

fn zone(world: &Machine, hosts: &[(&str, Ipv4Addr)]) -> Result<String> {
    let mut zone = format!(
        "$ORIGIN {ZONE}.\n$TTL 1\n@ SOA world nobody 1 60 60 60 1\n@ NS world\nworld A {}\nmedia CNAME geo\nassets CNAME geo\n",
        world.address
    );
    // For a question of another type; addresses come from the edges' table.
    zone.push_str("geo TXT \"one edge for each question\"\n");
    for (name, address) in hosts {
        writeln!(zone, "{name} A {address}")?;
    }
    Ok(zone)
}
