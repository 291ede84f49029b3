//! Where an instance goes: fleet and demand in, node or reason out.
//!
//! [`Fleet`] holds the fleet as values. It learns through [`Fleet::apply`] and answers through [`Fleet::decide`]; the same
//! changes and the same demand give the same answer, on any replica and in any replay. An answer is a proposal: the
//! node's row in the store is the referee (DESIGN section 5). What the row refused is left out with
//! [`Fleet::decide_excluding`] until the node's own facts arrive as a [`FleetChange::Node`].
//!
//! Invariants, property-tested:
//! - a [`Placement`] breaks no [`HardLimit`], and there is one whenever some node breaks none;
//! - it is the least [`Score`] over the whole fleet, as a scan of every node would find it;
//! - a decision looks at a number of nodes that does not depend on how many there are; only a [`Refusal`], which counts
//!   why each node was refused, walks all of them;
//! - a fleet that learnt by changes equals one built from the facts they led to.
//!
//! A new hard limit is a variant of [`HardLimit`], a new preference a field of [`Score`]: neither changes the interface,
//! and both are functions of one node, so telling the verdict on every node is a loop over them.

mod change;
mod decision;
mod fleet;
mod forest;
mod index;
mod limit;
mod score;
#[cfg(test)]
mod tests;

pub use change::{FleetChange, NodeSnapshot, Unapplied};
pub use decision::{Placement, Refusal, Why};
pub use fleet::Fleet;
pub use limit::HardLimit;
pub use score::{ExchangeRate, Score};
