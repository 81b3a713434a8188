//! The nginx of this host: who runs, what it is configured to serve, what it really serves.
//!
//! ```text
//! settings       which nginx is ours, as data
//! master         the running master and its workers, from the pid file and /proc
//!   title          its own arguments
//! child          short-lived child processes, ended with all that they started
//! run            short-lived runs of the nginx binary (`-t`, `-T`, `-v`)
//! candidate      a tiny configuration of its own around staged files, tested and thrown away
//! dump           `nginx -T`, parsed in a short-lived child of the agent's binary
//!   syntax         pure: dump text to a tree of directives, includes resolved in context
//!     lexer, lua     pure: a file's text to directives, as nginx itself reads it
//!   blocks, listen pure: the tree to server blocks
//!     variables      pure: what a certificate path with variables can be
//!   links          where certificate paths lead
//! servers        server blocks, as the rest sees them
//! sites          pure: which server block answers a name on an address
//! workers        what workers may read
//! targets        pure: which handshakes prove a certificate
//! addresses      the addresses of this host
//! probe          those handshakes
//! reload         signal or command, and waiting for new workers
//! challenge_map  the map that makes nginx answer HTTP-01, rendered and written
//! preflight      asks nginx for a made-up token, as the CA will for a real one
//!   fetch          one HTTP request
//! few            many small waits, a few at once
//! include_fix    puts the include into port-80 servers, and takes it out again
//! edits          configuration files newer than the workers
//! ended          when the master has ended
//! ```
//!
//! Nothing here decides what to do next: plans do, from what these files find.

pub mod addresses;
mod blocks;
pub mod candidate;
pub mod challenge_map;
pub(crate) mod child;
pub mod dump;
pub mod edits;
mod ended;
mod fetch;
mod few;
mod glob;
pub mod include_fix;
mod lexer;
pub(crate) mod links;
mod listen;
mod lua;
pub mod master;
pub mod preflight;
pub mod probe;
pub mod reload;
pub mod run;
pub mod servers;
pub mod settings;
pub mod sites;
mod syntax;
pub mod targets;
mod title;
mod variables;
pub(crate) mod workers;

pub use blocks::{Reader, parse, parse_by};
pub use challenge_map::Challenge;
pub use ended::Ended;
pub use master::{Master, Nginx, Worker};
pub use preflight::{Ask, Verdict};
pub use probe::Probed;
pub use run::{Invocation, Tested};
pub use servers::{
    CertificateFiles, CertificateSource, Listen, ListenAddress, Parsed, Place, Presented, Server,
    ServerName, WorkerUser,
};
pub use settings::{Reload, Settings};
pub use sites::Sites;
pub use targets::{Endpoint, KeyAlgorithm, Managed, ProbeTarget, Way};
