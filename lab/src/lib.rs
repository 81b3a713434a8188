//! A whole fleet on one machine, of real parts: nginx, Pebble and its DNS, and this workspace's binaries, which are
//! started and spoken to as a user or a host would. The demo and the end-to-end tests are made of it.
//!
//! ```text
//! world     everything together; removes its files when a test passed, keeps them when it didn't
//! settings  what a world is made of
//! ca, dns   Pebble and pebble-challtestsrv          gate    holds a request between issuer and CA
//! issuer    certwell-issuer, and the certwell command      status  what `certwell status --json` says
//! host      one nginx and one certwell-agent               nginx   its configuration and master
//! probe     the lab's own handshakes and requests          certs   certificates of the lab's own making
//! program   what is started, or run to its end             ports   free loopback networks; who holds a port
//! process   children that don't outlive their world        leftovers  of a killed run, and their end
//! rpc       calls to the issuer with a host's identity     wait    for a condition, with a deadline
//! log_gate  holds a daemon at a line of its own log        certbot  Debian's, with directories of its own
//! debian    whole Debian hosts, booted                      incident  the incident of 2023-02-28, replayed on them
//! receivers  whom messages are sent to: a web server that can misbehave, a mail server, an Alertmanager
//! browser   headless Chromium, which looks at the issuer's page
//! sweep     agents that are killed at every point of their work
//! ```
//!
//! A light host is a pair of processes on an address of 127.0.0.0/8; no root is needed.

pub mod browser;
pub mod ca;
pub mod certbot;
pub mod certs;
pub mod clock;
pub mod debian;
pub mod dns;
pub mod gate;
pub mod host;
pub mod incident;
pub mod issuer;
pub mod leftovers;
pub mod log_gate;
pub mod nginx;
pub mod paths;
pub mod ports;
pub mod probe;
pub mod process;
pub mod program;
pub mod receivers;
pub mod rpc;
pub mod settings;
pub mod status;
pub mod sweep;
pub mod wait;
pub mod world;

pub use host::Host;
pub use nginx::Site;
pub use settings::{FLEET, MEDIA, MEDIA_DECLARED, Settings};
pub use wait::{holds_for, wait_for};
pub use world::{Ending, World, story};
