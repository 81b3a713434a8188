//! A master's own arguments, out of the title that nginx puts in their place: `nginx: master process BINARY ARGUMENTS`.

use std::path::PathBuf;

use super::run::Invocation;

/// Binary and arguments out of a title, whose words are joined by single blanks.
pub(super) fn read(text: &str) -> (PathBuf, Invocation) {
    let mut invocation = Invocation::plain("");
    let mut binary = String::new();
    let mut flag = None;
    let mut value: Vec<&str> = Vec::new();
    let mut keep = |flag: Option<char>, value: &str| match flag {
        None => binary = value.to_owned(),
        Some('p') => invocation.prefix = Some(value.into()),
        Some('c') => invocation.config = Some(value.into()),
        Some('g') => invocation.globals.push(value.to_owned()),
        Some('e') => invocation.error_log = Some(value.to_owned()),
        Some(_) => {}
    };
    for word in text.split(' ') {
        // A value with blanks (mostly of -g) goes on until the next option.
        match option(word) {
            Some((next, glued)) => {
                keep(flag, &value.join(" "));
                flag = Some(next);
                value.clear();
                value.extend(Some(glued).filter(|glued| !glued.is_empty()));
            }
            None => value.push(word),
        }
    }
    keep(flag, &value.join(" "));
    let binary = PathBuf::from(binary);
    invocation.binary.clone_from(&binary);
    (binary, invocation)
}

/// An option word of nginx: flags without a value, then perhaps one with, perhaps glued to it.
fn option(word: &str) -> Option<(char, &str)> {
    let flags = word.strip_prefix('-')?;
    let rest = flags.trim_start_matches(['q', 't', 'T', 'v', 'V', 'h', '?']);
    match rest.chars().next() {
        Some(flag @ ('p' | 'c' | 'g' | 'e' | 's')) => Some((flag, &rest[1..])),
        Some(_) => None,
        None if flags.is_empty() => None,
        None => Some((' ', "")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn titles_give_back_their_arguments() {
        let (binary, found) = read("/usr/sbin/nginx -g daemon on; master_process on;");
        assert_eq!(binary, Path::new("/usr/sbin/nginx"));
        assert_eq!(found.globals, ["daemon on; master_process on;"]);

        let (_, found) = read("nginx -c /etc/my conf/n.conf -p /srv -e stderr -g pid /run/x.pid;");
        assert_eq!(
            found.config.as_deref(),
            Some(Path::new("/etc/my conf/n.conf"))
        );
        assert_eq!(found.prefix.as_deref(), Some(Path::new("/srv")));
        assert_eq!(found.error_log.as_deref(), Some("stderr"));
        assert_eq!(found.globals, ["pid /run/x.pid;"]);

        let (binary, found) = read("./nginx -qc/tmp/n.conf -q");
        assert_eq!(binary, Path::new("./nginx"));
        assert_eq!(found.config.as_deref(), Some(Path::new("/tmp/n.conf")));
        assert_eq!(found.prefix, None);
    }
}
