//! What arrived when, and how long it ran: recorded traces, and drawn ones for who has none.
//!
//! [`read`] takes a CSV with the columns `arrive_s`, `vcpu`, `mem_mib` and `life_s`, and if it has them `batch`, `cens` and `seg`, plain
//! or gzipped. The rules of replaying one stand here, so that all who replay obey the same: [`BIN_SECONDS`], [`SHORTEST_SECONDS`].
//! [`synthetic`] draws one; [`Seeded`] draws anything, the same for the same seed.
//!
//! A crate of its own because the load generator and the placement bench stand in layers that do not see each other.

mod read;
mod seeded;
pub mod synthetic;

pub use read::{Trace, read};
pub use seeded::Seeded;

/// Arrivals are known to so many seconds: those of one bin are spread over it in their order.
pub const BIN_SECONDS: u64 = 300;

/// What a life of 0 counts as, in seconds: it ended within its bin.
pub const SHORTEST_SECONDS: u64 = 150;

/// One arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The begin of its bin, in seconds from any fixed moment.
    pub arrive_s: u64,
    /// What one tenant started in one bin has one number. Absent when the trace does not say.
    pub batch: Option<u64>,
    /// CPU, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory, in MiB.
    pub mem_mib: u64,
    /// How long it ran. Absent when it outlived the trace.
    pub life_s: Option<u64>,
}
