//! What goes in and what comes out: a demand with its terms; a node and why, or that there is none.

use std::fmt;

use wherry_model::{Demand, Departure, DeviceSet, NodeId, Terms};

use crate::score::Score;

/// All that can be asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What is taken, and from which nodes.
    pub demand: &'a Demand,
    /// What is asked about the other instances there.
    pub terms: &'a Terms,
    /// Nodes whose row refused this demand a moment ago. Keep the list short, every candidate is compared with it.
    pub excluded: &'a [NodeId],
}

static NO_TERMS: Terms = Terms {
    groups: Vec::new(),
    near: Vec::new(),
    apart: Vec::new(),
    spread: Vec::new(),
    ports: Vec::new(),
    images: Vec::new(),
    departs: Departure([0; Departure::CLASSES]),
};

impl<'a> Ask<'a> {
    /// A demand without terms.
    pub const fn of(demand: &'a Demand) -> Self {
        Self { demand, terms: &NO_TERMS, excluded: &[] }
    }
}

/// A proposal. It binds nobody until the node's row has given the resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Where.
    pub node: NodeId,
    /// Which GPUs of it; none if none are asked for.
    pub devices: DeviceSet,
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

/// No node can take the demand. Prints as a sentence without node names. How many nodes each limit refused says
/// [`Fleet::explain`](crate::Fleet::explain), which looks at every node; a refusal does not, since a full fleet refuses often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub demand: Box<Demand>,
    /// How many nodes there are.
    pub nodes: u32,
    /// Whether some node, whatever its state, would hold it when empty. If not, waiting does not help.
    pub fits_an_empty_node: bool,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        no_room(f, &self.demand)?;
        way_out(f, self.nodes, self.fits_an_empty_node)
    }
}

pub(crate) fn no_room(f: &mut fmt::Formatter<'_>, demand: &Demand) -> fmt::Result {
    write!(f, "no room for {} CPU and {} memory", demand.cpu, demand.memory)?;
    if let Some(architecture) = demand.architecture {
        write!(f, " on {architecture}")?;
    }
    if let Some(zone) = demand.zone {
        write!(f, " in {zone}")?;
    }
    Ok(())
}

pub(crate) fn way_out(f: &mut fmt::Formatter<'_>, nodes: u32, fits_an_empty_node: bool) -> fmt::Result {
    f.write_str(if nodes == 0 {
        ": there are no nodes, join one"
    } else if fits_an_empty_node {
        "; stop something, ask for less, or try again later"
    } else {
        "; it is larger than any node, ask for less"
    })
}
