//! The application with the real agent: whole lives, and lives through crashes of both.

#![expect(clippy::unwrap_used, reason = "every line of this crate is a test")]

mod chaos;
mod life;
