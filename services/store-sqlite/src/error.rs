//! From the driver's errors to the contract's.

use wherry_store::StoreError;

/// What SQLite's primary result codes mean to a caller (sqlite.org/rescode.html).
mod code {
    pub(super) const CORRUPT: i64 = 11;
    pub(super) const FULL: i64 = 13;
    pub(super) const CONSTRAINT: i64 = 19;
    pub(super) const NOT_A_DATABASE: i64 = 26;
    /// Logic errors in our own statements: unknown column, wrong type, misuse.
    pub(super) const OURS: [i64; 4] = [1, 20, 21, 25];
    /// Extended: the shared-memory file cannot grow, which is how a full disk shows when a connection is opened.
    pub(super) const IOERR_SHMSIZE: i64 = 4874;
}

/// The extended result code, if the error is SQLite's.
pub(crate) fn code_of(error: &sqlx::Error) -> Option<i64> {
    error.as_database_error()?.code()?.parse().ok()
}

/// Whether the file is not, or no longer, a database.
pub(crate) fn is_damage(error: &sqlx::Error) -> bool {
    code_of(error).is_some_and(|code| matches!(code & 0xff, code::CORRUPT | code::NOT_A_DATABASE))
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

fn store_error(error: sqlx::Error, context: &'static str) -> StoreError {
    let retryable = |error| StoreError::Unavailable { context: context.to_owned(), source: Some(Box::new(error)) };
    let bug = |error| StoreError::Violation { context: context.to_owned(), source: Some(Box::new(error)) };
    let Some(code) = code_of(&error) else {
        return match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                StoreError::Corrupt { table: "(unknown)", key: context.to_owned(), message: error.to_string() }
            }
            sqlx::Error::Encode(_) | sqlx::Error::ColumnNotFound(_) | sqlx::Error::RowNotFound => bug(error),
            other => retryable(other),
        };
    };
    match code & 0xff {
        code::FULL => StoreError::DiskFull,
        _ if code == code::IOERR_SHMSIZE => StoreError::DiskFull,
        code::CORRUPT | code::NOT_A_DATABASE => {
            StoreError::Corrupt { table: "(file)", key: context.to_owned(), message: error.to_string() }
        }
        code::CONSTRAINT => bug(error),
        ours if code::OURS.contains(&ours) => bug(error),
        _ => retryable(error),
    }
}

/// A rule that the caller broke, found by us and not by the database.
pub(crate) fn violation(context: impl Into<String>) -> StoreError {
    StoreError::Violation { context: context.into(), source: None }
}
