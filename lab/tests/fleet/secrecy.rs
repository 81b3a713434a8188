//! Private keys are where they must be, and nowhere else: everything that a whole run leaves behind is searched for
//! every key that was made in it, at the lowest log level, with all that goes wrong in it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use certwell_issuer::store::{
    Store as _,
    keys::{Kek, RecoveryKey},
    sqlite::SqliteStore,
};
use certwell_lab::{MEDIA, Settings, World, program::Output, story, wait_for};
use certwell_proto::{JoinToken, pem};

use crate::{
    SOON, media_on, named,
    search::{Secret, all_files, leaks, scalar},
};

/// Where the CA finds nobody.
const LOST: &str = "lost.example.org";
/// Recovery keys are in Crockford's base 32.
const ALPHABET: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// What may carry a key is asked to write all, too.
const EVERYTHING: &str =
    "trace,h2=trace,hyper=trace,rustls=trace,tonic=trace,sqlx=trace,instant_acme=trace";

#[test]
fn no_private_key_leaves_its_file_at_any_log_level() -> Result<()> {
    let settings = Settings {
        log_filter: EVERYTHING.into(),
        ..Settings::default()
    }
    .only(&["sally", "esme"]);
    story("secrecy", &settings, |world| {
        let mut secrets = enrolled(world)?;
        issued_and_renewed(world)?;
        a_refused_edit(world)?;
        a_failed_validation(world)?;
        a_broken_host_that_is_revoked(world)?;
        all_is_asked(world)?;

        // Not stopped: what it has written down last lies beside its database.
        world.issuer.kill9()?;
        ensure!(world.issuer.state().join("certwell.db-wal").exists());
        let copy = world.directory().join("backup");
        copy_directory(&world.issuer.state(), &copy)?;
        secrets.extend(of_the_issuer(world, &copy)?);
        secrets.extend(of_files(world, &secrets)?);
        world.host_mut("sally")?.stop_agent();
        world.host_mut("esme")?.stop_agent();
        logged_at_trace(world)?;

        // The CA's, the expired ones, a placeholder's; of each host two; of the lost certificate and three generations; the fleet
        // CA's, the account's, the key-encryption and the recovery key, each in two forms; the tokens.
        let kinds = 3 + 1 + 2 * 2 + 4 + 2 + 2 * 2 + 2;
        let names: Vec<&str> = secrets.iter().map(|secret| secret.what.as_str()).collect();
        ensure!(secrets.len() == kinds, "{names:#?}");
        let keys: Vec<PathBuf> = secrets.iter().flat_map(|s| s.belongs.clone()).collect();
        let header = Secret::text("a PEM private key", "PRIVATEKEY-----");
        secrets.push(
            keys.iter()
                .filter(|path| path.extension().is_some_and(|e| e == "pem" || e == "key"))
                .fold(header, |header, path| header.at(path)),
        );
        let files = all_files(world.directory())?;
        for name in [
            "certwell.db",
            "certwell.db-wal",
            "issuer.log",
            "sally.agent.log",
            "events.said",
        ] {
            ensure!(files.iter().any(|path| path.ends_with(name)), "no {name}");
        }
        let said = leaks(&files, &secrets)?;
        ensure!(said.is_empty(), "{}", said.join("\n"));
        Ok(())
    })
}

/// Both hosts join. The tokens' secrets.
fn enrolled(world: &mut World) -> Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for name in ["sally", "esme"] {
        let token = world.issuer.token(name)?;
        let secret = token.parse::<JoinToken>()?.secret;
        secrets.push(Secret::new(
            format!("the join token of {name}"),
            secret.expose(),
        ));
        let host = world.host(name)?;
        let enrolled = host.enroll(&token)?.success("certwell-agent enroll")?;
        said(world, &format!("{name}.enroll"), &enrolled)?;
        // A second use is refused; that isn't told with the token in it either.
        said(world, &format!("{name}.again"), &host.enroll(&token)?)?;
        world.host_mut(name)?.start_agent()?;
    }
    Ok(secrets)
}

/// Between these two all is read again from where it is kept.
fn issued_and_renewed(world: &mut World) -> Result<()> {
    world
        .issuer
        .declare("20-media", &media_on(&["sally", "esme"]))?;
    world.converged(MEDIA, 1, SOON)?;
    world.issuer.kill9()?;
    world.host_mut("sally")?.kill9_agent()?;
    world.issuer.serve()?;
    world.host_mut("sally")?.start_agent()?;
    for name in ["sally", "esme"] {
        world.issuer.connected(name)?;
    }
    let renew = ["certificates", "renew", MEDIA, "--wait"];
    let output = world.issuer.certwell_within(&renew, SOON)?;
    said(world, "renew", &output.success("renew")?)?;
    world.converged(MEDIA, 2, SOON)
}

fn a_refused_edit(world: &World) -> Result<()> {
    world.issuer.declare("90-bad", "[host.bob]\nlabel = 1\n")?;
    let check = world.issuer.daemon(&["check"])?;
    said(world, "check", &check.run(world.directory(), "", SOON)?)?;
    wait_for("the refusal in status", SOON, || {
        let status = world.issuer.certwell(&["status"])?;
        ensure!(status.stdout.contains("90-bad.toml"), "{}", status.stdout);
        said(world, "refused", &status)
    })?;
    world.issuer.undeclare("90-bad")
}

/// Nobody listens where the CA looks: the intent stays, with its key.
fn a_failed_validation(world: &World) -> Result<()> {
    world.dns.set(LOST, &[world.net.ip(200)])?;
    let declared = format!("[certificate.\"{LOST}\"]\nhosts = [\"sally\"]\n");
    world.issuer.declare("30-lost", &declared)?;
    wait_for("the failure", SOON, || {
        let events = world.issuer.events()?;
        let failed = events.iter().any(|event| event.kind == "order-failed");
        ensure!(failed, "no such event");
        Ok(())
    })
}

/// What it draws last is held: nginx can't read the host's own configuration. Then it is revoked.
fn a_broken_host_that_is_revoked(world: &mut World) -> Result<()> {
    let broken = world
        .host("esme")?
        .nginx
        .prefix()
        .join("conf.d/broken.conf");
    fs::write(&broken, "nonsense;\n")?;
    let before = Some(world.host("sally")?.served(MEDIA)?.fingerprint());
    let renew = ["certificates", "renew", MEDIA];
    world.issuer.certwell(&renew)?.success("renew")?;
    world.all_serve_new(MEDIA, before, SOON, named("sally"))?;
    wait_for("esme to hold it", SOON, || {
        let status = world.issuer.status()?;
        let host = status.certificate(MEDIA).and_then(|c| c.host("esme"));
        let host = host.context("esme isn't in status")?;
        let fetched = host.facts.fetched.as_ref().map(|fact| fact.generation);
        ensure!(host.state == "held" && fetched == Some(3), "{host:?}");
        Ok(())
    })?;
    let status = world.host("esme")?.agent_command(&["status"])?;
    said(world, "esme.status", &status)?;
    let revoke = ["hosts", "revoke", "esme", "--yes"];
    let revoked = world.issuer.certwell(&revoke)?.success("revoke")?;
    said(world, "revoke", &revoked)?;
    wait_for("the agent to be refused", SOON, || {
        let log = fs::read_to_string(world.host("esme")?.agent_log())?;
        ensure!(log.contains("the issuer refuses this host"), "it isn't");
        Ok(())
    })
}

fn all_is_asked(world: &World) -> Result<()> {
    for (name, args) in [
        ("status", vec!["status"]),
        ("status.json", vec!["status", "--json"]),
        ("explain", vec!["explain", MEDIA]),
        ("explain.lost", vec!["explain", LOST]),
        ("events", vec!["events", "--last", "0", "--json"]),
        ("hosts", vec!["hosts", "list", "--json"]),
        (
            "certificates",
            vec!["certificates", "show", MEDIA, "--json"],
        ),
    ] {
        said(world, name, &world.issuer.certwell(&args)?)?;
    }
    let status = world.host("sally")?.agent_command(&["status", "--json"])?;
    said(world, "agent.status", &status)
}

/// Keeps what a command said beside the logs.
fn said(world: &World, name: &str, output: &Output) -> Result<()> {
    let text = format!("{}\n{}", output.stdout, output.stderr);
    let path = world.directory().join(format!("{name}.said"));
    Ok(fs::write(path, text)?)
}

/// All that its store keeps sealed, and the two keys that open it. `copy` is one of its state directory.
fn of_the_issuer(world: &World, copy: &Path) -> Result<Vec<Secret>> {
    let key_file = world.issuer.key_file();
    let kek = STANDARD.decode(fs::read(&key_file)?.trim_ascii())?;
    let printed = world.directory().join("issuer.init");
    let text = fs::read_to_string(&printed)?;
    let recovery = text.lines().next().context("init printed nothing")?;
    ensure!(
        recovery.parse::<RecoveryKey>().is_ok() && text.matches(recovery).count() == 1,
        "the recovery key isn't shown once"
    );
    let groups = recovery.trim_start_matches("certwell-recovery-");
    let mut secrets = vec![
        Secret::new("the key-encryption key", &kek).at(&key_file),
        Secret::text("the key-encryption key's text", &STANDARD.encode(&kek)).at(&key_file),
        Secret::text("the recovery key's text", groups).at(&printed),
        Secret::new("the recovery key", &base32(groups)?),
    ];
    let mut add = |what: String, pkcs8: &[u8]| -> Result<()> {
        secrets.push(Secret::new(what, &scalar(pkcs8)?));
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let store = SqliteStore::open(copy, &Kek::load(&key_file, None, copy)?).await?;
        add(
            "the fleet CA's key".into(),
            store.fleet_ca().await?.key.expose(),
        )?;
        for account in store.accounts().await? {
            add("the ACME account's key".into(), account.key.expose())?;
        }
        for pending in store.pending_orders().await? {
            let intent = pending.intent;
            let what = format!("the key of {}, not issued", intent.certificate);
            add(what, intent.private_key.expose())?;
        }
        for (name, generation, _) in store.leaves().await? {
            let bundle = store
                .bundle(&name, generation)
                .await?
                .context("no bundle")?;
            for pair in bundle.key_pairs {
                let what = issued(name.as_str(), &generation.to_string());
                add(what, pair.private_key.expose())?;
            }
        }
        store.close().await;
        anyhow::Ok(())
    })?;
    // Each generation's key belongs on each host that has drawn it.
    for path in key_files(world)? {
        let Some((name, generation)) = staged(&path) else {
            continue;
        };
        let what = issued(name, generation);
        let secret = secrets.iter_mut().find(|secret| secret.what == what);
        let secret = secret.with_context(|| format!("{what} isn't in the store"))?;
        secret.belongs.insert(path);
    }
    Ok(secrets)
}

/// The keys in all other files that are there to hold one.
fn of_files(world: &World, known: &[Secret]) -> Result<Vec<Secret>> {
    let mut by_key: BTreeMap<[u8; 32], Secret> = BTreeMap::new();
    for path in key_files(world)? {
        if known.iter().any(|secret| secret.belongs.contains(&path)) {
            continue;
        }
        let key = pem::read_private_key(&fs::read(&path)?)?;
        let key = scalar(key.secret_der()).with_context(|| path.display().to_string())?;
        let of = path.parent().context("a file has a directory")?;
        let what = format!("the key of {}", path.display());
        let secret = by_key.entry(key);
        let secret = secret.or_insert_with(|| Secret::new(what, &key));
        // `combined.pem` holds what is in `privkey.pem` beside it.
        let together = secret.belongs.iter().all(|other| {
            other.parent() == Some(of) && path.extension().is_some_and(|e| e == "pem")
        });
        ensure!(together, "{} is a copy of {}", path.display(), secret.what);
        secret.belongs.insert(path);
    }
    Ok(by_key.into_values().collect())
}

/// By their names: the agents' own, those of the lab's CA, and of the expired certificates.
fn key_files(world: &World) -> Result<Vec<PathBuf>> {
    const NAMES: [&str; 5] = [
        "privkey.pem",
        "combined.pem",
        "bound.key",
        "identity.key",
        "key.pem",
    ];
    let mut files = all_files(world.directory())?;
    files.retain(|path| NAMES.iter().any(|name| path.ends_with(name)));
    Ok(files)
}

/// Name and generation, if the file is one of `store/NAME/GENERATION/` and came from the issuer: generation 0 is a
/// placeholder of the agent's own.
fn staged(path: &Path) -> Option<(&str, &str)> {
    fn last(path: &Path) -> Option<&str> {
        path.file_name()?.to_str()
    }
    let mut up = path.ancestors().skip(1);
    let (generation, name, store) = (last(up.next()?)?, last(up.next()?)?, up.next()?);
    (store.ends_with("agent/store") && generation != "0").then_some((name, generation))
}

fn issued(name: &str, generation: &str) -> String {
    format!("the key of {name}, generation {generation}")
}

/// The 32 bytes of a recovery key's groups; the checksum behind them is left out.
fn base32(groups: &str) -> Result<Vec<u8>> {
    let (mut held, mut bits, mut bytes) = (0_u32, 0, Vec::new());
    for c in groups.bytes().filter(|c| *c != b'-') {
        let value = ALPHABET.iter().position(|other| *other == c);
        held = (held << 5 | u32::try_from(value.context("no base 32")?)?) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff)?);
        }
    }
    bytes.truncate(32);
    ensure!(bytes.len() == 32, "it is cut short");
    Ok(bytes)
}

fn logged_at_trace(world: &World) -> Result<()> {
    let mut logs = vec![world.issuer.log()];
    logs.extend(world.hosts.iter().map(|host| host.agent_log()));
    for log in logs {
        let text = fs::read_to_string(&log)?;
        for level in [" TRACE ", " DEBUG ", " INFO "] {
            ensure!(text.contains(level), "no{level}in {}", log.display());
        }
    }
    Ok(())
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
