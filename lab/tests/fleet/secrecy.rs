//! Private keys are where they must be, and nowhere else: everything that a whole run leaves behind is searched.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use certwell_lab::{MEDIA, Settings, World, story};
use certwell_proto::{JoinToken, fingerprint::hex, pem};

use crate::{SOON, media_on};

const HEADER: &str = "a PEM private key";

#[test]
fn no_private_key_leaves_its_file_at_any_log_level() -> Result<()> {
    let settings = Settings {
        log_filter: "trace".into(),
        ..Settings::default()
    }
    .only(&["sally", "esme"]);
    story("secrecy", &settings, |world| {
        let mut secrets = Vec::new();
        for name in ["sally", "esme"] {
            let token = world.issuer.token(name)?;
            secrets.push(Secret::new(
                "a join token",
                token.parse::<JoinToken>()?.secret.expose(),
            ));
            let host = world.host_mut(name)?;
            host.enroll(&token)?.success("certwell-agent enroll")?;
            // A second use is refused; that isn't told with the token in it either.
            said(
                world,
                &format!("{name}.again"),
                &world.host(name)?.enroll(&token)?,
            )?;
            world.host_mut(name)?.start_agent()?;
        }
        world
            .issuer
            .declare("20-media", &media_on(&["sally", "esme"]))?;
        world.converged(MEDIA, 1, SOON)?;
        world
            .issuer
            .certwell(&["certificates", "renew", MEDIA])?
            .success("renew")?;
        world.converged(MEDIA, 2, SOON)?;
        // A stopped nginx and a broken configuration have their own words.
        world.host_mut("esme")?.nginx.stop();
        world
            .issuer
            .certwell(&["certificates", "renew", MEDIA])?
            .success("renew")?;
        world.all_serve_new(MEDIA, None, SOON, |host| host.name == "sally")?;
        for (name, args) in [
            ("status", vec!["status"]),
            ("status.json", vec!["status", "--json"]),
            ("explain", vec!["explain", MEDIA]),
            ("events", vec!["events", "--last", "0", "--json"]),
            ("hosts", vec!["hosts", "list", "--json"]),
            (
                "certificates",
                vec!["certificates", "show", MEDIA, "--json"],
            ),
        ] {
            said(world, name, &world.issuer.certwell(&args)?)?;
        }
        said(
            world,
            "agent.status",
            &world.host("sally")?.agent_command(&["status", "--json"])?,
        )?;

        let files = all_files(world.directory())?;
        let (theirs, others): (Vec<_>, Vec<_>) = files.iter().partition(|path| holds_keys(path));
        for path in &theirs {
            let text = fs::read(path)?;
            let key = pem::read_private_key(&text).with_context(|| path.display().to_string())?;
            secrets.push(Secret::new(&path.display().to_string(), key.secret_der()));
        }
        secrets.push(Secret::new(
            "the key-encryption key",
            fs::read(world.issuer.key_file())?.trim_ascii(),
        ));
        ensure!(
            secrets.len() >= 2 + 4 + 6,
            "only {} secrets were found",
            secrets.len()
        );
        ensure!(
            others.iter().any(|p| p.ends_with("certwell.db")),
            "the store wasn't searched"
        );
        ensure!(
            fs::read_to_string(world.issuer.log())?.contains("DEBUG"),
            "the issuer's log is at no low level"
        );

        secrets.push(Secret {
            what: HEADER.into(),
            forms: vec![b"PRIVATE KEY-----".to_vec()],
        });
        let search = Search::of(&secrets);
        let mut found = Vec::new();
        for path in others {
            let bytes = fs::read(path)?;
            for what in search.found_in(&bytes) {
                found.push(format!("{} holds {what}", path.display()));
            }
        }
        ensure!(found.is_empty(), "{}", found.join("\n"));
        // The search finds what is there.
        for path in theirs {
            let found = search.found_in(&fs::read(path)?);
            ensure!(
                found.contains(path.display().to_string().as_str()),
                "{} isn't found in itself",
                path.display()
            );
            ensure!(found.contains(HEADER), "{} isn't PEM", path.display());
        }
        Ok(())
    })
}

/// Keeps what a command said beside the logs.
fn said(world: &World, name: &str, output: &certwell_lab::program::Output) -> Result<()> {
    let text = format!("{}\n{}", output.stdout, output.stderr);
    Ok(fs::write(
        world.directory().join(format!("{name}.said")),
        text,
    )?)
}

/// The files that are there to hold a key: the agents' own, and those of the lab's CA and of the expired certificates.
fn holds_keys(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    [
        "privkey.pem",
        "combined.pem",
        "bound.key",
        "identity.key",
        "key.pem",
    ]
    .contains(&name)
}

fn all_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)?.flatten() {
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file()
                && entry.file_name() != "issuer.kek"
                && entry.file_name() != "issuer.init"
            {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// A secret in every form in which it could be written by mistake.
struct Secret {
    what: String,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn new(what: &str, bytes: &[u8]) -> Self {
        // Parts of it are searched for as well, so that neither a line break nor another encoding around the same
        // bytes hides it. The first bytes of PKCS#8 are the same in every key; so are many of those at the end.
        let from = if bytes.len() > 64 { 36 } else { 0 };
        let core = bytes
            .get(from..(from + 32).min(bytes.len()))
            .unwrap_or(bytes);
        let list: Vec<String> = core.iter().map(ToString::to_string).collect();
        let mut forms = vec![
            core.to_vec(),
            hex(core).into_bytes(),
            hex(core).to_uppercase().into_bytes(),
            list.join(", ").into_bytes(),
        ];
        // Base64 has three phases; the first and last characters depend on the neighbours.
        for phase in 0..3 {
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                let text = engine.encode([&[0; 2][..phase], &core[..core.len() - 2]].concat());
                forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
            }
        }
        Self {
            what: what.to_owned(),
            forms,
        }
    }
}

/// Finds any of many secrets in one pass over a file.
struct Search<'a> {
    by_start: HashMap<[u8; 4], Vec<(&'a str, &'a [u8])>>,
}

impl<'a> Search<'a> {
    fn of(secrets: &'a [Secret]) -> Self {
        let mut by_start: HashMap<[u8; 4], Vec<(&str, &[u8])>> = HashMap::new();
        for secret in secrets {
            for form in &secret.forms {
                if let Some(start) = form.first_chunk() {
                    by_start
                        .entry(*start)
                        .or_default()
                        .push((&secret.what, form));
                }
            }
        }
        Self { by_start }
    }

    /// What is in `bytes`, be it broken into lines or not.
    fn found_in(&self, bytes: &[u8]) -> BTreeSet<&'a str> {
        let joined: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|byte| *byte != b'\n' && *byte != b'\r')
            .collect();
        let mut found = BTreeSet::new();
        for text in [bytes, &joined] {
            for (at, window) in text.windows(4).enumerate() {
                let Ok(start) = <[u8; 4]>::try_from(window) else {
                    continue;
                };
                for (what, form) in self.by_start.get(&start).into_iter().flatten() {
                    if text[at..].starts_with(form) {
                        found.insert(*what);
                    }
                }
            }
        }
        found
    }
}
