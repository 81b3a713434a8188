//! Whole Debian hosts on one machine, booted by systemd-nspawn inside one network namespace, so that no packet can
//! leave it. Root is needed.
//!
//! ```text
//! network  the namespace with its bridge; whoever entered it speaks to the hosts      tree     a Debian system, made once
//! machine  a host: boot, run a command on it, power off, pull the plug                 world    the CA and the DNS, on a host
//! fleet    the issuer's host, the edges and the world, from the packages               packages the packages built here
//! inside   what is done on a host from here                                             groups   its control groups
//! able     whether this machine can, and what is missing
//! ```

pub mod able;
pub mod fleet;
pub mod groups;
mod inside;
pub mod machine;
pub mod network;
pub mod packages;
pub mod tree;
pub mod world;

pub use self::{
    fleet::{Fleet, story},
    machine::Machine,
    network::Network,
    tree::{Suite, Tree, Trees},
    world::World,
};
