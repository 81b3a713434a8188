//! Between Rust's types and SQLite's. A column that can't be read back means a damaged database.

use std::{fmt, str::FromStr};

use certwell_proto::{Generation, Identifier};
use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Whole milliseconds since the Unix epoch.
pub(super) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// A number for a column; ours never reach the half of the range that SQLite lacks.
pub(super) fn number(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|e| sqlx::Error::Encode(Box::new(e)))
}

/// A generation for a column.
pub(super) fn generation(generation: Generation) -> Result<i64> {
    number(generation.0)
}

/// Names as a JSON list.
pub(super) fn list(identifiers: &[Identifier]) -> Result<String> {
    let list: Vec<String> = identifiers.iter().map(ToString::to_string).collect();
    texts(&list)
}

/// Texts as a JSON list.
pub(super) fn texts(texts: &[String]) -> Result<String> {
    serde_json::to_string(texts).map_err(|e| sqlx::Error::Encode(Box::new(e)))
}

/// Each DER behind its length.
pub(super) fn pack(ders: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(ders.iter().map(|der| 4 + der.len()).sum());
    for der in ders {
        let length = u32::try_from(der.len()).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(der);
    }
    Ok(bytes)
}

fn unpack(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut ders = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (der, rest) =
            rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        ders.push(der.to_vec());
        bytes = rest;
    }
    Some(ders)
}

/// Reading columns into our types.
pub(super) trait Columns {
    /// A name, or any other text with a form of its own.
    fn parsed<T: FromStr<Err: fmt::Display>>(&self, column: &str) -> Result<T>;
    /// The same, or nothing.
    fn parsed_or_none<T: FromStr<Err: fmt::Display>>(&self, column: &str) -> Result<Option<T>>;
    /// A time.
    fn time(&self, column: &str) -> Result<Timestamp>;
    /// A time, or nothing.
    fn time_or_none(&self, column: &str) -> Result<Option<Timestamp>>;
    /// A number that is never negative.
    fn unsigned(&self, column: &str) -> Result<u64>;
    /// The same, or nothing.
    fn unsigned_or_none(&self, column: &str) -> Result<Option<u64>>;
    /// A hash.
    fn hash(&self, column: &str) -> Result<[u8; 32]>;
    /// What `texts` made.
    fn texts(&self, column: &str) -> Result<Vec<String>>;
    /// What `list` made.
    fn identifiers(&self, column: &str) -> Result<Vec<Identifier>>;
    /// What `pack` made.
    fn ders(&self, column: &str) -> Result<Vec<Vec<u8>>>;
    /// A protobuf message.
    fn message<M: prost::Message + Default>(&self, column: &str) -> Result<M>;
    /// A protobuf enumeration.
    fn variant<E: TryFrom<i32, Error: fmt::Display>>(&self, column: &str) -> Result<E>;
}

impl Columns for SqliteRow {
    fn parsed<T: FromStr<Err: fmt::Display>>(&self, column: &str) -> Result<T> {
        let text: &str = self.try_get(column)?;
        text.parse().map_err(|e| damaged(column, e))
    }

    fn parsed_or_none<T: FromStr<Err: fmt::Display>>(&self, column: &str) -> Result<Option<T>> {
        let text: Option<&str> = self.try_get(column)?;
        text.map(|text| text.parse().map_err(|e| damaged(column, e)))
            .transpose()
    }

    fn time(&self, column: &str) -> Result<Timestamp> {
        Timestamp::from_millisecond(self.try_get(column)?).map_err(|e| damaged(column, e))
    }

    fn time_or_none(&self, column: &str) -> Result<Option<Timestamp>> {
        let millis: Option<i64> = self.try_get(column)?;
        millis
            .map(|millis| Timestamp::from_millisecond(millis).map_err(|e| damaged(column, e)))
            .transpose()
    }

    fn unsigned(&self, column: &str) -> Result<u64> {
        u64::try_from(self.try_get::<i64, _>(column)?).map_err(|e| damaged(column, e))
    }

    fn unsigned_or_none(&self, column: &str) -> Result<Option<u64>> {
        let number: Option<i64> = self.try_get(column)?;
        number
            .map(|number| u64::try_from(number).map_err(|e| damaged(column, e)))
            .transpose()
    }

    fn hash(&self, column: &str) -> Result<[u8; 32]> {
        let bytes: &[u8] = self.try_get(column)?;
        bytes.try_into().map_err(|e| damaged(column, e))
    }

    fn texts(&self, column: &str) -> Result<Vec<String>> {
        serde_json::from_str(self.try_get(column)?).map_err(|e| damaged(column, e))
    }

    fn identifiers(&self, column: &str) -> Result<Vec<Identifier>> {
        self.texts(column)?
            .iter()
            .map(|text| text.parse().map_err(|e| damaged(column, e)))
            .collect()
    }

    fn ders(&self, column: &str) -> Result<Vec<Vec<u8>>> {
        unpack(self.try_get(column)?).ok_or_else(|| damaged(column, "cut short"))
    }

    fn message<M: prost::Message + Default>(&self, column: &str) -> Result<M> {
        M::decode(self.try_get::<&[u8], _>(column)?).map_err(|e| damaged(column, e))
    }

    fn variant<E: TryFrom<i32, Error: fmt::Display>>(&self, column: &str) -> Result<E> {
        E::try_from(self.try_get(column)?).map_err(|e| damaged(column, e))
    }
}

/// A column that doesn't hold what it should.
pub(super) fn damaged(column: &str, problem: impl fmt::Display) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: problem.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_chain_unpacks_and_a_cut_one_does_not() {
        let chain = vec![vec![1; 300], vec![], vec![2; 70]];
        let packed = pack(&chain).unwrap();
        assert_eq!(unpack(&packed).unwrap(), chain);
        assert_eq!(unpack(&packed[..packed.len() - 1]), None);
        assert_eq!(unpack(&packed[..2]), None);
        assert_eq!(unpack(&[]), Some(vec![]));
    }
}
