//! What is seen from outside, and what is wrong with it: pure.
//!
//! ```text
//! sighting    what one look brought, and what every probe has seen so far
//! addresses   where a host is looked at, and whose an address is
//! verdict     one sighting, held against what is known now
//! trust       which sightings count
//! unanswered  which probes no DNS server answers
//! merge       what a probe's report changes in what is known
//! fact        the seventh fact of a certificate on a host
//! findings    what is wrong, each fault once
//! told        in words
//! wire        from the wire and back
//! ```

pub mod addresses;
pub mod fact;
mod findings;
pub mod merge;
mod sighting;
mod told;
pub mod trust;
pub mod unanswered;
pub mod verdict;
pub mod wire;

pub use self::{
    findings::{Finding, Kind, findings},
    sighting::{Key, Probe, SeenLeaf, Shown, Sighting, Sightings, Spot, UrlAnswer},
    told::{left, sentence},
    verdict::covers,
};
