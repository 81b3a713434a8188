//! An old certificate is carried over ours, as on that night: scp from fritz, rm, ln -s, `nginx -t`, reload.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Fingerprint;

use super::{LIVE, STORE, Scene};
use crate::{MEDIA, certs::Pair, clock, debian::fleet::SOON, incident::ssh, probe, wait::wait_for};

const ON_FRITZ: &str = "/root/by-hand";
const ON_EDGE: &str = "/etc/by-hand";
/// Between two looks at what is served.
const GLANCE: Duration = Duration::from_millis(10);
/// Where the agent keeps what was at `live/NAME`.
const ASIDE: &str = "/etc/certwell/live/.media.hachyderm.io.before-certwell";
/// A pair is kept on fritz, as one did.
const KEEP: &str = r#"set -e
mkdir -p /root/by-hand
scp -q "$1:/etc/certwell/live/media.hachyderm.io/fullchain.pem" "$1:/etc/certwell/live/media.hachyderm.io/privkey.pem" \
    /root/by-hand/
"#;
/// The files at our place become links.
const FILES: &str = r#"set -e
ssh -n "$1" mkdir -p /etc/by-hand
scp -q /root/by-hand/fullchain.pem /root/by-hand/privkey.pem "$1:/etc/by-hand/"
ssh -n "$1" 'cd /etc/certwell/live/media.hachyderm.io && rm -f fullchain.pem privkey.pem &&
    ln -s /etc/by-hand/fullchain.pem /etc/by-hand/privkey.pem .'
ssh -n "$1" 'nginx -q -t && systemctl reload nginx'
"#;
/// The place itself becomes one.
const PLACE: &str = r#"set -e
ssh -n "$1" mkdir -p /etc/by-hand
scp -q /root/by-hand/fullchain.pem /root/by-hand/privkey.pem "$1:/etc/by-hand/"
ssh -n "$1" 'rm -f /etc/certwell/live/media.hachyderm.io &&
    ln -s /etc/by-hand /etc/certwell/live/media.hachyderm.io && nginx -q -t && systemctl reload nginx'
"#;

pub(super) fn play(scene: &mut Scene<'_, '_>) -> Result<()> {
    ssh::let_in(scene.fleet(), scene.edge()?)?;
    let aside_before = kept_aside(scene)?;
    expired_files(scene)?;
    old_place(scene)?;
    while_the_agent_is_stopped(scene)?;
    let aside = kept_aside(scene)?;
    ensure!(
        aside.len() > aside_before.len(),
        "the person's link isn't kept aside: {aside:?}"
    );
    scene.tell(format!(
        "the person's link is kept, at {}",
        aside.last().map_or("", String::as_str)
    ));
    for path in aside.iter().filter(|path| !aside_before.contains(path)) {
        scene.edge()?.run(["rm", "-f", path])?.success("rm")?;
    }
    scene.edge()?.run(["rm", "-rf", ON_EDGE])?.success("rm")?;
    scene.fleet().fritz.run(["rm", "-rf", ON_FRITZ])?;
    ssh::shut_out(scene.fleet(), scene.edge()?)
}

/// That night's certificate in the place of our files.
fn expired_files(scene: &mut Scene<'_, '_>) -> Result<()> {
    let generation = scene.converged()?;
    let pair = Pair::expired(&[MEDIA.to_owned()])?;
    let fritz = &scene.fleet().fritz;
    for (file, content) in [("fullchain", &pair.certificate), ("privkey", &pair.key)] {
        fritz.write_as(&format!("{ON_FRITZ}/{file}.pem"), content, 0o600)?;
    }
    scene.tell(
        "fritz: scp of that night's expired pair; there: rm, ln -s in live/NAME, nginx -t, reload",
    );
    carried_over(
        scene,
        "the expired pair over our files",
        FILES,
        &pair.certificate,
        generation,
    )
}

/// An older generation in the place of our link.
fn old_place(scene: &mut Scene<'_, '_>) -> Result<()> {
    let old = take_a_copy(scene)?;
    let generation = scene.renew()?;
    scene.since(generation)?;
    scene.tell("fritz: scp of a generation that is no longer current; there: rm, ln -s of live/NAME, nginx -t, reload");
    carried_over(
        scene,
        "an old generation over our link",
        PLACE,
        &old,
        generation,
    )
}

/// The same where nobody is there to notice, and nginx serves it.
fn while_the_agent_is_stopped(scene: &mut Scene<'_, '_>) -> Result<()> {
    let old = take_a_copy(scene)?;
    let leaf = scene.leaf()?;
    let generation = scene.renew()?;
    scene.since(generation)?;
    scene.tell("the same once more, and before it: systemctl stop certwell-agent");
    scene.edge()?.shell("systemctl stop certwell-agent")?;
    by_hand(scene, PLACE)?;
    wait_for("the old one to be served", SOON, || {
        ensure!(scene.leaf()? == leaf, "another is");
        Ok::<_, anyhow::Error>(())
    })?;
    let said = scene.sentence(&[])?;
    let mended = clock::now();
    scene.edge()?.shell("systemctl start certwell-agent")?;
    scene.mended(
        "an old generation served while the agent is stopped",
        &said,
        mended,
        generation,
    )?;
    nothing_lost(scene, &old)
}

/// Copies what is current now to fritz.
fn take_a_copy(scene: &Scene<'_, '_>) -> Result<String> {
    scene.converged()?;
    by_hand(scene, KEEP)?;
    let copy = scene.fleet().fritz.path(ON_FRITZ).join("fullchain.pem");
    Ok(fs::read_to_string(copy)?)
}

/// On fritz, with the edge's address.
fn by_hand(scene: &Scene<'_, '_>, script: &str) -> Result<()> {
    let address = scene.edge()?.address.to_string();
    let words = ["sh", "-c", script, "by-hand", &address];
    scene
        .fleet()
        .fritz
        .run_with(words, "", SOON)?
        .success("by hand, over ssh")
        .map(drop)
}

/// A person carries `theirs` over; nobody does anything more, and ours is there and served.
fn carried_over(
    scene: &mut Scene<'_, '_>,
    what: &str,
    script: &str,
    theirs: &str,
    generation: u64,
) -> Result<()> {
    let address = (scene.edge()?.address, 443).into();
    let leaf = leaf_of(theirs)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let glances = scope.spawn(|| {
            let (mut all, mut of_theirs) = (0, 0);
            while !over.load(Ordering::SeqCst) {
                if let Ok(served) = probe::handshake(address, MEDIA) {
                    all += 1;
                    of_theirs += u32::from(served.fingerprint() == leaf);
                }
                thread::sleep(GLANCE);
            }
            format!("{of_theirs} of {all} handshakes met the old one")
        });
        let ended = by_hand(scene, script).and_then(|()| {
            let done = clock::now();
            ours_again(scene)?;
            Ok(done)
        });
        over.store(true, Ordering::SeqCst);
        let seen = glances
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        scene.mended(what, &seen, ended?, generation)
    })?;
    nothing_lost(scene, theirs)
}

fn ours_again(scene: &Scene<'_, '_>) -> Result<()> {
    wait_for("ours at its place, and served", SOON, || {
        let edge = scene.edge()?;
        let there = edge.shell(&format!("readlink -f {LIVE}/fullchain.pem"))?;
        ensure!(there.starts_with(STORE), "{there}");
        let on_disk = leaf_of(&edge.shell(&format!("cat {LIVE}/fullchain.pem"))?)?;
        ensure!(on_disk == scene.leaf()?, "it isn't served");
        Ok::<_, anyhow::Error>(())
    })
}

fn leaf_of(pem: &str) -> Result<Fingerprint> {
    let chain = certwell_proto::pem::read_certificates(pem.as_bytes())?;
    let leaf = chain.first().context("no certificate")?;
    Ok(Fingerprint::of(leaf))
}

fn nothing_lost(scene: &Scene<'_, '_>, theirs: &str) -> Result<()> {
    let there = scene
        .edge()?
        .shell(&format!("cat {ON_EDGE}/fullchain.pem"))?;
    ensure!(there == theirs, "what the person brought was changed");
    Ok(())
}

fn kept_aside(scene: &Scene<'_, '_>) -> Result<Vec<String>> {
    let said = scene
        .edge()?
        .shell(&format!("ls -d {ASIDE}* 2>/dev/null || :"))?;
    Ok(said.lines().map(ToOwned::to_owned).collect())
}
