//! Somebody breaks a vhost, and mends it, and does nothing else.

use std::fs;

use anyhow::{Result, ensure};

use super::Scene;
use crate::clock;

const SITE: &str = "/etc/nginx/sites-enabled/media";
const SOUND: &str = "ssl_protocols TLSv1.2";
const BROKEN: &str = "ssl_protocolls TLSv1.2";

pub(super) fn play(scene: &mut Scene<'_, '_>) -> Result<()> {
    let file = scene.edge()?.path(SITE);
    let sound = fs::read_to_string(&file)?;
    let line = 1 + sound
        .lines()
        .take_while(|line| !line.contains(SOUND))
        .count();
    let before = scene.leaf()?;
    scene.tell(format!("a vhost gets a mistake, at {SITE}:{line}"));
    fs::write(&file, sound.replace(SOUND, BROKEN))?;
    let generation = scene.renew()?;
    scene.tell(format!("meanwhile generation {generation} is issued"));
    let at = format!("{SITE}:{line}");
    let said = scene.sentence(&["nginx -t", "ssl_protocolls", &at])?;
    ensure!(
        scene.leaf()? == before,
        "what is served changed, though nginx can't load its configuration"
    );
    scene.tell("the mistake is taken back, and nginx isn't touched by hand");
    fs::write(&file, &sound)?;
    let mended = clock::now();
    scene.sentence(&[SITE, "an edit seems to be in progress"])?;
    scene
        .mended("a broken vhost", &said, mended, generation)
        .map(drop)
}
