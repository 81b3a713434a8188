//! What goes wrong before anything goes right: each time a sentence that says what to do, a named exit code, and
//! nothing lost.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{MEDIA, Settings, issuer::find_token, program::Output, story, wait_for};
use certwell_proto::{Exit, Fingerprint, JoinToken};

use crate::{SOON, media_on};

pub(crate) const ENDS: Duration = Duration::from_secs(20);

/// Text of a file in conf.d, and what its complaint says beside path, line and caret.
const MISTAKES: [(&str, &str, &[&str]); 8] = [
    (
        "unknown key",
        "[host.bob]\nlabel = [\"cdn\"]\n",
        &["90-bad.toml:2", "label"],
    ),
    (
        "unknown table",
        "[hosts.bob]\n",
        &["90-bad.toml:1", "hosts"],
    ),
    (
        "a certificate declared twice",
        "[certificate.\"media.hachyderm.io\"]\nhosts = [\"sally\"]\n",
        &["90-bad.toml:1", "media.hachyderm.io", "20-media.toml"],
    ),
    (
        "no DNS name",
        "[certificate.bad]\nhosts = [\"sally\"]\nidentifiers = [\"not a name\"]\n",
        &["90-bad.toml:3", "not a name"],
    ),
    (
        "a name that leaves its directory",
        "[certificate.\"../x\"]\nhosts = [\"sally\"]\n",
        &["90-bad.toml:1", "../x"],
    ),
    (
        "a host that nobody declared",
        "[certificate.\"a.example.org\"]\nhosts = [\"bob\"]\n",
        &["90-bad.toml:2", "bob"],
    ),
    (
        "a label that nobody has",
        "[certificate.\"a.example.org\"]\nhosts = [\"label:nobody\"]\n",
        &["90-bad.toml:2", "nobody"],
    ),
    ("no TOML", "[certificate\n", &["90-bad.toml:1"]),
];

#[test]
fn mistakes_in_the_configuration_are_told_with_line_and_caret_and_change_nothing() -> Result<()> {
    story(
        "bad-configuration",
        &Settings::default().only(&["sally"]),
        |world| {
            world.issuer.declare("20-media", &media_on(&["sally"]))?;
            wait_for("the certificate in status", SOON, || {
                world
                    .issuer
                    .status()?
                    .certificate(MEDIA)
                    .map(|_| ())
                    .context("it isn't there")
            })?;
            for (what, text, says) in MISTAKES {
                world.issuer.declare("90-bad", text)?;
                let check = world
                    .issuer
                    .daemon(&["check"])?
                    .run(world.directory(), "", ENDS)?;
                refused(what, &check, Exit::Configuration, says)?;
                ensure!(
                    check.stderr.contains('^') || check.stdout.contains('^'),
                    "{what}: no caret in\n{}",
                    check.stderr
                );
                // The running issuer says so, and goes on with what it had.
                wait_for(&format!("{what}: status tells of it"), SOON, || {
                    let status = world.issuer.certwell(&["status"])?;
                    ensure!(status.stdout.contains("90-bad.toml"), "{}", status.stdout);
                    ensure!(
                        status.stdout.contains(MEDIA),
                        "the good configuration is gone: {}",
                        status.stdout
                    );
                    Ok(())
                })?;
                world.issuer.undeclare("90-bad")?;
                wait_for(&format!("{what}: all is well again"), SOON, || {
                    let status = world.issuer.certwell(&["status"])?;
                    ensure!(!status.stdout.contains("90-bad.toml"), "{}", status.stdout);
                    Ok(())
                })?;
            }
            let check = world
                .issuer
                .daemon(&["check"])?
                .run(world.directory(), "", ENDS)?;
            ensure!(check.code == 0, "{}", check.stderr);

            let config = world.host("sally")?.agent_config();
            let good = fs::read_to_string(&config)?;
            fs::write(&config, format!("live-directorie = \"/tmp\"\n{good}"))?;
            for verb in ["check", "run"] {
                let output = world.host("sally")?.agent_command(&[verb])?;
                refused(
                    verb,
                    &output,
                    Exit::Configuration,
                    &["agent.toml:1", "live-directorie", "^"],
                )?;
            }
            Ok(())
        },
    )
}

#[test]
fn tokens_that_are_no_good_enroll_nobody() -> Result<()> {
    story(
        "bad-tokens",
        &Settings::default().only(&["sally", "esme"]),
        |world| {
            let sally = world.host("sally")?;
            let identity = sally.agent_state().join("identity/identity.pem");
            let token = world.issuer.token("sally")?;
            let cut = &token[..token.len() - 5];
            for (what, text, says) in [
                ("no token at all", "hello", "certwell token create"),
                ("cut short", cut, "damaged"),
            ] {
                refused(what, &sally.enroll(text)?, Exit::Usage, &[says])?;
            }
            // As an argument, too.
            refused(
                "an argument",
                &sally.agent_command(&["enroll", "hello"])?,
                Exit::Usage,
                &["certwell token create"],
            )?;

            let expiring = world
                .issuer
                .certwell(&["token", "create", "--host", "esme", "--ttl", "1s"])?
                .success("token")?;
            let expiring = find_token(&expiring.stdout)?;
            thread::sleep(Duration::from_millis(1500));
            let late = world.host("esme")?.enroll(&expiring)?;
            refused("expired", &late, Exit::Denied, &["certwell token create"])?;

            let other = other_issuers_token(&token)?;
            refused(
                "of another issuer",
                &sally.enroll(&other)?,
                Exit::Denied,
                &["issuer"],
            )?;
            let nobody = world
                .issuer
                .certwell(&["token", "create", "--host", "bob"])?;
            refused(
                "a host that nobody declared",
                &nobody,
                Exit::NotFound,
                &["bob"],
            )?;

            ensure!(!identity.exists(), "it was enrolled");
            // Nothing is lost: the good token still is good, once.
            sally.enroll(&token)?.success("certwell-agent enroll")?;
            ensure!(identity.exists());
            let before = fs::read(&identity)?;
            refused(
                "used by itself",
                &sally.enroll(&token)?,
                Exit::Conflict,
                &["enrolled", "--again"],
            )?;
            ensure!(
                fs::read(&identity)? == before,
                "the identity is another one now"
            );
            // Nor does it serve another host.
            refused(
                "used",
                &world.host("esme")?.enroll(&token)?,
                Exit::Denied,
                &["certwell token create"],
            )?;
            Ok(())
        },
    )
}

/// As another fleet's issuer would have made it, though its endpoint leads to this one.
fn other_issuers_token(token: &str) -> Result<String> {
    let mut token: JoinToken = token.parse()?;
    token.ca_pin = Fingerprint::of(b"another fleet's CA");
    Ok(token.to_text())
}

pub(crate) fn refused(what: &str, output: &Output, exit: Exit, says: &[&str]) -> Result<()> {
    let text = format!("{}{}", output.stdout, output.stderr);
    ensure!(
        output.code == exit as i32,
        "{what}: exit {} instead of {exit:?}:\n{text}",
        output.code
    );
    for word in says {
        ensure!(
            text.contains(word),
            "{what}: says nothing of {word:?}:\n{text}"
        );
    }
    ensure!(!text.contains("panicked"), "{what}: {text}");
    Ok(())
}
