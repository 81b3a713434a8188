//! The `[exec]` table: a server that isn't nginx.

use std::{net::SocketAddr, ops::Range, time::Duration};

use toml::de::DeTable;

use super::read::{Reader, Value};
use crate::exec::{Settings, settings::LIMIT};

const KEYS: &[&str] = &["test", "reload", "confirm", "addresses", "limit"];
const COMMAND: &str = "a command in quotes";
const ADDRESSES: &str =
    "a list of addresses with ports, such as [\"192.0.2.1:443\", \"[::1]:8443\"]";

impl Reader<'_> {
    /// `span` is where the table begins; nothing when a key that it needs is missing or wrong.
    pub(super) fn exec(&mut self, span: Range<usize>, value: &Value<'_>) -> Option<Settings> {
        let table = self.table_of(value, "exec")?;
        self.refuse_unknown(table, KEYS, "exec.");
        let test = self.needed(
            table,
            "test",
            &span,
            "the command that ends with 0 when the server would take its configuration",
        );
        let reload = self.needed(
            table,
            "reload",
            &span,
            "the command that has the running server take it",
        );
        let confirm = table
            .get("confirm")
            .and_then(|value| self.text_of(value, COMMAND));
        let addresses = match table.get("addresses") {
            Some(value) => self.addresses(value),
            None => {
                self.mistake(
                    span,
                    format!("exec.addresses is missing: where the server is asked for its certificates, {ADDRESSES}"),
                );
                None
            }
        };
        let mut limit = LIMIT;
        if let Some(value) = table.get("limit") {
            self.duration(value, &mut limit);
            if limit < Duration::from_secs(1) {
                self.mistake(value.span(), "a command needs a second at least");
            }
        }
        Some(Settings {
            test: test?,
            reload: reload?,
            confirm,
            addresses: addresses?,
            limit,
        })
    }

    fn needed(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        span: &Range<usize>,
        what: &str,
    ) -> Option<String> {
        match table.get(key) {
            Some(value) => self.text_of(value, COMMAND),
            None => {
                self.mistake(span.clone(), format!("exec.{key} is missing: {what}"));
                None
            }
        }
    }

    fn addresses(&mut self, value: &Value<'_>) -> Option<Vec<SocketAddr>> {
        let list = value.get_ref().as_array().filter(|list| !list.is_empty());
        let Some(list) = list else {
            self.mistake(value.span(), format!("{ADDRESSES} is needed"));
            return None;
        };
        let mut found = Vec::new();
        for item in list.iter() {
            let text = self.text_of(item, "an address with its port")?;
            match text.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_unspecified() || address.port() == 0 => self
                    .mistake(
                        item.span(),
                        "can't be asked: write an address of this host and its port, once for each",
                    ),
                Ok(address) if found.contains(&address) => {
                    self.mistake(item.span(), "stands there twice");
                }
                Ok(address) => found.push(address),
                Err(_) => self.mistake(
                    item.span(),
                    format!("{text:?} is no address with its port; names aren't looked up"),
                ),
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn every_key_is_taken() {
        let text = "[exec]\ntest = \"t\"\nreload = \"r\"\nconfirm = \"c\"\n\
                    addresses = [\"192.0.2.1:443\", \"[::1]:8443\"]\nlimit = \"5s\"\n";
        assert_eq!(
            parse(text).unwrap().exec,
            Some(Settings {
                test: "t".into(),
                reload: "r".into(),
                confirm: Some("c".into()),
                addresses: vec![
                    "192.0.2.1:443".parse().unwrap(),
                    "[::1]:8443".parse().unwrap()
                ],
                limit: Duration::from_secs(5),
            })
        );
        let least = "[exec]\ntest = \"t\"\nreload = \"r\"\naddresses = [\"192.0.2.1:443\"]\n";
        let least = parse(least).unwrap().exec.unwrap();
        assert_eq!((least.confirm, least.limit), (None, LIMIT));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let good = "[exec]\ntest = \"t\"\nreload = \"r\"\naddresses = [\"192.0.2.1:443\"]\n";
        let with = |old: &str, new: &str| good.replace(old, new);
        let table = [
            (
                format!("{good}[nginx]\n"),
                1,
                2,
                "leave either [nginx] or [exec] out",
            ),
            (
                format!("[nginx]\n{good}"),
                2,
                2,
                "leave either [nginx] or [exec] out",
            ),
            ("exec = 1".into(), 1, 8, "write [exec]"),
            (with("test", "tset"), 1, 2, "exec.test is missing"),
            (with("reload = \"r\"\n", ""), 1, 2, "exec.reload is missing"),
            (with("addresses", "#"), 1, 2, "exec.addresses is missing"),
            (with("\"t\"", "\" \""), 2, 8, "is empty"),
            (with("\"r\"", "1"), 3, 10, "a command in quotes is needed"),
            (
                with("[\"192.0.2.1:443\"]", "[]"),
                4,
                13,
                "a list of addresses",
            ),
            (
                with("[\"192.0.2.1:443\"]", "\"192.0.2.1:443\""),
                4,
                13,
                "a list of addresses",
            ),
            (
                with("192.0.2.1:443", "192.0.2.1"),
                4,
                14,
                "is no address with its port",
            ),
            (
                with("192.0.2.1:443", "localhost:443"),
                4,
                14,
                "names aren't looked up",
            ),
            (
                with("192.0.2.1:443", "0.0.0.0:443"),
                4,
                14,
                "can't be asked",
            ),
            (
                with("]\n", ", \"192.0.2.1:443\"]\n").replacen(
                    "[exec, \"192.0.2.1:443\"]",
                    "[exec]",
                    1,
                ),
                4,
                31,
                "twice",
            ),
            (format!("{good}limit = \"0s\""), 5, 9, "a second at least"),
            (
                format!("{good}confirn = \"c\""),
                5,
                1,
                "did you mean confirm?",
            ),
        ];
        for (text, line, column, problem) in table {
            let mistakes = parse(&text).expect_err(&text);
            assert!(
                mistakes
                    .iter()
                    .any(|found| (found.line, found.column) == (line, column)
                        && found.problem.contains(problem)),
                "{text}: {mistakes:?}"
            );
        }
        assert_eq!(
            parse(&with("test", "tset")).unwrap_err().len(),
            2,
            "both sides of it"
        );
    }

    #[test]
    fn the_shipped_example_is_right_with_and_without_its_comments() {
        let text = include_str!("../../../packaging/haproxy/agent.toml");
        let shown = parse(text).unwrap().exec.unwrap();
        assert_eq!((shown.confirm, shown.limit), (None, LIMIT));
        for key in KEYS {
            assert!(text.contains(key), "{key} is not mentioned");
        }
        let all = parse(&text.replace("\n#c", "\nc").replace("\n#l", "\nl")).unwrap();
        let all = all.exec.unwrap();
        assert_eq!(all.limit, LIMIT, "the default is shown");
        assert!(all.confirm.is_some());
    }
}
