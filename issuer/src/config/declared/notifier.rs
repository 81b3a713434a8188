//! `[notifier.NAME]`: the keys of each type are those of `certwell_notice::declared`, as in an agent's `[alarm.NAME]`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_notice::{
    Notifier,
    declared::{self, Table},
};

use super::is_plain_name;
use crate::config::{
    mistake::{At, Mistakes, Place},
    section::Section,
};

pub(super) fn notifier_name(name: &At<String>, mistakes: &mut Mistakes<'_>) -> Option<String> {
    if is_plain_name(&name.value) {
        return Some(name.value.clone());
    }
    let problem = format!("{:?} is no name of a notifier", name.value);
    mistakes.advise(
        name.place,
        problem,
        "use up to 63 of a-z 0-9 -, beginning with a letter or digit",
    );
    None
}

/// Relative paths begin at `base`.
pub(super) fn notifier(
    section: Section<'_, '_>,
    name: &str,
    base: &Path,
    mistakes: &mut Mistakes<'_>,
) -> Option<Notifier> {
    let mut reading = Reading {
        section,
        mistakes,
        places: BTreeMap::new(),
        keys: None,
    };
    let notifier = declared::read(name, base, &mut reading);
    let Reading {
        mut section,
        mistakes,
        keys,
        ..
    } = reading;
    // Without a type nobody knows which keys are right.
    if let Some(keys) = keys {
        section.know(keys);
        section.finish(mistakes);
    }
    notifier
}

struct Reading<'r, 't, 'i, 'm> {
    section: Section<'t, 'i>,
    mistakes: &'r mut Mistakes<'m>,
    places: BTreeMap<&'static str, Place>,
    /// Of its type.
    keys: Option<&'static [&'static str]>,
}

impl Reading<'_, '_, '_, '_> {
    fn kept<T>(&mut self, key: &'static str, found: Option<At<T>>) -> Option<T> {
        let At { value, place } = found?;
        self.places.insert(key, place);
        Some(value)
    }
}

impl Table for Reading<'_, '_, '_, '_> {
    fn text(&mut self, key: &'static str) -> Option<String> {
        let found = self.section.string(key, self.mistakes);
        let text = self.kept(key, found)?;
        if key == "type" {
            self.keys = declared::keys(&text);
        }
        Some(text)
    }

    fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let found = self.section.strings(key, self.mistakes);
        let list = self.kept(key, found)?;
        Some(list.into_iter().map(|item| item.value).collect())
    }

    fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let found = self.section.duration(key, self.mistakes);
        self.kept(key, found)
    }

    fn has(&self, key: &str) -> bool {
        self.section.has(key)
    }

    fn file(&self) -> PathBuf {
        self.mistakes.path(self.section.place).to_owned()
    }

    fn mistake(&mut self, key: Option<&'static str>, problem: String, advice: String) {
        let place = key.and_then(|key| self.places.get(key).copied());
        match (key, place) {
            (None, _) => {
                let problem = format!("{} is incomplete: {problem}", self.section.name());
                self.mistakes.advise(self.section.place, problem, advice);
            }
            (_, place) => {
                let place = place.unwrap_or(self.section.place);
                self.mistakes.advise(place, problem, advice);
            }
        }
    }
}
