//! The unbroken life of one store.

use std::fmt;

use uuid::Uuid;

use crate::{FieldError, v1};

/// `init` begins one, `restore` begins another. Of two, the later started is the newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lineage {
    /// Random (version 4).
    pub id: Uuid,
    /// Milliseconds since the Unix epoch.
    pub started_ms: i64,
}

impl Lineage {
    /// Whether `other` must be refused by someone who has seen `self`: it began earlier, or at the same
    /// instant under another id.
    pub fn forbids(&self, other: &Self) -> bool {
        self.id != other.id && other.started_ms <= self.started_ms
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

impl TryFrom<v1::Lineage> for Lineage {
    type Error = FieldError;

    fn try_from(wire: v1::Lineage) -> Result<Self, FieldError> {
        let id = Uuid::from_slice(&wire.id).map_err(|e| FieldError::new("lineage.id", e))?;
        if wire.started_ms <= 0 {
            return Err(FieldError::new("lineage.started_ms", "must be after 1970"));
        }
        Ok(Self {
            id,
            started_ms: wire.started_ms,
        })
    }
}

impl From<Lineage> for v1::Lineage {
    fn from(lineage: Lineage) -> Self {
        Self {
            id: lineage.id.as_bytes().to_vec(),
            started_ms: lineage.started_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_lineage_is_forbidden_newer_and_same_are_not() {
        let old = Lineage {
            id: Uuid::from_u128(1),
            started_ms: 10,
        };
        let new = Lineage {
            id: Uuid::from_u128(2),
            started_ms: 20,
        };
        assert!(new.forbids(&old));
        assert!(!old.forbids(&new));
        assert!(!old.forbids(&old));
        assert!(old.forbids(&Lineage {
            id: Uuid::from_u128(3),
            started_ms: 10
        }));
    }
}
