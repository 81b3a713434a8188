//! nginx is reloaded and restarted in the middle of our installs, and stopped.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use super::{LIVE, STORE, Scene};
use crate::{clock, debian::fleet::SOON, program::Output, wait::wait_for};

/// Renewals while nginx is reloaded without end.
const RENEWALS: u32 = 3;
/// Reloads as fast as systemd does them, until it is told to end; says how many went well, and how many not.
const RELOADS: &str = r#"good=0 bad=0
while [ ! -e /run/enough ]; do
    if systemctl reload nginx 2>/dev/null; then good=$((good + 1)); else bad=$((bad + 1)); fi
done
rm /run/enough
echo "$good $bad"
"#;
/// Waits for an instant of the install that follows generation $1, and for $3 seconds; then `systemctl $2 nginx`.
const AT: &str = r#"
case $4 in
staged) while [ ! -d "$STORE/$(($1 + 1))" ]; do :; done ;;
active) while [ "$LIVE" -ef "$STORE/$1" ]; do :; done ;;
esac
[ "$3" = 0 ] || sleep "$3"
exec systemctl "$2" nginx
"#;
/// When the bundle is on disk, when the link leads to it, and a while after either.
const INSTANTS: [(&str, &str); 8] = [
    ("staged", "0"),
    ("staged", "0.03"),
    ("staged", "0.06"),
    ("staged", "0.1"),
    ("active", "0"),
    ("active", "0.03"),
    ("active", "0.1"),
    ("active", "0.3"),
];
/// systemd refuses the sixth start within ten seconds.
const BETWEEN_STARTS: Duration = Duration::from_millis(2_200);

pub(super) fn play(scene: &mut Scene<'_, '_>) -> Result<()> {
    reloaded_without_end(scene)?;
    in_the_middle(scene, "reload")?;
    in_the_middle(scene, "restart")?;
    stopped(scene)
}

fn reloaded_without_end(scene: &mut Scene<'_, '_>) -> Result<()> {
    scene.tell(format!(
        "systemctl reload nginx, again and again, over {RENEWALS} renewals"
    ));
    let edge = scene.edge()?;
    let (reloads, renewed) = thread::scope(|scope| {
        let reloads = scope.spawn(|| edge.run_with(["sh", "-c", RELOADS], "", SOON * 5));
        let renewed = (0..RENEWALS).try_for_each(|_| {
            let generation = scene.renew()?;
            scene.since(generation).map(drop)
        });
        let told = edge.write("/run/enough", "");
        let reloads = reloads
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (reloads, renewed.and(told))
    });
    renewed?;
    let said = reloads?.success("reloads")?.stdout;
    let (good, bad) = said.trim().split_once(' ').context("two numbers")?;
    let newest = scene.converged()?;
    let what = format!(
        "{}, reloads by hand during {RENEWALS} renewals",
        scene.edited
    );
    scene.stage.figure(
        &what,
        format!("{good}, {bad} refused; converged at generation {newest}"),
    );
    Ok(())
}

/// At each instant once, each in a renewal of its own.
fn in_the_middle(scene: &mut Scene<'_, '_>, verb: &str) -> Result<()> {
    scene.tell(format!(
        "systemctl {verb} nginx in the middle of an install, at {} instants",
        INSTANTS.len()
    ));
    let (mut failed, mut slowest) = (0, Duration::ZERO);
    for (instant, after) in INSTANTS {
        let (ended, generation) = during(scene, verb, instant, after)?;
        let began = clock::now();
        scene.since(generation)?;
        let took = Duration::try_from(clock::now() - began).unwrap_or_default();
        slowest = slowest.max(took);
        if ended.code != 0 {
            failed += 1;
            scene.tell(format!(
                "{verb} {after} s after it was {instant} failed, and all is well {:.1} s later",
                took.as_secs_f32()
            ));
        }
        if verb == "restart" {
            thread::sleep(BETWEEN_STARTS);
        }
    }
    let what = format!(
        "{}, {verb} in the middle of {} installs",
        scene.edited,
        INSTANTS.len()
    );
    scene.stage.figure(
        &what,
        format!(
            "{failed} failed; converged at most {:.1} s later",
            slowest.as_secs_f32()
        ),
    );
    Ok(())
}

/// `systemctl VERB nginx` at an instant of a renewal; the generation that the others serve then.
fn during(scene: &Scene<'_, '_>, verb: &str, instant: &str, after: &str) -> Result<(Output, u64)> {
    let generation = scene.converged()?;
    let edge = scene.edge()?;
    let script = format!("LIVE={LIVE} STORE={STORE}{AT}");
    let number = generation.to_string();
    thread::scope(|scope| {
        let words = ["sh", "-c", &script, "at", &number, verb, after, instant];
        let meddling = scope.spawn(move || edge.run_with(words, "", SOON));
        let renewed = scene.renew();
        let ended = meddling
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((ended?, renewed?))
    })
}

fn stopped(scene: &mut Scene<'_, '_>) -> Result<()> {
    scene.tell("systemctl stop nginx in the middle of an install, and a renewal is asked for");
    let (ended, generation) = during(scene, "stop", "staged", "0")?;
    ended.success("systemctl stop nginx")?;
    let said = scene.sentence(&["nginx is not running"])?;
    let newest = scene.fleet().events()?.last().map_or(0, |event| event.id);
    scene.ask()?;
    let named = wait_for("the preflight to name it", SOON, || {
        let mut events = scene.fleet().events()?.into_iter();
        let words = format!("{}: nginx isn't running", scene.edited);
        events
            .find(|event| event.id > newest && event.text.contains(&words))
            .context("not yet")
    })?;
    scene.tell(format!("certwell events says: {}", named.text));
    scene.tell("systemctl start nginx");
    let mended = clock::now();
    scene.edge()?.shell("systemctl start nginx")?;
    scene
        .mended("nginx stopped", &said, mended, generation + 1)
        .map(drop)
}
