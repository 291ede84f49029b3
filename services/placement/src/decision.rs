//! What comes out: a node and why, or how many nodes each limit refused.

use std::collections::BTreeMap;
use std::fmt;

use wherry_model::{Demand, NodeId};

use crate::limit::HardLimit;
use crate::score::Score;

/// A proposal. It binds nobody until the node's row has given the resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Where.
    pub node: NodeId,
    /// Why there.
    pub why: Why,
}

/// Why a node was chosen. Prints as a sentence without the node's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The least score of all that fit.
    pub score: Score,
    /// How many nodes were scored to know that.
    pub candidates: u32,
    /// How many nodes there are.
    pub nodes: u32,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} of {} nodes scored)", self.score, self.candidates, self.nodes)
    }
}

/// No node can take the demand. Prints as a sentence without node names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub demand: Box<Demand>,
    /// How many nodes there are.
    pub nodes: u32,
    /// How many of them each limit refused; limits that refused none are absent. A node can be refused by several.
    pub refused: BTreeMap<HardLimit, u32>,
    /// Whether some node, whatever its state, would hold it when empty. If not, waiting does not help.
    pub fits_an_empty_node: bool,
}

impl Refusal {
    /// How many nodes this limit refused.
    pub fn by(&self, limit: HardLimit) -> u32 {
        self.refused.get(&limit).copied().unwrap_or(0)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no room for {} CPU and {} memory", self.demand.cpu, self.demand.memory)?;
        if let Some(architecture) = self.demand.architecture {
            write!(f, " on {architecture}")?;
        }
        if self.nodes == 0 {
            return f.write_str(": there are no nodes, join one");
        }
        write!(f, ": of {} node{}", self.nodes, if self.nodes == 1 { "" } else { "s" })?;
        for (limit, count) in &self.refused {
            let separator = if self.refused.keys().next() == Some(limit) { "" } else { "," };
            write!(f, "{separator} {count} {limit}")?;
        }
        f.write_str(if self.fits_an_empty_node {
            "; stop something, ask for less, or try again later"
        } else {
            "; it is larger than any node, ask for less"
        })
    }
}
