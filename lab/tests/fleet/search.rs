//! A search for secrets in files, in every form in which one could be written by mistake.

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
use certwell_proto::fingerprint::hex;

/// What comes before the 32 bytes of a P-256 key in PKCS#8: version 1, and an octet string of that length.
const BEFORE_SCALAR: [u8; 5] = [2, 1, 1, 4, 32];

/// A secret, in the forms searched for, and the files that are there to hold it.
pub(crate) struct Secret {
    pub(crate) what: String,
    pub(crate) belongs: BTreeSet<PathBuf>,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    /// Bytes, of which each is secret: 16 or more.
    pub(crate) fn new(what: impl Into<String>, bytes: &[u8]) -> Self {
        let list: Vec<String> = bytes.iter().map(ToString::to_string).collect();
        let pairs: Vec<String> = bytes.iter().map(|byte| hex(&[*byte])).collect();
        let mut forms = vec![
            bytes.to_vec(),
            hex(bytes).into_bytes(),
            hex(bytes).to_uppercase().into_bytes(),
            pairs.join(":").into_bytes(),
            pairs.join(":").to_uppercase().into_bytes(),
            // Lists are searched for without their spaces.
            list.join(",").into_bytes(),
            bytes.escape_ascii().collect(),
        ];
        // Base64 has three phases; the first and last characters depend on the neighbours.
        for phase in 0..3 {
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                let text = engine.encode([&[0; 2][..phase], &bytes[..bytes.len() - 2]].concat());
                forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
            }
        }
        Self {
            what: what.into(),
            belongs: BTreeSet::new(),
            forms,
        }
    }

    /// Text that is searched for as it is, with and without spaces or line breaks in it.
    pub(crate) fn text(what: impl Into<String>, text: &str) -> Self {
        Self {
            what: what.into(),
            belongs: BTreeSet::new(),
            forms: vec![text.as_bytes().to_vec()],
        }
    }

    /// The same, with one more file where it belongs.
    pub(crate) fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.belongs.insert(path.into());
        self
    }
}

/// The secret part of a P-256 key in PKCS#8, DER. All else in it is the same in every key, or public.
pub(crate) fn scalar(pkcs8: &[u8]) -> Result<[u8; 32]> {
    let at = pkcs8
        .windows(BEFORE_SCALAR.len())
        .position(|window| window == BEFORE_SCALAR)
        .context("it is no P-256 key in PKCS#8")?;
    pkcs8[at + BEFORE_SCALAR.len()..]
        .first_chunk()
        .copied()
        .context("the key is cut short")
}

/// Every file under `directory`, those that links lead to left out.
pub(crate) fn all_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)?.flatten() {
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Searches the files for the secrets: a sentence for each that is where it doesn't belong, or isn't where it does.
pub(crate) fn leaks(files: &[PathBuf], secrets: &[Secret]) -> Result<Vec<String>> {
    let search = Search::of(secrets);
    let mut said = Vec::new();
    for path in files {
        let found = search.found_in(&fs::read(path)?);
        for (index, secret) in secrets.iter().enumerate() {
            match (found.contains(&index), secret.belongs.contains(path)) {
                (true, false) => said.push(format!("{} holds {}", path.display(), secret.what)),
                (false, true) => {
                    said.push(format!("{} isn't found in {}", secret.what, path.display()));
                }
                _ => {}
            }
        }
    }
    Ok(said)
}

/// Finds any of many secrets in one pass over a file.
struct Search<'a> {
    by_start: HashMap<[u8; 4], Vec<(usize, &'a [u8])>>,
}

impl<'a> Search<'a> {
    fn of(secrets: &'a [Secret]) -> Self {
        let mut by_start: HashMap<[u8; 4], Vec<(usize, &[u8])>> = HashMap::new();
        for (index, secret) in secrets.iter().enumerate() {
            for form in &secret.forms {
                if let Some(start) = form.first_chunk() {
                    by_start.entry(*start).or_default().push((index, form));
                }
            }
        }
        Self { by_start }
    }

    /// What is in `bytes`, be it broken into lines or spaced out, or not.
    fn found_in(&self, bytes: &[u8]) -> BTreeSet<usize> {
        let mut joined = bytes.to_vec();
        joined.retain(|byte| !byte.is_ascii_whitespace());
        let mut found = BTreeSet::new();
        for text in [bytes, &joined] {
            for (at, window) in text.windows(4).enumerate() {
                let Ok(start) = <[u8; 4]>::try_from(window) else {
                    continue;
                };
                for (index, form) in self.by_start.get(&start).into_iter().flatten() {
                    if text[at..].starts_with(form) {
                        found.insert(*index);
                    }
                }
            }
        }
        found
    }
}

#[test]
fn a_planted_key_is_found_in_each_form() -> Result<()> {
    let der = rcgen::KeyPair::generate()?.serialize_der();
    let other = rcgen::KeyPair::generate()?.serialize_der();
    let key = scalar(&der)?;
    let bytes = key.as_slice();
    let standard = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
    let safe = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let wrapped = |text: String| -> String {
        let lines: Vec<&str> = (0..text.len())
            .step_by(13)
            .map(|at| &text[at..text.len().min(at + 13)])
            .collect();
        lines.join("\r\n")
    };
    let after = |count: usize| [&b"neighbour"[..count], bytes, b"and after it"].concat();
    let planted: Vec<(String, Vec<u8>)> = vec![
        ("raw".into(), bytes.to_vec()),
        ("raw, in PKCS#8".into(), der.clone()),
        ("hex".into(), hex(bytes).into()),
        ("capital hex".into(), hex(bytes).to_uppercase().into()),
        ("wrapped hex".into(), wrapped(hex(bytes)).into()),
        ("list".into(), format!("{bytes:?}").into()),
        ("pretty list".into(), format!("{bytes:#?}").into()),
        ("json".into(), serde_json::to_vec(bytes)?),
        (
            "escaped".into(),
            format!("b\"{}\"", bytes.escape_ascii()).into(),
        ),
    ];
    let colons: Vec<String> = bytes.iter().map(|byte| hex(&[*byte])).collect();
    let planted = planted
        .into_iter()
        .chain([("hex with colons".into(), colons.join(":").into_bytes())])
        .chain((0..3).flat_map(|phase| {
            let text = after(phase);
            [
                (format!("base64, phase {phase}"), standard(&text).into()),
                (
                    format!("url-safe base64, phase {phase}"),
                    safe(&text).into(),
                ),
                (
                    format!("wrapped base64, phase {phase}"),
                    wrapped(standard(&text)).into(),
                ),
            ]
        }));
    let directory = tempfile::tempdir()?;
    let own = directory.path().join("its.key");
    fs::write(&own, &der)?;
    let secrets = [
        Secret::new("the key", bytes).at(&own),
        Secret::new("another key", &scalar(&other)?),
    ];
    let mut count = 0;
    for (form, text) in planted {
        let path = directory.path().join("planted.log");
        let text = [b"2026-11-24 INFO key=", text.as_slice(), b" done\n"].concat();
        fs::write(&path, text)?;
        let said = leaks(&all_files(directory.path())?, &secrets)?;
        ensure!(
            said == [format!("{} holds the key", path.display())],
            "{form}: {said:?}"
        );
        count += 1;
    }
    ensure!(count == 19, "{count}");
    // Nor is it silent where its own file doesn't hold it.
    fs::remove_file(directory.path().join("planted.log"))?;
    fs::write(&own, &other)?;
    let said = leaks(&all_files(directory.path())?, &secrets)?;
    ensure!(said.len() == 2, "{said:?}");
    Ok(())
}
