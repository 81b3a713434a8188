//! The built agent on a real host: real nginx, real TLS, files and processes as they are afterwards. Only the issuer
//! is one of the test's own, in this process, so that it can be made to lie and to lose answers.
//!
//! `cfg(test)` says to clippy that these modules are tests through and through.

#[cfg(test)]
mod adopt;
#[cfg(test)]
mod adopt_cut_off;
#[cfg(test)]
mod adopt_edits;
#[cfg(test)]
mod adopt_others;
#[cfg(test)]
mod adopt_unserved;
#[cfg(test)]
mod alarm;
#[cfg(test)]
mod bad_pairs;
#[cfg(test)]
mod challenges;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod enrollment;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod haproxy;
#[cfg(test)]
mod host;
#[cfg(test)]
mod install;
#[cfg(test)]
mod inventoried;
#[cfg(test)]
mod inventory;
#[cfg(test)]
mod issuer;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod leaving;
#[cfg(test)]
mod leftovers;
#[cfg(test)]
mod lineage;
#[cfg(test)]
mod measured;
#[cfg(test)]
mod post_install;
#[cfg(test)]
mod preflight;
#[cfg(test)]
mod quiet;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod service;
#[cfg(test)]
mod told;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod unit;
#[cfg(test)]
mod verbs;
#[cfg(test)]
mod workers;
#[cfg(test)]
mod world;
