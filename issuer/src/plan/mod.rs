//! Every decision of the issuer, as pure functions: facts and `now` in, steps out.
//!
//! ```text
//! facts       all that the issuer knows at one instant
//! ahead       what a clock said that was set back since
//! renew       when a certificate is ordered, and again after a failure
//! preflight   whether an order may be placed
//! order       the next step of an order
//! observe     what a report changes in what is known
//! inventory   every certificate of each host
//! offer       what each host is offered
//! recover     after a restore: who is waited for, what the backup had forgotten
//! presence    whether a host is there
//! judge       how a host stands with a certificate
//! looks       what there is to look at from outside
//! seen        what is seen from outside, and what is wrong with it
//! health      the issuer's own disk, clock and backups
//! alert       what somebody should know
//! deliver     which alerts are open, and who is told of them when
//! status, headline, explain   what people are told
//! words       times, spans and lists in words
//! ```

pub mod ahead;
pub mod alert;
pub mod deliver;
pub mod explain;
pub mod facts;
pub mod headline;
pub mod health;
pub mod inventory;
pub mod judge;
pub mod looks;
pub mod observe;
pub mod offer;
pub mod order;
pub mod preflight;
pub mod presence;
pub mod recover;
pub mod renew;
pub mod seen;
pub mod status;
pub mod words;
