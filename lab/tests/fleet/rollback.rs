//! A renewal that one host's nginx refuses: that host keeps what it served, and the others have the new one, all of
//! them without a gap.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{Host, MEDIA, Settings, probe, story, wait_for};
use certwell_proto::Fingerprint;

use crate::{SOON, first_issuance};

/// The one whose nginx refuses it.
const REFUSING: &str = "sally";

/// Handshakes with one host, one after another; each leaf that it came to, in order, without repetitions.
struct Visitor {
    host: String,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Fingerprint>>>,
}

impl Visitor {
    fn of(host: &Host) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (until, address) = (Arc::clone(&over), host.https());
        let thread = thread::spawn(move || {
            let mut seen = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let leaf = probe::handshake(address, MEDIA)?.fingerprint();
                if !seen.contains(&leaf) {
                    seen.push(leaf);
                }
                thread::sleep(Duration::from_millis(5));
            }
            Ok(seen)
        });
        Self {
            host: host.name.clone(),
            over,
            thread,
        }
    }

    /// Fails when a single handshake failed.
    fn end(self) -> Result<Vec<Fingerprint>> {
        self.over.store(true, Ordering::Relaxed);
        let seen = self.thread.join().ok().context("a visitor fell over")?;
        seen.with_context(|| format!("a gap on {}", self.host))
    }
}

#[test]
fn a_renewal_that_one_host_s_nginx_refuses_is_served_by_all_the_others() -> Result<()> {
    story("rolled-back", &Settings::default(), |world| {
        let first = first_issuance(world)?.fingerprint();
        let host = world.host(REFUSING)?;
        let config = fs::read_to_string(host.nginx.config())?;
        host.refuse_the_next(MEDIA)?;

        let visitors: Vec<Visitor> = world.hosts.iter().map(Visitor::of).collect();
        let renew = ["certificates", "renew", MEDIA];
        world.issuer.certwell(&renew)?.success("renew")?;
        let others = |host: &Host| host.name != REFUSING;
        let second = world.all_serve_new(MEDIA, Some(first), SOON, others)?;
        wait_for("status to tell of one and of no other", SOON, || {
            let status = world.issuer.status()?;
            let found = status.certificate(MEDIA).context("not in status")?;
            for host in &found.hosts {
                let expected = if host.host == REFUSING {
                    "failed"
                } else {
                    "converged"
                };
                ensure!(host.state == expected, "{}", found.states());
            }
            let refusing = found.host(REFUSING).context("not in status")?;
            let problem = refusing.problem.clone().unwrap_or_default();
            ensure!(
                problem.contains("key values mismatch") && problem.contains("generation 1"),
                "{problem}"
            );
            ensure!(world.issuer.certwell(&["status"])?.code == 3);
            Ok(())
        })?;
        for visitor in visitors {
            let refusing = visitor.host == REFUSING;
            let host = visitor.host.clone();
            let seen = visitor.end()?;
            let expected = if refusing {
                vec![first]
            } else {
                vec![first, second.fingerprint()]
            };
            ensure!(seen == expected, "{host}: {seen:?}");
        }

        // Mended, the next one is served everywhere.
        let host = world.host(REFUSING)?;
        host.nginx.replace_config(&config)?;
        host.nginx.reload()?;
        world.issuer.certwell(&renew)?.success("renew")?;
        world.all_serve_new(MEDIA, Some(second.fingerprint()), SOON, |_| true)?;
        world.converged(MEDIA, 3, SOON)
    })
}
