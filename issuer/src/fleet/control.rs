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
    /// Whether orders and offers of this certificate are stopped.
    pub fn is_paused(&self, certificate: &CertificateName) -> bool {
        self.all_paused || self.paused.contains(certificate)
    }
}
