//! The map by which nginx answers HTTP-01 (RFC 8555 8.3) for the names of this host, without any token on any host.
//!
//! A name answers for one account only, so that another ACME client on the host keeps the names that aren't ours.
//! Regular expressions only: long plain keys would break `map_hash_bucket_size`. nginx's `$host` is lower-case, without
//! a port, an IPv6 address in brackets; certwell's identifiers are lower-case by construction.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File, Permissions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use certwell_proto::{FieldError, Identifier, v1};

/// Bytes of one quoted word; nginx reads words of up to 4,096.
const WORD: usize = 4000;
/// RFC 8555 8.3: at least 128 bits in base64url; the charset is what makes reflecting a token harmless.
const TOKEN: &str = "(?<certwell_token>[A-Za-z0-9_-]{16,128})";

/// The names for which an ACME account validates here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    thumbprint: String,
    names: Vec<Identifier>,
}

impl Challenge {
    /// From the wire.
    ///
    /// # Errors
    /// When the thumbprint isn't the base64url of a SHA-256, or a name isn't one; the error names the field.
    pub fn from_wire(wire: &v1::Challenge) -> Result<Self, FieldError> {
        Ok(Self {
            thumbprint: thumbprint(&wire.thumbprint)?,
            names: identifiers(&wire.names)?,
        })
    }

    /// Base64url of the account key's JWK thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The names.
    pub fn names(&self) -> &[Identifier] {
        &self.names
    }
}

/// A thumbprint goes into nginx's configuration: nothing but base64url of 32 bytes is taken.
pub(super) fn thumbprint(text: &str) -> Result<String, FieldError> {
    if text.len() == 43 && text.bytes().all(is_base64url) {
        Ok(text.to_owned())
    } else {
        Err(FieldError::new(
            "thumbprint",
            "43 characters of base64url are needed (RFC 7638)",
        ))
    }
}

pub(super) fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

pub(super) fn identifiers(names: &[String]) -> Result<Vec<Identifier>, FieldError> {
    names
        .iter()
        .enumerate()
        .map(|(at, name)| Identifier::from_wire(&format!("names[{at}]"), name))
        .collect()
}

/// The text of the map. Wildcards are left out, since HTTP-01 can't validate them; of two accounts for one name the
/// first is answered, since a request doesn't tell them apart.
pub fn render(challenges: &[Challenge]) -> String {
    let mut text = String::from(
        "# Kept by certwell-agent: which ACME account each name of this host answers for (RFC 8555 8.3).\n\
         map \"$host $uri\" $certwell_acme_reply {\n  default \"\";\n",
    );
    let mut seen = BTreeSet::new();
    for challenge in challenges {
        let names: BTreeSet<String> = challenge
            .names
            .iter()
            .filter(|name| !name.is_wildcard())
            .map(pattern)
            .filter(|name| seen.insert(name.clone()))
            .collect();
        for line in lines(names) {
            let _ = writeln!(
                text,
                "  {} \"$certwell_token.{}\";",
                word(&line),
                challenge.thumbprint
            );
        }
    }
    text.push_str("}\n");
    text
}

fn word(names: &str) -> String {
    format!("\"~^(?:{names}) /\\.well-known/acme-challenge/{TOKEN}$\"")
}

/// Alternatives, as many in a line as nginx reads in one word.
fn lines(names: BTreeSet<String>) -> Vec<String> {
    let room = WORD - word("").len();
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines
            .last_mut()
            .filter(|line| line.len() + 1 + name.len() <= room)
        {
            Some(line) => {
                line.push('|');
                line.push_str(&name);
            }
            None => lines.push(name),
        }
    }
    lines
}

/// `$host` as nginx has it, as a regular expression.
fn pattern(name: &Identifier) -> String {
    let host = match name {
        Identifier::Dns(name) => name.clone(),
        Identifier::Ip(IpAddr::V4(ip)) => ip.to_string(),
        Identifier::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
    };
    host.replace('.', "\\.")
        .replace('[', "\\[")
        .replace(']', "\\]")
}

/// Writes the map if the file says something else; whether it did. nginx reads it with the next reload.
///
/// # Errors
/// When the file can't be read or replaced.
pub fn write(path: &Path, text: &str) -> io::Result<bool> {
    match fs::read(path) {
        Ok(present) if present == text.as_bytes() => return Ok(false),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Neither `*` nor `*.conf` of an include takes it, should the agent die here.
    let beside = directory.join(format!(".{name}.new"));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        // Workers don't read it, yet operators do, whatever the umask.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    if let Err(e) = written {
        let _ = fs::remove_file(&beside);
        return Err(e);
    }
    File::open(directory)?.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::MetadataExt as _;

    const PRINT: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNO-_";

    fn challenge(thumbprint: &str, names: &[&str]) -> Challenge {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Challenge::from_wire(&v1::Challenge {
            thumbprint: thumbprint.to_owned(),
            names,
        })
        .unwrap()
    }

    #[test]
    fn the_map_has_the_shape_of_the_design() {
        let other = PRINT.replace('a', "9");
        let text = render(&[
            challenge(
                PRINT,
                &[
                    "www.example.org",
                    "media.example.org",
                    "*.example.org",
                    "192.0.2.1",
                ],
            ),
            challenge(&other, &["2001:DB8::1", "media.example.org"]),
        ]);
        let expected = format!(
            r#"# Kept by certwell-agent: which ACME account each name of this host answers for (RFC 8555 8.3).
map "$host $uri" $certwell_acme_reply {{
  default "";
  "~^(?:192\.0\.2\.1|media\.example\.org|www\.example\.org) /\.well-known/acme-challenge/(?<certwell_token>[A-Za-z0-9_-]{{16,128}})$" "$certwell_token.{PRINT}";
  "~^(?:\[2001:db8::1\]) /\.well-known/acme-challenge/(?<certwell_token>[A-Za-z0-9_-]{{16,128}})$" "$certwell_token.{other}";
}}
"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn without_challenges_the_variable_is_still_defined() {
        let text = render(&[]);
        assert!(
            text.contains("map \"$host $uri\" $certwell_acme_reply {\n  default \"\";\n}\n"),
            "{text}"
        );
        let shipped = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../packaging/nginx/certwell-acme.conf"
        );
        assert_eq!(
            fs::read_to_string(shipped).unwrap(),
            text,
            "the shipped map is the one without challenges"
        );
    }

    #[test]
    fn a_thumbprint_that_could_leave_its_quotes_is_refused() {
        for text in [
            "",
            "x\"; }",
            &PRINT[1..],
            &PRINT.replace('a', "$"),
            &format!("{PRINT}a"),
        ] {
            let wire = v1::Challenge {
                thumbprint: text.to_owned(),
                names: vec![],
            };
            assert_eq!(
                Challenge::from_wire(&wire).unwrap_err().field,
                "thumbprint",
                "{text}"
            );
        }
        let wire = v1::Challenge {
            thumbprint: PRINT.into(),
            names: vec!["a.org".into(), "a\"b".into()],
        };
        assert_eq!(Challenge::from_wire(&wire).unwrap_err().field, "names[1]");
    }

    #[test]
    fn writing_replaces_only_what_differs_and_is_readable_by_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("certwell-acme.conf");
        assert!(write(&path, "one\n").unwrap());
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.mode() & 0o7777, 0o644);
        assert!(!write(&path, "one\n").unwrap());
        assert_eq!(
            fs::metadata(&path).unwrap().ino(),
            first.ino(),
            "an equal file is left alone"
        );
        assert!(write(&path, "two\n").unwrap());
        assert_ne!(
            fs::metadata(&path).unwrap().ino(),
            first.ino(),
            "a file is never rewritten in place"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(write(&directory.path().join("none/x.conf"), "x").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_word_fits_and_every_name_is_there_once(
            names in proptest::collection::btree_set("[a-z][a-z0-9]{0,40}\\.[a-z]{2,60}\\.org", 0..300)
        ) {
            let list: Vec<&str> = names.iter().map(String::as_str).collect();
            let text = render(&[challenge(PRINT, &list), challenge(&PRINT.replace('a', "b"), &list)]);
            for line in text.lines() {
                for quoted in line.split("\" \"") {
                    prop_assert!(quoted.len() < 4096);
                }
            }
            let mut found: Vec<String> = text
                .lines()
                .filter_map(|line| line.split_once("(?:")?.1.split_once(") "))
                .flat_map(|(names, _)| names.split('|').map(|name| name.replace("\\.", ".")).collect::<Vec<_>>())
                .collect();
            found.sort();
            prop_assert_eq!(found, list);
        }
    }
}
