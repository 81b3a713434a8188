//! What issuance tasks are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use certwell_proto::{CertificateName, Generation};
use jiff::Timestamp;

use crate::config::Config;

/// Published by the registry at each change.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// The last good configuration.
    pub config: Arc<Config>,
    /// `certwell pause` without a name.
    pub all_paused: bool,
    /// `certwell pause NAME`.
    pub paused: BTreeSet<CertificateName>,
    /// Renewals that a person asked for.
    pub forced: BTreeMap<CertificateName, Forced>,
    /// Nothing is ordered of these before their hosts have told what they have.
    pub recovering: BTreeSet<CertificateName>,
    /// Generations that exist, and that the store holds no bundle of.
    pub forgotten: BTreeMap<CertificateName, Generation>,
}

/// A renewal that a person asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forced {
    /// Until this generation is issued.
    pub generation: Generation,
    /// When he asked.
    pub at: Timestamp,
}

impl Control {
    /// The generation that was issued after the backup from which the store was restored, else none.
    pub fn forgotten(&self, certificate: &CertificateName) -> Generation {
        self.forgotten.get(certificate).copied().unwrap_or_default()
    }

    /// Whether orders and offers of this certificate are stopped.
    pub fn is_paused(&self, certificate: &CertificateName) -> bool {
        self.all_paused || self.paused.contains(certificate)
    }
}
