//! Daemons that can't start: each says why, with a named exit code, and loses nothing.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::{Result, ensure};
use certwell_lab::{
    MEDIA, Settings, World,
    program::{Output, Program},
    story,
};
use certwell_proto::Exit;

use crate::{
    SOON,
    bad_input::{ENDS, refused},
    media_on,
};

/// A clock that was lost.
const LOST: &str = "@2019-06-01 00:00:00";

#[test]
fn an_issuer_that_cannot_start_says_why_and_loses_nothing() -> Result<()> {
    story(
        "bad-start",
        &Settings::default().only(&["sally"]),
        |world| {
            world.join_all()?;
            world.issuer.declare("20-media", &media_on(&["sally"]))?;
            world.converged(MEDIA, 1, SOON)?;

            let again =
                world
                    .issuer
                    .daemon(&["init", "--fleet", "lab", "--endpoint", "127.0.0.1:1"])?;
            refused(
                "init over what is there",
                &again.run(world.directory(), "", ENDS)?,
                Exit::Conflict,
                &["exist"],
            )?;
            refused(
                "a second issuer",
                &serve_elsewhere(world)?,
                Exit::Conflict,
                &["state"],
            )?;
            ensure!(world.issuer.status().is_ok(), "the first one is gone");
            world.issuer.stop();

            let held = TcpListener::bind(world.net.issuer())?;
            refused(
                "a port in use",
                &serve(world)?,
                Exit::Conflict,
                &[&world.net.issuer().to_string()],
            )?;
            drop(held);

            refused(
                "a clock before 2020",
                &clocked(LOST, &world.issuer.daemon(&["serve"])?, world)?,
                Exit::Configuration,
                &["clock"],
            )?;

            let key = world.issuer.key_file();
            let good = fs::read(&key)?;
            fs::write(&key, "nothing like a key\n")?;
            refused(
                "an unreadable key",
                &serve(world)?,
                Exit::Configuration,
                &["issuer.kek"],
            )?;
            fs::remove_file(&key)?;
            refused(
                "no key",
                &serve(world)?,
                Exit::Configuration,
                &["issuer.kek", "put it back"],
            )?;
            fs::write(&key, &good)?;
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;

            let database = world.issuer.state().join("certwell.db");
            let whole = whole_store(world)?;
            let mut broken = fs::read(&database)?;
            let middle = broken.len() / 8..broken.len();
            broken[middle].fill(0xA5);
            fs::write(&database, &broken)?;
            refused(
                "a corrupted store",
                &serve(world)?,
                Exit::Internal,
                &["certwell.db"],
            )?;
            ensure!(
                fs::read(&database)? == broken,
                "a damaged store was written to"
            );
            for (path, bytes) in whole {
                fs::write(path, bytes)?;
            }

            world.issuer.serve()?;
            let served = world.host("sally")?.served(MEDIA)?;
            world.converged(MEDIA, 1, SOON)?;
            world
                .issuer
                .certwell(&["certificates", "renew", MEDIA])?
                .success("renew")?;
            world.all_serve_new(MEDIA, Some(served.fingerprint()), SOON, |_| true)?;
            ensure!(world.ca.accounts() == 1, "the account was lost");
            Ok(())
        },
    )
}

#[test]
fn an_agent_that_cannot_start_says_why() -> Result<()> {
    story(
        "bad-agent",
        &Settings::default().only(&["sally"]),
        |world| {
            let sally = world.host("sally")?;
            refused(
                "not enrolled",
                &sally.agent_command(&["run"])?,
                Exit::NotFound,
                &["certwell-agent enroll"],
            )?;
            sally
                .enroll(&world.issuer.token("sally")?)?
                .success("enroll")?;

            let early = clocked(LOST, &sally.agent_program(&["run"])?, world)?;
            refused(
                "a clock before 2020",
                &early,
                Exit::Configuration,
                &["clock"],
            )?;

            let key = sally.agent_state().join("identity/identity.key");
            let good = fs::read(&key)?;
            fs::write(&key, "nothing like a key\n")?;
            let garbled = sally.agent_command(&["run"])?;
            // Damage of what is ours, as of the store.
            refused(
                "a garbled identity key",
                &garbled,
                Exit::Internal,
                &["identity.key", "enroll --again"],
            )?;
            fs::write(&key, &good)?;

            world.issuer.declare("20-media", &media_on(&["sally"]))?;
            world.host_mut("sally")?.start_agent()?;
            world.converged(MEDIA, 1, SOON)
        },
    )
}

fn serve(world: &World) -> Result<Output> {
    world
        .issuer
        .daemon(&["serve"])?
        .run(world.directory(), "", ENDS)
}

/// A second issuer at other addresses, on the first one's state directory.
fn serve_elsewhere(world: &World) -> Result<Output> {
    let text = fs::read_to_string(world.issuer.config())?;
    let other = format!("{}:7443", world.net.ip(99));
    let text = text
        .replace(&world.net.issuer().to_string(), &other)
        .replace("admin.sock", "other.sock");
    let path = world.issuer.config().with_file_name("second.toml");
    fs::write(&path, text)?;
    let mut program = world.issuer.daemon(&["serve"])?;
    program.args = vec![
        "--config".into(),
        path.display().to_string(),
        "serve".into(),
    ];
    program.run(world.directory(), "", ENDS)
}

fn whole_store(world: &World) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(world.issuer.state())?.flatten() {
        if entry.file_type()?.is_file() {
            files.push((entry.path(), fs::read(entry.path())?));
        }
    }
    Ok(files)
}

/// Runs `program` under another clock; the monotonic one stays true.
fn clocked(time: &str, program: &Program, world: &World) -> Result<Output> {
    certwell_lab::clock::under(program.clone())?
        .env("FAKETIME", time)
        .run(world.directory(), "", ENDS)
}
