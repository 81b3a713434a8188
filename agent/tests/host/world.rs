//! An issuer, an authority and an enrolled host.

use certwell_proto::{Fingerprint, v1};

use super::{
    fleet::Authority,
    host::{Host, NAME},
    issuer::TestIssuer,
};

pub(crate) const NAMES: &[&str] = &[NAME, "www.example.org"];

pub(crate) struct World {
    pub(crate) issuer: TestIssuer,
    pub(crate) authority: Authority,
    pub(crate) host: Host,
}

pub(crate) async fn world() -> World {
    let world = World {
        issuer: TestIssuer::start().await,
        authority: Authority::new("test CA"),
        host: Host::new(),
    };
    world.host.enroll(&world.issuer).await;
    world
}

/// The same with nginx and the agent at work, and generation 1 served.
pub(crate) async fn serving() -> (World, v1::Bundle) {
    serving_as(world().await).await
}

/// A world that was prepared otherwise, likewise.
pub(crate) async fn serving_as(mut world: World) -> (World, v1::Bundle) {
    world.host.start_nginx().await;
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    (world, first)
}

pub(crate) fn leaf(bundle: &v1::Bundle) -> Fingerprint {
    Fingerprint::of(&bundle.key_pairs[0].fullchain[0])
}

impl World {
    pub(crate) fn bundle(&self, generation: u64) -> v1::Bundle {
        self.authority.bundle(NAME, generation, NAMES)
    }

    pub(crate) fn offer(&self, bundle: &v1::Bundle) {
        self.issuer.offer(&self.authority, bundle, NAMES);
    }

    pub(crate) async fn outcome(
        &self,
        generation: u64,
        outcome: v1::Outcome,
    ) -> v1::CertificateReport {
        self.issuer
            .told(&format!("{outcome:?} at {generation}"), NAME, |report| {
                report.outcome_generation == generation && report.outcome() == outcome
            })
            .await
    }
}

/// Not by `eprintln!`, which is heard only when a test fails.
pub(crate) fn skipped(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
