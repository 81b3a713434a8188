//! What of a configuration is not shown with a mistake, since what is shown gets into logs.

/// Where, in a line of a configuration, a value begins that must not be shown with a mistake: a URL that lets one in, or a
/// password that somebody wrote there. What stands behind it on the line isn't shown either. `before` is the text above:
/// of a string of several lines nothing is shown.
pub fn secret_value(before: &str, line: &str) -> Option<usize> {
    if is_inside_string(before) {
        return Some(0);
    }
    const KEYS: [&str; 6] = [
        "url",
        "heartbeat-url",
        "webhook",
        "password",
        "secret",
        "token",
    ];
    if line.trim_start().starts_with(['#', '[']) || line.contains("probe-url") {
        return None;
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    line.match_indices('=').find_map(|(at, _)| {
        let key = line[..at].trim_end().trim_end_matches(['"', '\'']);
        let word = key.rsplit(|c| !is_word(c)).next().unwrap_or_default();
        let value = &line[at + 1..];
        let spaces = value.len() - value.trim_start().len();
        KEYS.contains(&word).then_some(at + 1 + spaces)
    })
}

/// Whether the text ends inside a TOML string of several lines.
fn is_inside_string(text: &str) -> bool {
    let mut rest = text;
    let mut open: Option<&str> = None;
    loop {
        let found = ["\"\"\"", "'''"]
            .into_iter()
            .filter(|quotes| open.is_none_or(|open| open == *quotes))
            .filter_map(|quotes| Some((rest.find(quotes)?, quotes)))
            .min();
        let Some((at, quotes)) = found else {
            return open.is_some();
        };
        rest = &rest[at + quotes.len()..];
        open = match open {
            None => Some(quotes),
            Some(_) => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_shown_of_a_line() {
        for (line, shown) in [
            ("url = \"https://d.example/token\"", Some("url = ")),
            ("  url=\"https://d.example/token", Some("  url=")),
            ("\"url\" = 'x'", Some("\"url\" = ")),
            ("password = \"hunter2\" # sic", Some("password = ")),
            (
                "notifier.d = { type = \"discord\", url = \"x\" }",
                Some("notifier.d = { type = \"discord\", url = "),
            ),
            ("url-file = \"/etc/certwell/url\"", None),
            ("probe-url = { url = \"https://media.example.org\" }", None),
            ("[notifier.url]", None),
            ("# url = \"https://…\"", None),
        ] {
            let found = secret_value("", line).map(|at| &line[..at]);
            assert_eq!(found, shown, "{line}");
        }
    }

    #[test]
    fn of_a_string_of_several_lines_nothing_is_shown() {
        let text = "url = \"\"\"\nhttps://d.example/token\\q\n\"\"\"\nlimit = '''\n\"\"\" x\n'''\nto = 1\n";
        let mut before = String::new();
        let shown: Vec<&str> = text
            .lines()
            .map(|line| {
                let end = secret_value(&before, line).unwrap_or(line.len());
                before += line;
                before.push('\n');
                &line[..end]
            })
            .collect();
        assert_eq!(shown, ["url = ", "", "", "limit = '''", "", "", "to = 1"]);
    }
}
