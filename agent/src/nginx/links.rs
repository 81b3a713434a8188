//! Where the certificate paths of nginx's configuration lead, link by link.
//!
//! `/etc/nginx/ssl/media.pem` may well be a link into the live directory, whose entries are links again: every path
//! on the way is kept, so that the one under the live directory is recognised.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use super::servers::{CertificateSource, Parsed};

/// As many links as the kernel follows, about.
const HOPS: usize = 40;

/// Fills in `through` of every certificate, and takes each `..` out of its path.
pub(super) fn follow(parsed: &mut Parsed) {
    for server in &mut parsed.servers {
        for files in &mut server.certificates {
            if let CertificateSource::File(path) = &mut files.certificate {
                files.through = followed(path);
            }
        }
    }
    for presented in &mut parsed.presented {
        if let CertificateSource::File(path) = &mut presented.certificate {
            presented.through = followed(path);
        }
    }
}

fn followed(path: &mut PathBuf) -> Vec<PathBuf> {
    let mut way = way(path);
    if goes_up(path) && !way.is_empty() {
        *path = way.remove(0);
    }
    way
}

/// The same with links followed as they lead now; `None` when they lead where they did.
pub(crate) fn followed_anew(parsed: &Parsed) -> Option<Parsed> {
    let same = parsed
        .servers
        .iter()
        .flat_map(|server| &server.certificates)
        .all(|files| match &files.certificate {
            CertificateSource::File(path) => files.through == way(path),
            _ => true,
        });
    if same {
        return None;
    }
    let mut fresh = parsed.clone();
    follow(&mut fresh);
    Some(fresh)
}

/// The paths that a path stands for, one link resolved after the other; empty when there is no link in it.
pub(crate) fn way(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut now = path.to_owned();
    for _ in 0..HOPS {
        match resolved_once(&now) {
            Some(next) if next != now && !found.contains(&next) => {
                // What lies above `..` isn't on the way.
                if !goes_up(&next) {
                    found.push(next.clone());
                }
                now = next;
            }
            _ => break,
        }
    }
    found
}

fn goes_up(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// The same path with each `..` before its first link taken out, else with that link replaced by what it names: what
/// `..` leads to is known where there is no link before it.
fn resolved_once(path: &Path) -> Option<PathBuf> {
    let mut before = PathBuf::new();
    let mut went_up = false;
    let mut parts = path.components();
    while let Some(part) = parts.next() {
        if part == Component::ParentDir {
            before.pop();
            went_up = true;
            continue;
        }
        if let Component::Normal(name) = part
            && let Ok(target) = fs::read_link(before.join(name))
        {
            let to = if went_up {
                name.as_ref()
            } else {
                target.as_path()
            };
            return Some(before.join(to).join(parts.as_path()));
        }
        before.push(part);
    }
    went_up.then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_that_was_put_elsewhere_is_followed_anew() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let link = root.join("media.pem");
        symlink("old.pem", &link).unwrap();
        let mut parsed = crate::nginx::parse(&format!(
            "# configuration file /n.conf:\nhttp {{ server {{ listen 443 ssl; ssl_certificate {0}; ssl_certificate_key {0}; }} }}\n",
            link.display()
        ));
        follow(&mut parsed);
        assert_eq!(followed_anew(&parsed), None);
        fs::remove_file(&link).unwrap();
        symlink("new.pem", &link).unwrap();
        let fresh = followed_anew(&parsed).unwrap();
        assert_eq!(
            fresh.servers[0].certificates[0].through,
            [root.join("new.pem")]
        );
    }

    #[test]
    fn every_path_on_the_way_is_kept_and_a_loop_ends() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(root.join("store/media/7")).unwrap();
        fs::create_dir_all(root.join("live")).unwrap();
        fs::write(root.join("store/media/7/fullchain.pem"), "").unwrap();
        symlink("../store/media/7", root.join("live/media")).unwrap();
        symlink(
            root.join("live/media/fullchain.pem"),
            root.join("media.pem"),
        )
        .unwrap();
        assert_eq!(
            way(&root.join("media.pem")),
            [
                root.join("live/media/fullchain.pem"),
                root.join("store/media/7/fullchain.pem")
            ]
        );
        assert!(way(&root.join("store/media/7/fullchain.pem")).is_empty());
        assert!(way(&root.join("nothing/here")).is_empty());
        let linked = root.join("store/linked");
        fs::create_dir_all(root.join("elsewhere/deep")).unwrap();
        symlink("../elsewhere/deep", &linked).unwrap();
        symlink("../live/media", root.join("elsewhere/media")).unwrap();
        assert_eq!(
            way(&linked.join("../media/fullchain.pem")),
            [
                root.join("elsewhere/media/fullchain.pem"),
                root.join("live/media/fullchain.pem"),
                root.join("store/media/7/fullchain.pem")
            ],
            "up from where the link leads"
        );
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert!(way(&root.join("a")).len() <= 2);
    }
}
