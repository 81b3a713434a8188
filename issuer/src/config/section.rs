//! Reading one table: each key by its type, and every key that nobody asked for is a mistake.

use std::{fmt, ops::Range, str::FromStr, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    duration,
    mistake::{At, Mistakes, Place, nearest},
};

/// One table of a file.
pub(super) struct Section<'t, 'i> {
    table: &'t DeTable<'i>,
    file: usize,
    /// As in `[issuer]`, for sentences.
    name: String,
    /// The header, or what stands for it.
    pub(super) place: Place,
    known: Vec<&'static str>,
}

impl<'t, 'i> Section<'t, 'i> {
    pub(super) fn new(
        table: &'t DeTable<'i>,
        file: usize,
        header: Range<usize>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            table,
            file,
            name: name.into(),
            place: Place::new(file, header),
            known: Vec::new(),
        }
    }

    fn find(&mut self, key: &'static str) -> Option<At<&'t DeValue<'i>>> {
        self.known.push(key);
        self.table.get(key).map(|value| self.at(value))
    }

    fn at(&self, value: &'t Spanned<DeValue<'i>>) -> At<&'t DeValue<'i>> {
        At {
            value: value.get_ref(),
            place: Place::new(self.file, value.span()),
        }
    }

    /// A string.
    pub(super) fn string(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<At<String>> {
        let At { value, place } = self.find(key)?;
        text(key, value, place, mistakes)
    }

    /// A string that has a form of its own.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<At<T>> {
        let text = self.string(key, mistakes)?;
        parse(&text, mistakes)
    }

    /// A list of strings.
    pub(super) fn strings(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<At<Vec<At<String>>>> {
        let At { value, place } = self.find(key)?;
        let DeValue::Array(items) = value else {
            let advice = format!("write {key} = [\"…\"]");
            mistakes.advise(
                place,
                format!("{key} must be a list of strings, not {}", kind(value)),
                advice,
            );
            return None;
        };
        let texts: Vec<_> = items
            .iter()
            .filter_map(|item| {
                text(
                    key,
                    item.get_ref(),
                    Place::new(self.file, item.span()),
                    mistakes,
                )
            })
            .collect();
        // With a wrong item in it, the list as a whole says nothing.
        (texts.len() == items.len()).then_some(At {
            value: texts,
            place,
        })
    }

    /// A fraction.
    pub(super) fn float(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<At<f64>> {
        let At { value, place } = self.find(key)?;
        let number = match value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            mistakes.add(
                place,
                format!("{key} must be a number, not {}", kind(value)),
            );
        }
        number.map(|value| At { value, place })
    }

    /// A TCP port.
    pub(super) fn port(&mut self, key: &'static str, mistakes: &mut Mistakes<'_>) -> Option<u16> {
        let At { value, place } = self.find(key)?;
        let port = value
            .as_integer()
            .and_then(|integer| u16::from_str_radix(integer.as_str(), integer.radix()).ok())
            .filter(|port| *port != 0);
        if port.is_none() {
            mistakes.add(place, format!("{key} must be a port number, 1 to 65535"));
        }
        port
    }

    /// An HTTP status.
    pub(super) fn status(&mut self, key: &'static str, mistakes: &mut Mistakes<'_>) -> Option<u16> {
        let At { value, place } = self.find(key)?;
        let status = value
            .as_integer()
            .and_then(|integer| u16::from_str_radix(integer.as_str(), integer.radix()).ok())
            .filter(|status| (200..600).contains(status));
        if status.is_none() {
            mistakes.add(place, format!("{key} must be an HTTP status, 200 to 599"));
        }
        status
    }

    /// How many of something, at least one.
    pub(super) fn count(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<usize> {
        let At { value, place } = self.find(key)?;
        let count = value
            .as_integer()
            .and_then(|integer| u32::from_str_radix(integer.as_str(), integer.radix()).ok())
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| *count != 0);
        if count.is_none() {
            mistakes.add(place, format!("{key} must be a whole number, 1 or more"));
        }
        count
    }

    /// A duration that isn't zero.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<At<Duration>> {
        let At { value: text, place } = self.string(key, mistakes)?;
        match duration::parse(&text) {
            Ok(Duration::ZERO) => mistakes.add(place, format!("{key} must be longer than nothing")),
            Ok(value) => return Some(At { value, place }),
            Err(error) => mistakes.add(place, error.to_string()),
        }
        None
    }

    /// The tables in a table of tables, as in `[host.NAME]`, by their names.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes<'_>,
    ) -> Vec<(At<String>, Section<'t, 'i>)> {
        let Some(At { value, place }) = self.find(key) else {
            return Vec::new();
        };
        let DeValue::Table(table) = value else {
            mistakes.advise(
                place,
                format!("{key} must be a table"),
                format!("write [{key}.NAME]"),
            );
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, value) in table {
            let place = Place::new(self.file, name.span());
            let text = name.get_ref().to_string();
            match value.get_ref() {
                DeValue::Table(inner) => {
                    let section =
                        Section::new(inner, self.file, name.span(), format!("[{key}.{text}]"));
                    found.push((At { value: text, place }, section));
                }
                other => {
                    let problem = format!("{key}.{text} must be a table, not {}", kind(other));
                    mistakes.advise(place, problem, format!("write [{key}.NAME]"));
                }
            }
        }
        found
    }

    /// One table, as in `[issuer]`.
    pub(super) fn table(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<Section<'t, 'i>> {
        self.known.push(key);
        let (name, value) = self.table.get_key_value(key)?;
        match value.get_ref() {
            DeValue::Table(inner) => Some(Section::new(
                inner,
                self.file,
                name.span(),
                format!("[{key}]"),
            )),
            other => {
                let place = Place::new(self.file, name.span());
                mistakes.advise(
                    place,
                    format!("{key} must be a table, not {}", kind(other)),
                    format!("write [{key}]"),
                );
                None
            }
        }
    }

    /// One table within this one, as in `key = { … }`, of which `example` is one.
    pub(super) fn inline(
        &mut self,
        key: &'static str,
        example: &str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<Section<'t, 'i>> {
        let At { value, place } = self.find(key)?;
        if let DeValue::Table(inner) = value {
            let header = self.table.get_key_value(key)?.0.span();
            return Some(Section::new(inner, self.file, header, key));
        }
        let problem = format!("{key} must be a table, not {}", kind(value));
        mistakes.advise(place, problem, format!("write {key} = {example}"));
        None
    }

    /// true or false.
    pub(super) fn boolean(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<At<bool>> {
        let At { value, place } = self.find(key)?;
        let DeValue::Boolean(boolean) = value else {
            let problem = format!("{key} must be true or false, not {}", kind(value));
            mistakes.add(place, problem);
            return None;
        };
        Some(At {
            value: *boolean,
            place,
        })
    }

    /// As in `[issuer]`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Keys that may be there, whether they were asked for or not.
    pub(super) fn know(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// Whether the key is there, of whatever type.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports a key that must be there.
    pub(super) fn missing(&self, key: &str, example: &str, mistakes: &mut Mistakes<'_>) {
        let problem = format!("{} lacks {key}", self.name);
        mistakes.advise(self.place, problem, format!("add {key} = {example}"));
    }

    /// Reports every key that wasn't asked for.
    pub(super) fn finish(self, mistakes: &mut Mistakes<'_>) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let place = Place::new(self.file, key.span());
            let problem = match self.name.as_str() {
                "" => format!("unknown table or key {name:?}"),
                section => format!("unknown key {name:?} in {section}"),
            };
            let advice = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            mistakes.advise(place, problem, advice);
        }
    }
}

/// A string with a form of its own.
pub(super) fn parse<T: FromStr<Err: fmt::Display>>(
    text: &At<String>,
    mistakes: &mut Mistakes<'_>,
) -> Option<At<T>> {
    match text.value.parse() {
        Ok(value) => Some(At {
            value,
            place: text.place,
        }),
        Err(error) => {
            mistakes.add(text.place, error.to_string());
            None
        }
    }
}

fn text(
    key: &str,
    value: &DeValue<'_>,
    place: Place,
    mistakes: &mut Mistakes<'_>,
) -> Option<At<String>> {
    let DeValue::String(text) = value else {
        mistakes.add(
            place,
            format!(
                "{key} takes strings, in quotation marks, not {}",
                kind(value)
            ),
        );
        return None;
    };
    Some(At {
        value: text.to_string(),
        place,
    })
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
