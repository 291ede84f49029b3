//! Who decides: published policies, Wherry's engine, and one who knows the future.

mod engine;
mod oracle;
mod scan;

use anyhow::Result;

pub(crate) use engine::Engine;
pub(crate) use oracle::Oracle;
pub(crate) use scan::{Rule, Scan};

use crate::nodes::Nodes;
use crate::workload::Arrival;

/// Decides where instances go. All it ever learns is here: who has arrived, and who has ended.
pub(crate) trait Policy {
    /// The node for `arrival`, at the moment that it arrives; it is there then. `None` when there is none.
    fn place(&mut self, nodes: &Nodes, arrival: &Arrival) -> Result<Option<usize>>;

    /// It has ended now.
    fn ended(&mut self, arrival: &Arrival, node: usize, now_ms: u64) -> Result<()>;
}
