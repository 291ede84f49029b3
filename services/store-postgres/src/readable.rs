//! Records that cannot be read cost themselves alone: whoever asks for many gets the others, and the log has their ids.

use sqlx::postgres::PgRow;
use wherry_store::StoreError;

/// Records that one call passes over before it gives what it has.
const MOST_UNREADABLE: u32 = 1_000;

/// What of the rows can be read.
pub(crate) fn readable<T>(rows: &[PgRow], read: impl Fn(&PgRow) -> Result<T, StoreError>) -> Vec<T> {
    let known = |row| match read(row) {
        Ok(found) => Some(found),
        Err(error) => {
            tracing::error!(%error, "a stored record is left out of what was asked for");
            None
        }
    };
    rows.iter().filter_map(known).collect()
}

/// A page of records that can be read, filled by as many reads as that takes.
pub(crate) struct Filling<T> {
    limit: u32,
    passed: u32,
    found: Vec<T>,
    is_done: bool,
}

impl<T> Filling<T> {
    pub(crate) const fn of(limit: u32) -> Self {
        Self { limit, passed: 0, found: Vec::new(), is_done: limit == 0 }
    }

    pub(crate) const fn is_done(&self) -> bool {
        self.is_done
    }

    /// Rows to read next: how many, after how many.
    pub(crate) fn next(&self) -> (i64, i64) {
        (i64::from(self.wanted()), i64::from(self.passed))
    }

    fn wanted(&self) -> u32 {
        self.limit.saturating_sub(self.len())
    }

    /// Takes what was read.
    pub(crate) fn take(&mut self, rows: &[PgRow], read: impl Fn(&PgRow) -> Result<T, StoreError>) {
        let wanted = self.wanted();
        let came = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        self.found.extend(readable(rows, read));
        self.passed = self.passed.saturating_add(came);
        let unreadable = self.passed.saturating_sub(self.len());
        self.is_done = came < wanted || self.len() >= self.limit || unreadable >= MOST_UNREADABLE;
    }

    pub(crate) fn found(self) -> Vec<T> {
        self.found
    }

    fn len(&self) -> u32 {
        u32::try_from(self.found.len()).unwrap_or(u32::MAX)
    }
}
