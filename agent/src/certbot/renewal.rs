//! Pure: `renewal/LINEAGE.conf`, as far as it says which files are the lineage's.

use std::path::PathBuf;

/// The files that certbot keeps of a lineage, and the names of their keys in its configuration.
pub const KINDS: [&str; 4] = ["cert", "privkey", "chain", "fullchain"];

/// Reads it as certbot does: `key = value` lines before the first section, of which four name the files.
///
/// # Errors
/// What certbot couldn't make sense of.
pub fn files(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut found: [Option<PathBuf>; 4] = [None, None, None, None];
    let mut top = true;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            if !line.ends_with(']') {
                return Err(format!("line {} is no section", number + 1));
            }
            top = false;
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(format!("line {} is no setting", number + 1));
        };
        let slot = KINDS.iter().position(|kind| *kind == key.trim());
        if let Some(slot) = slot.filter(|_| top) {
            let value = value.trim().trim_matches(['"', '\'']);
            found[slot] = Some(value.into());
        }
    }
    let lacking: Vec<&str> = KINDS
        .iter()
        .zip(&found)
        .filter(|(_, path)| path.is_none())
        .map(|(kind, _)| *kind)
        .collect();
    if lacking.is_empty() {
        Ok(found.into_iter().flatten().collect())
    } else {
        Err(format!("it names no {}", lacking.join(", no ")))
    }
}

/// What certbot runs after it renewed this lineage, by its configuration: each with the key that says so.
pub fn hooks(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim().trim_matches(['"', '\''])))
        .filter(|(key, value)| {
            matches!(*key, "renew_hook" | "deploy_hook" | "post_hook")
                && !value.is_empty()
                && *value != "None"
        })
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: &str = "# renew_before_expiry = 30 days\nversion = 2.1.0\narchive_dir = /etc/letsencrypt/archive/a.org\n\
        cert = /etc/letsencrypt/live/a.org/cert.pem\nprivkey = /etc/letsencrypt/live/a.org/privkey.pem\n\
        chain = /etc/letsencrypt/live/a.org/chain.pem\nfullchain = /etc/letsencrypt/live/a.org/fullchain.pem\n\n\
        [renewalparams]\naccount = 0\n[[webroot_map]]\na.org = /var/www\n";

    #[test]
    fn the_four_files_of_a_configuration() {
        let files = files(WELL).unwrap();
        assert_eq!(files.len(), 4);
        assert_eq!(
            files[3],
            PathBuf::from("/etc/letsencrypt/live/a.org/fullchain.pem")
        );
    }

    #[test]
    fn the_commands_that_run_after_a_renewal() {
        let text = format!(
            "{WELL}pre_hook = a\n# post_hook = b\nrenew_hook = systemctl reload x=y\npost_hook = None\n"
        );
        let expected = ("renew_hook".to_owned(), "systemctl reload x=y".to_owned());
        assert_eq!(hooks(&text), [expected]);
    }

    #[test]
    fn what_certbot_cannot_use_is_said() {
        for (text, word) in [
            ("", "names no cert, no privkey"),
            ("\u{1}garbage", "line 1 is no setting"),
            ("[half", "line 1 is no section"),
            (
                &WELL.replace("chain.pem", "x").replace("privkey =", "key ="),
                "no privkey",
            ),
            (&format!("[renewalparams]\n{WELL}"), "names no cert"),
        ] {
            let said = files(text).unwrap_err();
            assert!(said.contains(word), "{text}: {said}");
        }
    }
}
