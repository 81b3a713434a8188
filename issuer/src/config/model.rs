//! The validated configuration: what should exist.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use certwell_notice::Notifier;
use certwell_proto::{CertificateName, FleetName, HostName, Identifier};

/// Everything that the files declare, checked as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[issuer]`.
    pub issuer: Issuer,
    /// `[renewal]`.
    pub renewal: Renewal,
    /// `[probe]`.
    pub probe: Probe,
    /// `[page]`.
    pub page: Page,
    /// `[alerts]`.
    pub alerts: Alerts,
    /// `[authority.NAME]`.
    pub authorities: BTreeMap<String, Authority>,
    /// `[host.NAME]`.
    pub hosts: BTreeMap<HostName, Host>,
    /// `[certificate.NAME]`.
    pub certificates: BTreeMap<CertificateName, Certificate>,
    /// `[notifier.NAME]`, with what its files held when they were read.
    pub notifiers: BTreeMap<String, Notifier>,
}

/// How the daemon runs; a change of this section needs a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Issuer {
    /// The fleet's name, fixed by `init`.
    pub fleet: FleetName,
    /// Where the store lives.
    pub state_directory: PathBuf,
    /// Where agents connect; one or more.
    pub listen: Vec<SocketAddr>,
    /// `host:port` as agents reach it.
    pub endpoints: Vec<String>,
    /// The Unix socket behind `certwell`.
    pub admin_socket: PathBuf,
    /// A group whose members may use the socket, beside root and the daemon's own user.
    pub admin_group: Option<String>,
    /// File with the key-encryption key; a systemd credential named `certwell-kek` goes before it.
    pub key_encryption_key: PathBuf,
    /// Where `certwell-issuer backup` puts what it makes, and where each revocation is written down once more.
    pub backup_directory: PathBuf,
    /// So many backups stay there, the newest ones; 14 by default.
    pub backups_kept: usize,
}

/// When certificates are renewed.
#[derive(Debug, Clone, PartialEq)]
pub struct Renewal {
    /// The fraction of its lifetime after which a certificate is renewed, 0.1 to 0.9; two thirds by default.
    pub at_fraction: f64,
    /// How long silent hosts are waited for in a preflight; paced by what life remains. 30 s by default.
    pub preflight_wait: Duration,
    /// The first pause after a failed order; doubles up to `retry_max`; both paced. A minute by default.
    pub retry_first: Duration,
    /// The longest pause. 6 hours by default.
    pub retry_max: Duration,
}

/// How the edges are looked at from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Whether the issuer itself looks; hosts that are probes do whatever this says. True by default.
    pub enabled: bool,
    /// From the beginning of one round to that of the next; paced by what life remains. 5 minutes by default.
    pub every: Duration,
    /// The DNS servers that are asked; those of the machine that looks by default.
    pub resolvers: Vec<SocketAddr>,
    /// The port at the addresses that DNS gives. 443 by default.
    pub port: u16,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            enabled: true,
            every: Duration::from_secs(300),
            resolvers: Vec::new(),
            port: 443,
        }
    }
}

/// Where the page is served unless said otherwise.
pub(super) const PAGE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7480);

/// The page for browsers, and metrics; a change of this section needs a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where it is served; `None`: nowhere. Not a loopback address only with a token file.
    pub listen: Option<SocketAddr>,
    /// Nobody asked for this address: where it can't be had, the issuer does without.
    pub is_default: bool,
    /// Holds the token without which nothing is shown. Without this file whoever reaches a loopback address may look,
    /// and a token that the issuer makes is needed for controls alone.
    pub token_file: Option<PathBuf>,
    /// Scheme, host and port of the proxy before it, as browsers see them.
    pub origin: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            listen: Some(PAGE),
            is_default: true,
            token_file: None,
            origin: None,
        }
    }
}

/// What is got over HTTPS at each address of a certificate's hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeUrl {
    /// An https URL whose host the certificate covers.
    pub url: String,
    /// Its host, as it goes into SNI.
    pub name: String,
    /// The status that is right, 200 by default.
    pub status: u16,
    /// What Content-Type must begin with; empty: anything.
    pub content_type: String,
}

/// Who is told of what is wrong, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Alerts {
    /// Names of notifiers, in the order of escalation; all of them by default, in the order of their names.
    pub notify: Vec<String>,
    /// The next notifier is told when nobody acknowledged for so long; paced by what life remains. 15 minutes by
    /// default.
    pub escalate_after: Duration,
    /// The pause before the first repetition; halved each time down to `repeat_min`; both paced. 4 hours by default.
    pub repeat_first: Duration,
    /// The shortest pause. 15 minutes by default.
    pub repeat_min: Duration,
    /// From one evaluation to the next; paced. 30 s by default.
    pub every: Duration,
    /// How long a cause stands before it is told, and is gone before it is over; paced. A minute by default.
    pub settle: Duration,
    /// Asked for after each complete evaluation, so that somebody outside notices when it isn't.
    pub heartbeat_url: Option<certwell_notice::Target>,
    /// No more often than this. A minute by default.
    pub heartbeat_every: Duration,
}

/// An ACME CA.
#[derive(Debug, Clone, PartialEq)]
pub struct Authority {
    /// Its directory, an https URL.
    pub directory: String,
    /// `mailto:` URLs.
    pub contact: Vec<String>,
    /// What the CA's own HTTPS and the chains that it issues are checked against.
    pub roots: Roots,
    /// The port on which it validates HTTP-01: 80, but for test CAs.
    pub http_01_port: u16,
}

/// A set of root certificates.
#[derive(Debug, Clone, PartialEq)]
pub enum Roots {
    /// The operating system's.
    System,
    /// DER, read from a PEM file when the configuration was loaded; never empty.
    File {
        /// The file.
        path: PathBuf,
        /// Its certificates.
        certificates: Vec<Vec<u8>>,
    },
}

/// A machine that may join.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Host {
    /// Selected by `label:NAME`.
    pub labels: Vec<String>,
    /// As the world reaches it; empty: at the listeners that its agent reports.
    pub addresses: Vec<SocketAddr>,
    /// Whether its agent looks at the edges too.
    pub probe: bool,
}

/// A managed certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// What it covers; the certificate's own name by default; in the order declared.
    pub identifiers: Vec<Identifier>,
    /// The hosts that need it, labels resolved; sorted.
    pub hosts: Vec<HostName>,
    /// The hosts that answer its challenges; `hosts` by default; sorted.
    pub challenge_hosts: Vec<HostName>,
    /// In order of preference; all of them by default, in the order of their names.
    pub authorities: Vec<String>,
    /// What its private key is.
    pub key_type: KeyType,
    /// What is got at each address besides.
    pub probe_url: Option<ProbeUrl>,
    /// Whether it is looked at where public DNS leads its names, too; false where something else stands there.
    pub probe_dns: bool,
}

/// Kinds of private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyType {
    /// NIST P-256.
    #[default]
    EcdsaP256,
    /// NIST P-384.
    EcdsaP384,
    /// RSA of 2048 bits.
    Rsa2048,
}
