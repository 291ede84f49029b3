//! Each of several engines prefers its own share of the nodes, so that those that decide at the same time from pictures that are a
//! little old do not all propose the same last gap.

use wherry_model::NodeId;

use crate::hash::scatter;

/// One of so many equal parts of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    index: u32,
    of: u32,
}

impl Share {
    /// Part `index` of `of`; none where there is but one part.
    pub(crate) const fn new(index: u32, of: u32) -> Option<Self> {
        if of > 1 { Some(Self { index: index % of, of }) } else { None }
    }

    /// Whether `node` belongs to it. Every node belongs to one of the parts, wherever that is asked.
    pub(crate) fn has(self, node: NodeId) -> bool {
        scatter(node) % u64::from(self.of) == u64::from(self.index)
    }
}
