//! The brake on mass loss: when many nodes vanish at once it is the network, or this control plane, that is at fault. Then
//! nothing is taken from silent nodes, however long they are silent; detection goes on. An operator who knows better confirms
//! single nodes to be off.
//!
//! Counted is what this replica sees as silent and what was not fenced in this silence, which its row tells: a machine that
//! was lost and dealt with long ago does not keep the next one from being replaced, not even after all replicas were
//! started again. Those that were silent when the brake came on are fenced by nobody: an operator removes or confirms them.

use std::fmt;

use crate::{Control, lock};

/// Fewer silent nodes than this are no reason to brake.
const LEAST: u32 = 2;

/// Why nothing is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    /// Nodes that are silent.
    pub silent: u32,
    /// Nodes that there are.
    pub nodes: u32,
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} nodes are silent at once: this is taken for a fault of the network, so nothing is run elsewhere until \
             they are heard again; confirm single machines to be off, and remove those that are gone for good",
            self.silent, self.nodes
        )
    }
}

impl Brake {
    /// More than a third, and at least two.
    fn of(silent: u32, nodes: u32) -> Option<Self> {
        (silent >= LEAST && silent.saturating_mul(3) > nodes).then_some(Self { silent, nodes })
    }
}

impl Control {
    /// The brake, if it is on, as this replica sees it.
    pub fn brake(&self) -> Option<Brake> {
        let watch = lock(&self.inner.watch);
        let detection = self.inner.config.detection;
        let (mut silent, mut nodes) = (0_u32, 0_u32);
        for record in watch.records() {
            nodes += 1;
            silent += u32::from(watch.silent_for(record.id) > detection && !record.fenced);
        }
        Brake::of(silent, nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_two_and_more_than_a_third() {
        for (silent, nodes, on) in
            [(1, 1, false), (1, 2, false), (2, 2, true), (2, 5, true), (2, 6, false), (3, 8, true)]
        {
            assert_eq!(Brake::of(silent, nodes).is_some(), on, "{silent} of {nodes}");
        }
    }
}
