//! A store in memory, for the simulation: it obeys the contract of `wherry-store` and passes the same suite as the real
//! ones, makes the same of the same calls every time, and misbehaves on demand.
//!
//! One [`MemoryStore`] is one handle, as one process has it; [`MemoryStore::handle`] makes another on the same data.
//! Every operation is one unit: it runs whole under one lock, and what it wrote is taken
//! back unless it says that it is to be kept. So a unit is all or nothing, and a caller that goes away while it waits
//! (before or after, see [`Trouble`]) leaves either.
//!
//! Rows are kept as the traits speak of them. What the SQL schemas forbid is refused here too, above all intervals that
//! overlap: the simulation would otherwise be content with what a real database refuses.
//!
//! Rejected: SQLite in memory (its writer is a thread, which no paused clock and no seed governs), and a journal that can
//! be replayed (nothing here outlives the process).

mod audit;
mod database;
mod event;
mod feed;
mod fleet;
mod instance;
mod meter;
mod node;
mod state;
mod table;
mod tenant;
mod trouble;
mod webhook;

use std::sync::Arc;

use wherry_metering::Interval;
use wherry_model::{Instance, InstanceId, NodeRecord};

use crate::database::Database;

pub use trouble::{Calm, Trouble, Witness};

/// One process's way to the data.
#[derive(Clone)]
pub struct MemoryStore {
    database: Arc<Database>,
    trouble: Arc<dyn Trouble>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { database: Arc::default(), trouble: Arc::new(Calm) }
    }
}

/// Everything that an outside observer compares with the world.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// All that were not removed, by id.
    pub nodes: Vec<NodeRecord>,
    /// All that were not purged, by id.
    pub instances: Vec<Arc<Instance>>,
    /// All of them, by (instance, kind, number).
    pub intervals: Vec<Interval>,
}

impl MemoryStore {
    /// An empty store without trouble.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another handle on the same data.
    #[must_use]
    pub fn handle(&self, trouble: Arc<dyn Trouble>) -> Self {
        Self { database: Arc::clone(&self.database), trouble }
    }

    /// Shows every write of an instance or a node to `witness`, at the moment of its commit.
    pub fn show(&self, witness: Arc<dyn Witness>) {
        self.database.show(witness);
    }

    /// Makes the record of an instance unreadable, or readable again, as damage or a replica of a newer release does. False when
    /// there is no such instance.
    pub fn break_record(&self, instance: InstanceId, broken: bool) -> bool {
        self.database.edit(|state| state.instances.change(&instance, |row| row.broken = broken))
    }

    /// What is stored now, past all trouble.
    pub fn contents(&self) -> Contents {
        self.database.read(|state| Contents {
            nodes: node::present(state).cloned().collect(),
            instances: state.instances.values().map(|row| Arc::clone(&row.record)).collect(),
            intervals: meter::all(state),
        })
    }
}
