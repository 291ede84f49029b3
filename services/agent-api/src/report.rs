//! Up: facts from the journal.

use serde::{Deserialize, Serialize};
use wherry_model::{JournalId, NodeId, Observation};

/// A batch from the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who reports.
    pub node: NodeId,
    /// In which journal the observations are numbered.
    pub journal: JournalId,
    /// At most [`Self::MAX_OBSERVATIONS`], in order of their numbers.
    pub observations: Vec<Observation>,
}

impl Report {
    /// The most observations of one report.
    pub const MAX_OBSERVATIONS: usize = 256;
}

/// Everything up to here is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The highest stored number of the journal.
    pub through: u64,
}
