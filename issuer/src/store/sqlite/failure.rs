//! What can go wrong inside, and what the caller is told of it.

use std::path::Path;

use sqlx::migrate::MigrateError;

use crate::store::{StoreError, sealing::SealError};

/// Result of a method of the inner layer.
pub(super) type Inner<T> = Result<T, Failure>;

/// Why an operation failed, before the database's path is added.
#[derive(Debug)]
pub(super) enum Failure {
    /// The engine, or a column that doesn't hold what it should.
    Sql(sqlx::Error),
    /// The schema.
    Migrate(MigrateError),
    /// Already in the caller's words.
    Told(StoreError),
}

impl Failure {
    /// A contradiction with what is stored.
    pub(super) fn conflict(sentence: impl Into<String>) -> Self {
        Self::Told(StoreError::Conflict(sentence.into()))
    }

    /// A secret that doesn't open, or can't be sealed.
    pub(super) fn unseal(what: impl Into<String>, problem: SealError) -> Self {
        Self::Told(StoreError::Unseal {
            what: what.into(),
            problem: problem.to_string(),
        })
    }

    /// For the caller.
    pub(super) fn tell(self, database: &Path) -> StoreError {
        match self {
            Self::Told(error) => error,
            Self::Sql(error) if is_corruption(&error) => StoreError::Corrupt {
                path: database.display().to_string(),
                problem: error.to_string(),
            },
            Self::Sql(error) => StoreError::Io {
                path: database.display().to_string(),
                source: Box::new(error),
            },
            Self::Migrate(error) => StoreError::Io {
                path: database.display().to_string(),
                source: Box::new(error),
            },
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<MigrateError> for Failure {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::Sql(error)
            }
            other => Self::Migrate(other),
        }
    }
}

fn is_corruption(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::RowNotFound => true,
        // SQLITE_CORRUPT and SQLITE_NOTADB; an extended code holds the primary one in its lowest byte.
        sqlx::Error::Database(error) => error
            .code()
            .and_then(|code| code.parse::<i32>().ok())
            .is_some_and(|code| matches!(code & 0xff, 11 | 26)),
        _ => false,
    }
}
