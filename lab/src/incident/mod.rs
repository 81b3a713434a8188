//! The incident of 2023-02-28, replayed on whole Debian hosts: what went wrong that night, and how the fleet stands it.
//!
//! Each act takes a fleet that is set up and serves, and leaves one behind. `make incident` plays all of them on one
//! fleet, the tests each on its own.
//!
//! ```text
//! stage    the fleet, who hears of what happens, the figures        stream   requests to every edge, each of them judged
//! pair     whether key, leaf and chain on an edge fit
//! outage   1 renewals under a stream of requests
//! dns      2 a geo name, and an edge that is off
//! expired  3 an edge that slept past its certificate
//! edited   4 an edge under somebody's hands                      ssh      as that night's hands had it
//! issuer_lost  5 fritz dies, and is restored             ledgers  generations and words of the agents, as they were
//! storm    6 every host loses its power at once
//! old_way  7 that night's loop over ssh, timed beside ours
//! soak     an hour and more of renewals                   gauge    what daemons hold, and what lies on disks
//! ```

mod dns;
mod edited;
mod expired;
mod gauge;
mod issuer_lost;
mod ledgers;
mod old_way;
mod outage;
mod pair;
pub mod soak;
mod ssh;
pub mod stage;
mod storm;
pub mod stream;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

pub use self::stage::{Figure, Stage};
use crate::{
    MEDIA,
    debian::{Fleet, fleet::SOON},
};

/// How long the certificates of the replay live.
pub const LIFE: Duration = Duration::from_secs(180);
/// [`MEDIA`] on all edges.
pub const DECLARED: &str = "[certificate.\"media.hachyderm.io\"]\nhosts = [\"label:edge\"]\n";

/// An act of the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Act {
    /// Certificates of three minutes' life are renewed under a steady stream of requests.
    Outage,
    /// The CA comes to random edges of a geo name, and one of them is off.
    Dns,
    /// An edge sleeps until its certificate is over, and boots.
    Expired,
    /// People do by hand on one edge what people do.
    Edited,
    /// The issuer's host is off for longer than a certificate lives, loses its disk, and is restored from a backup.
    IssuerLost,
    /// All hosts lose their power at once, in the middle of a renewal.
    Storm,
    /// That night's loop over ssh, timed beside ours.
    OldWay,
}

impl Act {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Outage,
        Self::Dns,
        Self::Expired,
        Self::Edited,
        Self::IssuerLost,
        Self::Storm,
        Self::OldWay,
    ];

    /// In one word.
    pub fn name(self) -> String {
        let named = self.to_possible_value();
        named.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it is about.
    pub fn title(self) -> &'static str {
        match self {
            Self::Outage => "1. The outage can't happen",
            Self::Dns => "2. No DNS change",
            Self::Expired => "3. The night it had already expired",
            Self::Edited => "4. The edge that was edited by hand",
            Self::IssuerLost => "5. fritz dies",
            Self::Storm => "6. Reboot storm",
            Self::OldWay => "7. The old way, timed",
        }
    }

    /// Plays it.
    ///
    /// # Errors
    /// When something didn't hold.
    pub fn play(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            Self::Outage => outage::play(stage),
            Self::Dns => dns::play(stage),
            Self::Expired => expired::play(stage),
            Self::Edited => edited::play(stage),
            Self::IssuerLost => issuer_lost::play(stage),
            Self::Storm => storm::play(stage),
            Self::OldWay => old_way::play(stage),
        }
        .context(self.title())
    }
}

/// Sets a booted fleet up by the README's steps, and has every edge serve [`MEDIA`].
///
/// # Errors
/// When it doesn't come to that.
pub fn open(fleet: &Fleet, tell: &(dyn Fn(&str) + Sync)) -> Result<()> {
    fleet.set_up(tell)?;
    fleet.declare("20-media", DECLARED)?;
    fleet.converged(MEDIA, 1, SOON, |_| true)?;
    tell("all four edges serve their first certificate");
    Ok(())
}
