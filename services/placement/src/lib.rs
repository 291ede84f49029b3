//! Where an instance goes: fleet and demand in, node or reason out.
//!
//! [`Fleet`] holds the fleet as values. It learns through [`Fleet::apply`] what nodes have left, through [`Fleet::settle`] and
//! [`Fleet::depart`] who is on them, and answers through [`Fleet::decide_for`]; the same changes and the same demand give the same
//! answer, on any replica and in any replay. An answer is a proposal: the node's row in the store is the referee (DESIGN section
//! 5). What the row refused is left out with [`Ask::excluded`] until the node's own facts arrive as a [`FleetChange::Node`].
//!
//! Invariants, property-tested:
//! - a [`Placement`] breaks no [`HardLimit`], and there is one whenever some node breaks none;
//! - it is the least [`Score`] over the whole fleet, as a scan of every node would find it;
//! - a decision, and a [`Refusal`], looks at a number of nodes that does not depend on how many there are; only
//!   [`Fleet::explain`], which tells the verdict on every node, walks all of them;
//! - a fleet that learnt by changes equals one built from the facts they led to.
//!
//! Exceptions to the third, each of them bounded by something else than the fleet: nodes that hold members of a group that the instance
//! must be apart from or spread with are passed over one by one, a bit each where they are many, so are those where a port is taken;
//! `near` looks at the nodes of its group.
//!
//! A new hard limit is a variant of [`HardLimit`], a new preference a field of [`Score`]: neither changes the interface.

mod change;
mod company;
mod context;
mod decision;
mod evict;
mod explain;
mod fleet;
mod hash;
mod image;
mod index;
mod kind;
pub mod lifetime;
mod limit;
mod node_set;
mod score;
mod shape;
mod share;
mod shelf;
mod stand;
#[cfg(test)]
mod tests;

pub use change::{FleetChange, NodeSnapshot, Unapplied};
pub use decision::{Ask, Placement, Refusal, Why};
pub use evict::Eviction;
pub use explain::{Explanation, ForOperators};
pub use fleet::Fleet;
pub use limit::HardLimit;
pub use score::{ExchangeRate, Score};
