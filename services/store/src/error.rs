//! What can go wrong in a store, from the caller's point of view.

use thiserror::Error;

/// Why an operation was not done. Nothing of it was stored, except where a variant says otherwise.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database cannot be reached, is locked for too long or timed out. Trying again later is right.
    #[error("the database is not available: {context}")]
    Unavailable {
        /// What was tried.
        context: String,
        /// What the driver said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// No space is left where the database lives.
    #[error("the disk of the database is full: free some space, nothing was lost")]
    DiskFull,
    /// A stored row cannot be understood; it was written by a newer version or damaged.
    #[error("{table} row {key} cannot be read: {message}")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// Which row.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// A rule of the schema was broken that the caller should have kept: a bug.
    #[error("the database refused a write: {context}")]
    Violation {
        /// What was tried.
        context: String,
        /// What the driver said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl StoreError {
    /// Whether the same call can succeed later without anybody changing the request.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::DiskFull => true,
            Self::Corrupt { .. } | Self::Violation { .. } => false,
        }
    }
}
