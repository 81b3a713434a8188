//! What lies in certbot's directory of each lineage, and what is wrong with it.

use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use certwell_proto::{Leaf, pem};
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Places, renewal};
use crate::disk::durable::DiskError;

/// Whether certbot would renew it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// Its configuration is there.
    Configured,
    /// Its configuration is there, and certbot can't use it: why.
    Unusable(String),
    /// `certwell-agent adopt` put its configuration aside.
    SetAside,
    /// There is no configuration.
    None,
}

/// One lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// As `certbot certificates` calls it.
    pub name: String,
    /// Whether certbot would renew it.
    pub renewal: Renewal,
    /// `live/NAME`.
    pub live: PathBuf,
    /// Where `live/NAME` leads, when it is a link: certwell took it over, or somebody did.
    pub link: Option<PathBuf>,
    /// What `fullchain.pem` begins with, where it can be read.
    pub leaf: Option<Leaf>,
    /// What is broken, one sentence each.
    pub problems: Vec<String>,
}

/// Every lineage in a certbot directory, by name; none where there is no such directory.
///
/// # Errors
/// When the directory can't be looked into.
pub fn all(directory: &Path) -> Result<Vec<Lineage>, DiskError> {
    let mut names = BTreeSet::new();
    for name in entries(&directory.join("renewal"))? {
        let bare = name.strip_suffix(".before-certwell").unwrap_or(&name);
        names.extend(bare.strip_suffix(".conf").map(str::to_owned));
    }
    let live = directory.join("live");
    names.extend(
        entries(&live)?
            .into_iter()
            .filter(|name| !name.starts_with('.') && name != "README"),
    );
    names.retain(|name| !name.is_empty());
    Ok(names
        .into_iter()
        .map(|name| look(directory, name))
        .collect())
}

fn entries(directory: &Path) -> Result<Vec<String>, DiskError> {
    match std::fs::read_dir(directory) {
        Ok(entries) => Ok(entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(DiskError::about("looking into", directory)(error)),
    }
}

fn look(directory: &Path, name: String) -> Lineage {
    let places = Places::new(directory, &name);
    let renewal = match std::fs::read(places.conf()) {
        Ok(text) => match renewal::files(&String::from_utf8_lossy(&text)) {
            Ok(_) => Renewal::Configured,
            Err(problem) => Renewal::Unusable(problem),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if places.conf_aside().exists() {
                Renewal::SetAside
            } else {
                Renewal::None
            }
        }
        Err(error) => Renewal::Unusable(error.to_string()),
    };
    let mut problems = Vec::new();
    if let Renewal::Unusable(problem) = &renewal {
        problems.push(format!(
            "{} is of no use to certbot: {problem}",
            places.conf().display()
        ));
    }
    let live = places.live();
    let link = std::fs::read_link(&live).ok();
    let (leaf, broken) = contents(&live);
    problems.extend(broken);
    Lineage {
        name,
        renewal,
        live,
        link,
        leaf,
        problems,
    }
}

/// The leaf, and what is wrong with the four files.
fn contents(live: &Path) -> (Option<Leaf>, Vec<String>) {
    if std::fs::symlink_metadata(live).is_err() {
        return (None, vec![format!("{} is gone", live.display())]);
    }
    let problems: Vec<String> = renewal::KINDS
        .iter()
        .filter_map(|kind| absence(&live.join(format!("{kind}.pem"))))
        .collect();
    let chain = match read_leaf(&live.join("fullchain.pem")) {
        Ok(read) => read,
        Err(problem) if problems.is_empty() => return (None, vec![problem]),
        Err(_) => return (None, problems),
    };
    let (leaf, der) = chain;
    if !problems.is_empty() {
        return (Some(leaf), problems);
    }
    let mut wrong = Vec::new();
    if read_leaf(&live.join("cert.pem")).is_ok_and(|(cert, _)| cert.fingerprint != leaf.fingerprint)
    {
        wrong.push(format!(
            "cert.pem and fullchain.pem in {} hold different certificates",
            live.display()
        ));
    }
    wrong.extend(unfit(&live.join("privkey.pem"), der));
    (Some(leaf), wrong)
}

/// Why a file isn't there.
fn absence(path: &Path) -> Option<String> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(match std::fs::read_link(path) {
                Ok(target) => format!("{shown} leads to {}, which is gone", target.display()),
                Err(_) => format!("{shown} is gone"),
            })
        }
        Err(error) => Some(format!("{shown} can't be read: {error}")),
    }
}

/// The first certificate of a PEM file, also as DER.
///
/// # Errors
/// Why there is none, in a sentence that names the file.
pub fn read_leaf(path: &Path) -> Result<(Leaf, CertificateDer<'static>), String> {
    let wrong = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let text = Zeroizing::new(std::fs::read(path).map_err(|error| wrong(&error))?);
    let first = pem::read_certificates(&text)
        .map_err(|error| wrong(&error))?
        .into_iter()
        .next()
        .ok_or_else(|| wrong(&"it holds no certificate"))?;
    let leaf = Leaf::read(&first).map_err(|error| wrong(&error))?;
    Ok((leaf, first))
}

/// Why a key doesn't fit a leaf; nothing where that can't be known. The key itself goes nowhere.
pub fn unfit(path: &Path, leaf: CertificateDer<'static>) -> Option<String> {
    let wrong = |problem: &dyn std::fmt::Display| Some(format!("{}: {problem}", path.display()));
    let text = match std::fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) => return wrong(&error),
    };
    let Ok(mut key) = pem::read_private_key(&text) else {
        return wrong(&"it holds no private key that can be read");
    };
    let signing = any_supported_type(&key);
    key.zeroize();
    let Ok(signing) = signing else {
        return wrong(&"its key is of an unknown kind");
    };
    match CertifiedKey::new(vec![leaf], signing).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            wrong(&"the key doesn't fit the certificate")
        }
        // What can't be compared isn't known to be wrong.
        _ => None,
    }
}

/// What certbot runs after a renewal: the commands of a lineage's configuration, and the programs in its own directory
/// that it runs for every lineage.
pub fn hooks(directory: &Path, conf: &Path) -> Vec<String> {
    let text = std::fs::read(conf).unwrap_or_default();
    let own = renewal::hooks(&String::from_utf8_lossy(&text))
        .into_iter()
        .map(|(key, command)| format!("`{command}` ({key})"));
    let programs = ["deploy", "post"].map(|kind| directory.join("renewal-hooks").join(kind));
    let programs = programs
        .iter()
        .flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| {
            let meta = path.metadata();
            meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .map(|path| path.display().to_string());
    own.chain(programs).collect()
}

/// Whether something on this system runs `certbot renew` by itself: systemd's timer of Debian or of the snap, or where
/// there is no systemd, Debian's line for cron. `root` is `/`.
pub fn is_timed(root: &Path) -> bool {
    let there = |path: &str| std::fs::symlink_metadata(root.join(path)).is_ok();
    if there("run/systemd/system") {
        let wanted = "etc/systemd/system/timers.target.wants";
        ["certbot.timer", "snap.certbot.renew.timer"]
            .iter()
            .any(|timer| there(&format!("{wanted}/{timer}")))
    } else {
        there("etc/cron.d/certbot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn pair(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![format!("{name}.example")])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// As certbot lays a lineage out.
    fn lineage(root: &Path, name: &str) {
        let (certificate, key) = pair(name);
        let (live, archive) = (
            root.join("live").join(name),
            root.join("archive").join(name),
        );
        for directory in [&live, &archive, &root.join("renewal")] {
            fs::create_dir_all(directory).unwrap();
        }
        let mut conf = String::from("version = 2.1.0\n");
        for kind in renewal::KINDS {
            let text = if kind == "privkey" {
                &key
            } else {
                &certificate
            };
            fs::write(archive.join(format!("{kind}1.pem")), text).unwrap();
            let link = live.join(format!("{kind}.pem"));
            symlink(format!("../../archive/{name}/{kind}1.pem"), &link).unwrap();
            conf.push_str(&format!("{kind} = {}\n", link.display()));
        }
        fs::write(root.join(format!("renewal/{name}.conf")), conf).unwrap();
    }

    #[test]
    fn what_is_broken_in_a_lineage_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert_eq!(all(root).unwrap(), []);
        type Break = fn(&Path);
        let table: [(&str, Break, &str); 8] = [
            ("well", |_| (), ""),
            (
                "archive-gone",
                |root| fs::remove_file(root.join("archive/archive-gone/privkey1.pem")).unwrap(),
                "privkey.pem leads to ../../archive/archive-gone/privkey1.pem, which is gone",
            ),
            (
                "conf-garbage",
                |root| fs::write(root.join("renewal/conf-garbage.conf"), "\u{1}\n").unwrap(),
                "is of no use to certbot: line 1",
            ),
            (
                "live-gone",
                |root| fs::remove_dir_all(root.join("live/live-gone")).unwrap(),
                "live/live-gone is gone",
            ),
            (
                "other-key",
                |root| fs::write(root.join("archive/other-key/privkey1.pem"), pair("x").1).unwrap(),
                "the key doesn't fit",
            ),
            (
                "mixed",
                |root| fs::write(root.join("archive/mixed/cert1.pem"), pair("x").0).unwrap(),
                "hold different certificates",
            ),
            (
                "no-pem",
                |root| fs::write(root.join("archive/no-pem/fullchain1.pem"), "x").unwrap(),
                "fullchain.pem: it holds no certificate",
            ),
            (
                "file-gone",
                |root| fs::remove_file(root.join("live/file-gone/chain.pem")).unwrap(),
                "chain.pem is gone",
            ),
        ];
        for (name, breaking, _) in &table {
            lineage(root, name);
            breaking(root);
        }
        fs::write(root.join("live/README"), "").unwrap();
        let found = all(root).unwrap();
        assert_eq!(found.len(), table.len());
        for (name, _, word) in table {
            let lineage = found.iter().find(|lineage| lineage.name == name).unwrap();
            if word.is_empty() {
                assert_eq!(lineage.problems, [] as [String; 0]);
                assert_eq!(
                    lineage.leaf.as_ref().unwrap().identifiers,
                    ["well.example".parse().unwrap()]
                );
            } else {
                assert_eq!(lineage.problems.len(), 1, "{lineage:?}");
                assert!(lineage.problems[0].contains(word), "{lineage:?}");
            }
        }
    }

    #[test]
    fn a_lineage_whose_configuration_was_put_aside_is_not_renewed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        lineage(root, "a");
        assert_eq!(all(root).unwrap()[0].renewal, Renewal::Configured);
        let places = Places::new(root, "a");
        fs::rename(places.conf(), places.conf_aside()).unwrap();
        assert_eq!(all(root).unwrap()[0].renewal, Renewal::SetAside);
        fs::remove_file(places.conf_aside()).unwrap();
        assert_eq!(all(root).unwrap()[0].renewal, Renewal::None);
    }

    #[test]
    fn who_runs_certbot_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let make = |path: &str| {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), "").unwrap();
        };
        assert!(!is_timed(root));
        make("etc/cron.d/certbot");
        assert!(is_timed(root));
        // Debian's line for cron does nothing where systemd runs.
        make("run/systemd/system/x");
        assert!(!is_timed(root));
        make("etc/systemd/system/timers.target.wants/certbot.timer");
        assert!(is_timed(root));
    }
}
