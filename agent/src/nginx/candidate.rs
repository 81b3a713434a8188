//! A tiny configuration of its own around staged files, tested by nginx and thrown away: it catches what nginx alone
//! would refuse, before anything that nginx serves is touched.

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use nix::errno::Errno;

use super::run::{self, Invocation, RunError, Tested};
use crate::disk::durable::hint;

/// Directories that some builds create at start; each is of a module that a build may lack.
const TEMP_PATHS: [&str; 5] = [
    "client_body_temp_path",
    "proxy_temp_path",
    "fastcgi_temp_path",
    "uwsgi_temp_path",
    "scgi_temp_path",
];

/// What a directory of ours is called: with the process id and a number after it.
const PREFIX: &str = ".candidate-";

/// A candidate that couldn't be tested.
#[derive(Debug, thiserror::Error)]
pub enum CandidateError {
    /// nginx couldn't be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// nginx failed, and not for the pairs: a full disk, no descriptors left.
    #[error(
        "the candidate test in {place} failed, and not for the certificate: {words}{}",
        remedy(.words),
        place = .place.display()
    )]
    Host {
        /// Where it was made.
        place: PathBuf,
        /// nginx's words.
        words: String,
    },
    /// Its directory can't be made or filled.
    #[error("the candidate test can't be prepared at {path}: {source}{}", hint(.source))]
    Directory {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// By the system's error that nginx quotes, such as `(28: No space left on device)`.
fn remedy(words: &str) -> &'static str {
    let disk = [
        Errno::ENOSPC,
        Errno::EDQUOT,
        Errno::EROFS,
        Errno::EIO,
        Errno::EACCES,
    ];
    disk.iter()
        .find(|errno| words.contains(&format!("({}: ", **errno as i32)))
        .map_or("", |errno| hint(&io::Error::from(*errno)))
}

/// Has nginx read these pairs of certificate and key files. `scratch` is a directory in which a private one is made,
/// and removed again; `nginx` only lends its binary.
///
/// # Errors
/// When nothing was learnt about the pairs.
pub async fn test(
    nginx: &Invocation,
    pairs: &[(PathBuf, PathBuf)],
    scratch: &Path,
    limit: Duration,
) -> Result<Tested, CandidateError> {
    let private = Private::new(scratch)?;
    let config = private.0.join("nginx.conf");
    let invocation = Invocation {
        prefix: Some(private.0.clone()),
        config: Some(config.clone()),
        // The socket's path is relative, since it may have no more than 107 bytes.
        directory: Some(private.0.clone()),
        ..Invocation::plain(&nginx.binary)
    };
    let mut known = TEMP_PATHS.to_vec();
    loop {
        fs::write(&config, text(pairs, &known)).map_err(|source| CandidateError::Directory {
            path: config.clone(),
            source,
        })?;
        let tested = run::test(&invocation, limit).await?;
        let lacking = match &tested {
            Tested::Refused { words } => known
                .iter()
                .position(|path| words.contains(&format!("unknown directive \"{path}\""))),
            Tested::Passed { .. } => None,
        };
        match lacking {
            Some(at) => drop(known.swap_remove(at)),
            None => {
                return match tested {
                    Tested::Refused { words } if !blames(&words, pairs) => {
                        Err(CandidateError::Host {
                            place: scratch.to_owned(),
                            words,
                        })
                    }
                    tested => Ok(tested),
                };
            }
        }
    }
}

/// Whether nginx's words are about one of the files; only then is it the certificate's fault.
fn blames(words: &str, pairs: &[(PathBuf, PathBuf)]) -> bool {
    pairs
        .iter()
        .flat_map(|(certificate, key)| [certificate, key])
        .any(|path| words.contains(&*path.to_string_lossy()))
}

/// Nothing outside the private directory is opened but the pairs.
fn text(pairs: &[(PathBuf, PathBuf)], temp_paths: &[&str]) -> String {
    let mut text = String::from(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nlock_file nginx.lock;\nerror_log stderr;\n",
    );
    if nix::unistd::geteuid().is_root() {
        // The one that was built in need not exist.
        text.push_str("user root root;\n");
    }
    text.push_str("events {}\nhttp {\n  access_log off;\n");
    for path in temp_paths {
        let _ = writeln!(text, "  {path} temp;");
    }
    text.push_str("  server {\n    listen unix:s ssl;\n");
    for (certificate, key) in pairs {
        let _ = writeln!(
            text,
            "    ssl_certificate {};\n    ssl_certificate_key {};",
            quoted(certificate),
            quoted(key)
        );
    }
    text.push_str("  }\n}\n");
    text
}

fn quoted(path: &Path) -> String {
    let path = path
        .to_string_lossy()
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    format!("\"{path}\"")
}

/// Removes what a killed agent left in `scratch`. For the one who has it to himself.
pub fn sweep(scratch: &Path) {
    let entries = fs::read_dir(scratch).into_iter().flatten().flatten();
    let left = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for path in left.map(|entry| entry.path()) {
        // As it is when there are no leftovers, but for the room that it takes.
        if let Err(e) = fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), "a leftover of a candidate test stays behind: {e}");
        }
    }
}

/// A directory of our own that goes when it is dropped.
struct Private(PathBuf);

impl Private {
    fn new(parent: &Path) -> Result<Self, CandidateError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{PREFIX}{number}"));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                // A leftover that couldn't be removed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(CandidateError::Directory { path, source }),
            }
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), "the directory of a candidate test stays behind: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(
        directory: &Path,
        name: &str,
        key: &rcgen::KeyPair,
        certified: &rcgen::KeyPair,
    ) -> (PathBuf, PathBuf) {
        let certificate = rcgen::CertificateParams::new(vec!["media.example.org".to_owned()])
            .unwrap()
            .self_signed(certified)
            .unwrap();
        let files = (
            directory.join(format!("{name} cert.pem")),
            directory.join(format!("{name}.key")),
        );
        fs::write(&files.0, certificate.pem()).unwrap();
        fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    #[tokio::test]
    async fn a_fitting_pair_passes_a_mismatched_one_is_refused_and_nothing_stays() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = directory.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        let (one, other) = (
            rcgen::KeyPair::generate().unwrap(),
            rcgen::KeyPair::generate().unwrap(),
        );
        let good = staged(directory.path(), "good", &one, &one);
        let bad = staged(directory.path(), "bad", &one, &other);
        let nginx = Invocation::plain("/usr/sbin/nginx");
        let limit = Duration::from_secs(10);

        let tested = test(&nginx, std::slice::from_ref(&good), &scratch, limit)
            .await
            .unwrap();
        assert!(matches!(tested, Tested::Passed { .. }), "{tested:?}");
        let Tested::Refused { words } = test(&nginx, &[good.clone(), bad], &scratch, limit)
            .await
            .unwrap()
        else {
            panic!("a mismatched pair passed");
        };
        assert!(
            words.contains("[emerg]") && words.contains("key values mismatch"),
            "{words}"
        );
        let missing = (good.0, directory.path().join("none.key"));
        let Tested::Refused { words } = test(&nginx, &[missing], &scratch, limit).await.unwrap()
        else {
            panic!("a missing key passed");
        };
        assert!(words.contains("none.key"), "{words}");
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_fails_for_another_reason_is_not_the_certificate_s_fault() {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let pair = staged(directory.path(), "good", &key, &key);
        let words = "nginx: [emerg] mkdir() \"/x/temp\" failed (28: No space left on device)";
        let lines = format!("echo '{words}' >&2\nexit 1\n");
        let script = run::tests::program(directory.path(), &lines);
        let nginx = Invocation::plain(&script);
        let failed = test(&nginx, &[pair], directory.path(), Duration::from_secs(10))
            .await
            .unwrap_err();
        assert!(
            matches!(&failed, CandidateError::Host { words, .. } if words.contains("No space left")),
            "{failed}"
        );
    }

    #[tokio::test]
    async fn an_absent_binary_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let nginx = Invocation::plain("/nonexistent/nginx");
        let failed = test(&nginx, &[], directory.path(), Duration::from_secs(1))
            .await
            .unwrap_err();
        assert!(
            matches!(&failed, CandidateError::Run(RunError::Absent(path)) if path.ends_with("nginx")),
            "{failed}"
        );
    }
}
