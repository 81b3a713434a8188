//! `make screenshots`: the pictures of the page in `docs/images`, taken of the demo's four hosts.

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    Ending, MEDIA, MEDIA_DECLARED, Settings, World,
    browser::{Browser, Light, Look, Page, log_in},
    paths::{Home, workspace},
    ports::Net,
    wait_for,
};

use crate::{interruptible, narrator::Narrator};

const PATIENCE: Duration = Duration::from_secs(90);
/// As public CAs issue them.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3_600);
/// So that one needn't wait for an alert.
const ALERTS: &str = "[alerts]\nevery = \"500ms\"\nsettle = \"1s\"\n";
/// Bytes, at most.
const LARGEST: usize = 200_000;

const DESK: Look = Look {
    light: Light::Light,
    width: 1100,
    scripts: true,
    still: true,
    scale: 1,
};
const PHONE: Look = Look {
    width: 360,
    scale: 2,
    ..DESK
};
const DARK: Look = Look {
    light: Light::Dark,
    ..DESK
};

/// Takes them all anew.
///
/// # Errors
/// When a part doesn't come up, or a picture gets too large.
pub(crate) fn run() -> Result<ExitCode> {
    let home = Home::take("screenshots")?;
    let directory = home.path().to_owned();
    let narrator = Narrator::new();
    let teller = narrator.clone();
    interruptible::play(
        directory,
        &narrator,
        move || take_all(home, &teller),
        |count| println!("stopped, {count} processes ended"),
    )
}

fn take_all(home: Home, narrator: &Narrator) -> Result<ExitCode> {
    let settings = Settings {
        validity: Some(LIFE),
        ..Settings::default()
    };
    let mut world = World::start_in(home, Net::demo(), &settings, &|part| narrator.tell(part))?;
    world.issuer.declare("30-alerts", ALERTS)?;
    world.join_all()?;
    world.issuer.declare("20-media", MEDIA_DECLARED)?;
    world.converged(MEDIA, 1, PATIENCE)?;
    let browser = Browser::start()?;
    let certificate = format!("/certificates/{MEDIA}");
    let camera = Camera {
        browser: &browser,
        world: &world,
        narrator,
    };
    let seen = "document.querySelectorAll('.matrix .r7.good').length === 4";
    camera.take("overview-light", &DESK, "/", seen, None)?;
    camera.take("overview-dark", &DARK, "/", seen, None)?;
    camera.take(
        "certificate",
        &DESK,
        &certificate,
        &unfolded("sally"),
        Some(1105),
    )?;

    // Its words name no file of this machine.
    world.host_mut("sally")?.nginx.stop();
    let renew = ["certificates", "renew", MEDIA];
    world.issuer.certwell(&renew)?.success("renew")?;
    let camera = Camera {
        browser: &browser,
        world: &world,
        narrator,
    };
    let failing = "document.querySelectorAll('.matrix .r7.good').length === 3 && \
                   document.querySelector('.alerts form')";
    camera.take("failing-host", &DESK, "/", failing, None)?;
    camera.take("phone", &PHONE, "/", failing, Some(840))?;
    world.ends(Ending::Remove);
    narrator.done();
    Ok(ExitCode::SUCCESS)
}

struct Camera<'a> {
    browser: &'a Browser,
    world: &'a World,
    narrator: &'a Narrator,
}

impl Camera<'_> {
    /// Takes a picture of a page as soon as `ready` holds on it; of its uppermost pixels, where it is a long one.
    fn take(
        &self,
        name: &str,
        look: &Look,
        path: &str,
        ready: &str,
        most: Option<u32>,
    ) -> Result<()> {
        let origin = format!("http://{}", self.world.net.page());
        let token = self.world.issuer.certwell(&["page", "--token"])?;
        let page = self.browser.page(look)?;
        log_in(
            &page,
            &origin,
            token.success("certwell page --token")?.stdout.trim(),
        )?;
        page.open_url(&format!("{origin}{path}"))?;
        wait_for(&format!("{name} to be as wished"), PATIENCE, || {
            holds(
                &page,
                "document.querySelector('#live').innerText === 'Live.'",
            )?;
            holds(&page, ready)
        })?;
        let picture = page.picture(most)?;
        let size = picture.len();
        ensure!(size <= LARGEST, "{name} has {size} bytes");
        let file = workspace().join(format!("docs/images/{name}.png"));
        fs::write(&file, picture).with_context(|| file.display().to_string())?;
        self.narrator
            .tell(&format!("docs/images/{name}.png, {} KiB", size / 1024));
        Ok(())
    }
}

/// Holds once one host's part of a certificate's page is unfolded.
fn unfolded(host: &str) -> String {
    format!("document.querySelector('#on-{host}').open = true")
}

fn holds(page: &Page<'_>, condition: &str) -> Result<()> {
    let held = page.eval(&format!("Boolean({condition})"))?;
    ensure!(held == true, "not so: {condition}");
    Ok(())
}
