//! Act 4: people do by hand on one edge what people do, in the middle of our work as well. Each time the edge is converged
//! again, or `certwell status` says in one sentence what is in the way; and the others notice nothing.
//!
//! ```text
//! vhost      a vhost with a mistake in it                          nginx      reloaded and restarted in the middle, stopped
//! old_pair   that night's scp, rm, ln -s, with an old certificate   upgrade    nginx is upgraded by apt
//! ```

mod nginx;
mod old_pair;
mod upgrade;
mod vhost;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Fingerprint;
use jiff::Timestamp;

use super::{Stage, stream::Stream};
use crate::{
    MEDIA, clock,
    debian::{Fleet, Machine, fleet::SOON},
    wait::wait_for,
};

/// Who is edited, of bookworm.
const SALLY: &str = "sally";
/// Of trixie: upgraded as well.
const ESME: &str = "esme";
const LIVE: &str = "/etc/certwell/live/media.hachyderm.io";
const STORE: &str = "/var/lib/certwell-agent/store/media.hachyderm.io";
/// Longer a sentence isn't quoted in the table.
const QUOTED: usize = 100;

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    let mut unharmed = 0;
    for (edited, scenes) in [
        (
            SALLY,
            &[
                vhost::play as fn(&mut Scene<'_, '_>) -> Result<()>,
                old_pair::play,
                nginx::play,
                upgrade::play,
            ][..],
        ),
        (ESME, &[upgrade::play]),
    ] {
        let stream = Stream::to(stage.fleet, MEDIA, |edge| edge != edited)?;
        let mut scene = Scene { stage, edited };
        scene.converged()?;
        let played = scenes.iter().try_for_each(|play| play(&mut scene));
        let outcome = stream.stop();
        for line in &outcome.told {
            stage.tell(line);
        }
        played?;
        stage.none(
            &format!("requests to the three others that failed while {edited} was edited"),
            outcome.bad,
        )?;
        unharmed += outcome.good;
    }
    stage.figure("requests to the three others, answered", unharmed);
    Ok(())
}

/// One edge, under somebody's hands.
struct Scene<'s, 'f> {
    stage: &'s mut Stage<'f>,
    edited: &'static str,
}

impl Scene<'_, '_> {
    fn fleet(&self) -> &Fleet {
        self.stage.fleet
    }

    fn edge(&self) -> Result<&Machine> {
        self.fleet().edge(self.edited)
    }

    fn tell(&self, line: impl AsRef<str>) {
        self.stage
            .tell(format!("{}: {}", self.edited, line.as_ref()));
    }

    /// What the edge serves now.
    fn leaf(&self) -> Result<Fingerprint> {
        Ok(self.fleet().served(self.edge()?, MEDIA)?.fingerprint())
    }

    /// Asks for a renewal.
    fn ask(&self) -> Result<()> {
        self.fleet().renew(MEDIA)
    }

    /// Renews; the other edges serve what came of it.
    fn renew(&self) -> Result<u64> {
        let generation = self.newest()?;
        self.ask()?;
        self.others_converged(generation + 1)
    }

    /// The newest generation that is issued.
    fn newest(&self) -> Result<u64> {
        let status = self.fleet().status()?;
        let certificate = status.certificate(MEDIA).context("not in status")?;
        Ok(certificate.generation)
    }

    fn others_converged(&self, generation: u64) -> Result<u64> {
        self.fleet()
            .converged(MEDIA, generation, SOON, |host| host != self.edited)
    }

    /// All four serve the newest generation.
    fn converged(&self) -> Result<u64> {
        self.since(1)
    }

    /// The same, when it is this one or a later.
    fn since(&self, generation: u64) -> Result<u64> {
        let newest = self.fleet().converged(MEDIA, generation, SOON, |_| true)?;
        // That it is so is a fact, and what `status` says of it is nothing.
        wait_for("nothing in the way", SOON, || {
            let problem = self.problem()?;
            ensure!(problem.is_none(), "{problem:?}");
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(newest)
    }

    fn problem(&self) -> Result<Option<String>> {
        let status = self.fleet().status()?;
        let host = status
            .certificate(MEDIA)
            .and_then(|certificate| certificate.host(self.edited))
            .context("not in status")?;
        Ok(host.problem.clone())
    }

    /// What `certwell status` says is in the way there: one sentence that has each of these words. All others are well.
    fn sentence(&self, words: &[&str]) -> Result<String> {
        let sentence = wait_for("one clear sentence in certwell status", SOON, || {
            let status = self.fleet().status()?;
            let certificate = status.certificate(MEDIA).context("not in status")?;
            let host = certificate.host(self.edited).context("not in status")?;
            let problem = host.problem.clone().context("no problem is told")?;
            ensure!(
                host.state != "converged" && words.iter().all(|word| problem.contains(word)),
                "{} {problem}",
                host.state
            );
            let others = certificate.hosts.iter().filter(|h| h.host != self.edited);
            for other in others {
                ensure!(
                    other.state == "converged" && other.problem.is_none(),
                    "{}: {} {:?}",
                    other.host,
                    other.state,
                    other.problem
                );
            }
            Ok::<_, anyhow::Error>(problem)
        })?;
        ensure!(
            sentence.contains(self.edited) && !sentence.contains(char::is_control),
            "no sentence about {}: {sentence:?}",
            self.edited
        );
        self.stage.tell(format!("certwell status says: {sentence}"));
        Ok(sentence)
    }

    /// What was said, and how long it took from `mended` until all is well at this generation or a later one.
    fn mended(
        &mut self,
        what: &str,
        said: &str,
        mended: Timestamp,
        generation: u64,
    ) -> Result<u64> {
        let newest = self.since(generation)?;
        let took = Duration::try_from(clock::now() - mended).unwrap_or_default();
        let said = match said.char_indices().nth(QUOTED) {
            Some((end, _)) => format!("{} …", &said[..end]),
            None => said.to_owned(),
        };
        self.stage.figure(
            &format!("{}, {what}", self.edited),
            format!("{said}; converged {:.1} s later", took.as_secs_f32()),
        );
        Ok(newest)
    }
}
