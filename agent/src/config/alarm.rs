//! The `[alarm.NAME]` tables: whom this host tells by itself. Their keys are those of the issuer's `[notifier.NAME]`.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_notice::{
    Notifier,
    declared::{self, Table},
};
use certwell_proto::HostName;
use toml::de::DeTable;

use super::read::{Reader, Value};

impl Reader<'_> {
    /// All of them, but for those with mistakes.
    pub(super) fn alarms(&mut self, value: &Value<'_>) -> BTreeMap<String, Notifier> {
        let mut found = BTreeMap::new();
        let Some(tables) = self.table_of(value, "alarm") else {
            return found;
        };
        for (name, value) in tables {
            let key = name.get_ref().to_string();
            if key.parse::<HostName>().is_err() {
                self.mistake(
                    name.span(),
                    format!("{key:?} is no name of a notifier: use up to 63 of a-z 0-9 -, beginning with a letter or digit"),
                );
                continue;
            }
            let Some(table) = self.table_of(value, &format!("alarm.{key}")) else {
                continue;
            };
            let base = self.base.to_owned();
            let mut reading = Reading {
                reader: self,
                table,
                span: name.span(),
            };
            let notifier = declared::read(&key, &base, &mut reading);
            let kind = table.get("type").and_then(|kind| kind.get_ref().as_str());
            // Without a type nobody knows which keys are right.
            if let Some(keys) = kind.and_then(declared::keys) {
                self.refuse_unknown(table, keys, &format!("alarm.{key}."));
            }
            if let Some(notifier) = notifier {
                found.insert(key, notifier);
            }
        }
        found
    }
}

struct Reading<'r, 't, 'a> {
    reader: &'r mut Reader<'a>,
    table: &'t DeTable<'t>,
    /// Where the table begins.
    span: Range<usize>,
}

impl Table for Reading<'_, '_, '_> {
    fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.table.get(key)?;
        self.reader.text_of(value, "a text in quotes")
    }

    fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.table.get(key)?;
        let Some(list) = value.get_ref().as_array() else {
            self.reader
                .mistake(value.span(), format!("a list is needed: {key} = [\"…\"]"));
            return None;
        };
        list.iter()
            .map(|item| self.reader.text_of(item, "a text in quotes"))
            .collect()
    }

    fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let value = self.table.get(key)?;
        let mut found = Duration::ZERO;
        self.reader.duration(value, &mut found);
        (!found.is_zero()).then_some(found)
    }

    fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn file(&self) -> PathBuf {
        self.reader.file.to_owned()
    }

    fn mistake(&mut self, key: Option<&'static str>, problem: String, advice: String) {
        let span = key
            .and_then(|key| self.table.get(key))
            .map_or_else(|| self.span.clone(), |value| value.span());
        self.reader.mistake(span, format!("{problem}; {advice}"));
    }
}

/// Where nothing is known of the file: texts alone.
pub(super) const NOWHERE: &str = "agent.toml";

/// The directory that relative paths begin at.
pub(super) fn base_of(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::super::{ConfigError, load};

    const TOKEN: &str = "q1W2e3R4t5Y6u7I8";

    fn loaded(text: &str) -> Result<super::super::Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str, mode: u32| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        put(
            "url",
            &format!("https://discord.com/api/webhooks/1/{TOKEN}\n"),
            0o600,
        );
        put(
            "open",
            &format!("https://discord.com/api/webhooks/1/{TOKEN}\n"),
            0o644,
        );
        put("page", "#!/bin/sh\n", 0o755);
        put("agent.toml", text, 0o644);
        load(&directory.path().join("agent.toml"))
    }

    #[test]
    fn several_are_taken_with_the_keys_of_the_issuers_notifiers() {
        let config = loaded(
            "[alarm.chat]\ntype = \"discord\"\nurl-file = \"url\"\nlimit = \"3s\"\n[alarm.pager]\ntype = \"exec\"\ncommand = \"page\"\n",
        )
        .unwrap();
        let kinds: Vec<&str> = config
            .alarms
            .values()
            .map(|notifier| notifier.service.word())
            .collect();
        assert_eq!(kinds, ["discord", "exec"]);
        assert_eq!(config.alarms["chat"].limit.as_secs(), 3);
        assert!(!format!("{config:?}").contains(TOKEN));
        assert!(loaded("").unwrap().alarms.is_empty());
    }

    #[test]
    fn mistakes_stand_where_they_are_and_show_no_secret() {
        let table = [
            ("alarm = 1\n".to_owned(), ":1:9:", "alarm is a table"),
            (
                "[alarm]\ntype = \"exec\"\n".to_owned(),
                ":2:8:",
                "alarm.type is a table",
            ),
            (
                "[alarm.\"a b\"]\n".to_owned(),
                ":1:8:",
                "no name of a notifier",
            ),
            ("[alarm.x]\n".to_owned(), ":1:8:", "type is missing"),
            (
                "[alarm.x]\ntype = \"pigeon\"\n".to_owned(),
                ":2:8:",
                "no notifier of type",
            ),
            (
                "[alarm.x]\ntype = \"discord\"\n".to_owned(),
                ":1:8:",
                "url-file is missing",
            ),
            (
                "[alarm.x]\ntype = \"discord\"\nurl-file = \"open\"\n".to_owned(),
                ":3:12:",
                "chmod o=",
            ),
            (
                format!("[alarm.x]\ntype = \"discord\"\nurl = \"https://discord.com/{TOKEN}\"\n"),
                ":3:7:",
                "is open to everybody",
            ),
            (
                format!("[alarm.x]\ntype = \"slack\"\nurl-file = \"url\"\ntoken = \"{TOKEN}\"\n"),
                ":4:1:",
                "unknown key alarm.x.token",
            ),
            (
                format!("[alarm.x]\nurl = \"https://discord.com/{TOKEN}\n"),
                ":2:",
                "",
            ),
        ];
        for (text, place, words) in table {
            let told = loaded(&text).unwrap_err().to_string();
            assert!(
                told.contains(place) && told.contains(words),
                "{text}: {told}"
            );
            assert!(!told.contains(TOKEN), "{told}");
        }
    }
}
