//! `kill -9` of the issuer at each stage of an order, of a certificate's first one and of a renewal: exactly one order
//! of each intent is finalized.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    Settings, Site, World,
    gate::{Side, Stage},
    story, wait_for,
};

use crate::SOON;

/// Each is tried with a certificate of its own. The account is made by the first order of all.
const STAGES: [(Stage, &str); 9] = [
    (Stage::Account, "account.example.org"),
    (Stage::Order, "order.example.org"),
    (Stage::Poll, "poll.example.org"),
    (Stage::Authorization, "authorization.example.org"),
    (Stage::Challenge, "challenge.example.org"),
    (Stage::Validating, "validating.example.org"),
    (Stage::Finalize, "finalize.example.org"),
    (Stage::Finalized, "finalized.example.org"),
    (Stage::Certificate, "certificate.example.org"),
];

#[test]
fn a_kill_before_the_ca_hears_of_a_stage_finalizes_exactly_one_order() -> Result<()> {
    killed_at_each_stage("crashes-request", Side::Request)
}

#[test]
fn a_kill_before_the_issuer_hears_of_a_stage_finalizes_exactly_one_order() -> Result<()> {
    killed_at_each_stage("crashes-answer", Side::Answer)
}

fn killed_at_each_stage(name: &str, side: Side) -> Result<()> {
    let settings = Settings {
        gated: true,
        sites: STAGES.map(|(_, name)| Site::new(name, &[name])).to_vec(),
        ..Settings::default()
    }
    .only(&["sally"]);
    story(name, &settings, |world| {
        world.join_all()?;
        for (stage, name) in STAGES {
            let first = Round {
                certificate: name,
                generation: 1,
                stage,
                side,
            };
            let context = || format!("the first order, killed at {stage:?}, {side:?}");
            let came = first.play(world).with_context(context)?;
            ensure!(came, "the first order has no stage {stage:?}");
            if stage == Stage::Account {
                continue;
            }
            for generation in 2.. {
                let renewal = Round {
                    generation,
                    ..first
                };
                let context = || format!("a renewal, killed at {stage:?}, {side:?}");
                if renewal.play(world).with_context(context)? {
                    break;
                }
                println!("an old authorization served: {stage:?} is tried with another renewal");
            }
        }
        let accounts = world.ca.accounts();
        ensure!(
            accounts == 1,
            "{accounts} accounts were made; the key was committed before"
        );
        Ok(())
    })
}

/// One intent, and where the issuer is killed.
#[derive(Clone, Copy)]
struct Round {
    certificate: &'static str,
    generation: u64,
    stage: Stage,
    side: Side,
}

impl Round {
    /// Whether the issuer came to this stage, and was killed there. Pebble takes an old authorization for one order
    /// in a hundred even where it is told to take none (it asks whether a number from 0 to 99 is over 0): such a
    /// renewal has no authorization to read and no challenge to answer.
    fn play(self, world: &mut World) -> Result<bool> {
        let host = world.host("sally")?;
        let before = host.served(self.certificate)?.fingerprint();
        let (orders, issued) = (world.ca.orders(), world.ca.issued());
        let gate = world.gate.as_ref().context("no gate")?;
        gate.arm(self.stage, self.side);
        self.begin(world)?;
        let came = self.comes_to_it(world, issued)?;
        if came {
            world.issuer.kill9()?;
        }
        world.gate.as_ref().context("no gate")?.open();
        if came {
            world.issuer.serve()?;
        }
        world.all_serve_new(self.certificate, Some(before), SOON, |_| true)?;
        world.converged(self.certificate, self.generation, SOON)?;
        let made = world.ca.issued() - issued;
        ensure!(made == 1, "{made} certificates were issued for one intent");
        let placed = world.ca.orders() - orders;
        // An order whose answer was lost can't be known of; every other one is resumed by its URL.
        let lost = (self.stage, self.side) == (Stage::Order, Side::Answer);
        let allowed = if lost { 2 } else { 1 };
        ensure!(placed == allowed, "{placed} orders were placed");
        Ok(came)
    }

    fn begin(self, world: &World) -> Result<()> {
        let name = self.certificate;
        if self.generation == 1 {
            let declared = format!("[certificate.\"{name}\"]\nhosts = [\"sally\"]\n");
            return world.issuer.declare(name, &declared);
        }
        let output = world.issuer.certwell(&["certificates", "renew", name])?;
        output.success("certwell certificates renew").map(drop)
    }

    /// Waits until the request is held; false when the certificate was issued without it.
    fn comes_to_it(self, world: &World, issued: usize) -> Result<bool> {
        let gate = world.gate.as_ref().context("no gate")?;
        wait_for("the request, or the certificate", SOON, || {
            if gate.wait_held(Duration::ZERO).is_ok() {
                return Ok(true);
            }
            // Only then can it have been left out.
            let late = matches!(
                self.stage,
                Stage::Finalize | Stage::Finalized | Stage::Certificate
            );
            ensure!(!late && world.ca.issued() > issued, "{:?}", gate.seen());
            Ok(false)
        })
    }
}
