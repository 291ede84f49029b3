//! From the driver's errors to the contract's.

use wherry_store::StoreError;

/// SQLSTATEs with a meaning of their own (PostgreSQL manual, appendix A).
mod code {
    pub(super) const SERIALIZATION_FAILURE: &str = "40001";
    pub(super) const DEADLOCK: &str = "40P01";
    pub(super) const DISK_FULL: &str = "53100";
    pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";
    /// A standby, or a primary that became one.
    pub(super) const READ_ONLY: &str = "25006";
    /// Classes that pass: connection, transaction rollback, resources, object state, operator, system.
    pub(super) const PASSING: [&str; 6] = ["08", "40", "53", "55", "57", "58"];
    /// Sessions that the server ended: idle in a transaction, by an operator, by a crash, while starting, by their age.
    pub(super) const ENDED: [&str; 6] = ["25P03", "57P01", "57P02", "57P03", "57P05", "25P04"];
    pub(super) const DAMAGE: &str = "XX";
}

/// What an error means for the transaction that it met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It collided with another one: it may succeed as it is when run again.
    Collision,
    /// The connection is gone, and with it the transaction, unless its COMMIT was under way.
    ConnectionLost,
    /// A lock was held by somebody for too long.
    Locked,
    /// Anything else.
    Other,
}

/// What a driver's error means.
pub(crate) fn meaning(error: &sqlx::Error) -> Meaning {
    match error {
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some(code::SERIALIZATION_FAILURE | code::DEADLOCK) => Meaning::Collision,
            Some(code::LOCK_NOT_AVAILABLE) => Meaning::Locked,
            Some(sqlstate) if code::ENDED.contains(&sqlstate) || sqlstate.starts_with("08") => Meaning::ConnectionLost,
            _ => Meaning::Other,
        },
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => Meaning::ConnectionLost,
        _ => Meaning::Other,
    }
}

/// What the driver's error behind an error of the contract means.
pub(crate) fn meaning_behind(error: &StoreError) -> Meaning {
    let (StoreError::Unavailable { source, .. } | StoreError::Violation { source, .. }) = error else {
        return Meaning::Other;
    };
    source.as_ref().and_then(|source| source.downcast_ref()).map_or(Meaning::Other, meaning)
}

/// The constraint that the driver's error behind an error of the contract names.
pub(crate) fn constraint_behind(error: &StoreError) -> Option<&str> {
    let StoreError::Violation { source, .. } = error else { return None };
    source.as_ref()?.downcast_ref::<sqlx::Error>()?.as_database_error()?.constraint()
}

/// Says what was tried when the driver fails.
pub(crate) trait Context<T> {
    /// `context` is a phrase that goes on after "the database …: ", for example `creating a tenant`.
    fn context(self, context: &'static str) -> Result<T, StoreError>;
}

impl<T> Context<T> for Result<T, sqlx::Error> {
    fn context(self, context: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| store_error(error, context))
    }
}

pub(crate) fn store_error(error: sqlx::Error, context: &'static str) -> StoreError {
    let retryable = |error| StoreError::Unavailable { context: context.to_owned(), source: Some(Box::new(error)) };
    let bug = |error| StoreError::Violation { context: context.to_owned(), source: Some(Box::new(error)) };
    match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            if code == code::DISK_FULL {
                StoreError::DiskFull
            } else if code.starts_with(code::DAMAGE) {
                StoreError::Corrupt { table: "(database)", key: context.to_owned(), message: error.to_string() }
            } else if code == code::READ_ONLY || meaning(&error) != Meaning::Other || is_passing(&code) {
                retryable(error)
            } else {
                bug(error)
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            StoreError::Corrupt { table: "(unknown)", key: context.to_owned(), message: error.to_string() }
        }
        sqlx::Error::Encode(_) | sqlx::Error::ColumnNotFound(_) | sqlx::Error::RowNotFound => bug(error),
        _ => retryable(error),
    }
}

fn is_passing(code: &str) -> bool {
    code.get(..2).is_some_and(|class| code::PASSING.contains(&class))
}

/// A rule that the caller broke, found by us and not by the database.
pub(crate) fn violation(context: impl Into<String>) -> StoreError {
    StoreError::Violation { context: context.into(), source: None }
}

/// Nothing was stored, and trying again is right.
pub(crate) fn unavailable(context: &'static str, reason: &str) -> StoreError {
    StoreError::Unavailable { context: format!("{context}: {reason}"), source: None }
}
