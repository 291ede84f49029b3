//! The sizes of machine that there are: whether a demand would fit an empty one is asked of the sizes, not of the nodes.

use std::collections::BTreeMap;

use wherry_model::{Demand, Overcommit};

use crate::change::NodeSnapshot;
use crate::kind::Kinds;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    kind: u16,
    cpu_millis: u64,
    memory_mib: u64,
    disk_mib: Option<u64>,
    gpus: u8,
    takes_any: bool,
}

impl Shape {
    fn of(kind: u16, node: &NodeSnapshot) -> Self {
        let offered = node.offered();
        let disk = |disk: wherry_model::Stock| Overcommit::of(disk.total_mib, node.offer.overcommit.disk_percent);
        Self {
            kind,
            cpu_millis: offered.cpu_millis,
            memory_mib: offered.memory_mib,
            disk_mib: node.offer.disk.map(disk),
            gpus: node.offer.gpus.count,
            takes_any: offered.instances > 0 && node.offer.addresses != Some(0),
        }
    }
}

/// How many nodes there are of each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes(BTreeMap<Shape, u32>);

impl Shapes {
    pub(crate) fn add(&mut self, kind: u16, node: &NodeSnapshot) {
        *self.0.entry(Shape::of(kind, node)).or_default() += 1;
    }

    pub(crate) fn subtract(&mut self, kind: u16, node: &NodeSnapshot) {
        let shape = Shape::of(kind, node);
        if let Some(count) = self.0.get_mut(&shape) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&shape);
            }
        }
    }

    /// Whether some node, whatever its state, would hold `demand` when empty.
    pub(crate) fn any_holds(&self, kinds: &Kinds, demand: &Demand) -> bool {
        let gpus = demand.gpu.map_or(0, |asked| match asked.amount {
            wherry_model::GpuAmount::Whole(count) => count,
            wherry_model::GpuAmount::Share(_) => 1,
        });
        self.0.keys().any(|shape| {
            shape.takes_any
                && shape.cpu_millis >= u64::from(demand.cpu.get())
                && shape.memory_mib >= u64::from(demand.memory.get())
                && shape.disk_mib.is_none_or(|disk| disk >= u64::from(demand.disk.get()))
                && shape.gpus >= gpus
                && kinds.is_for(shape.kind, demand)
        })
    }

    /// Without the kinds' numbers, which depend on who came first.
    #[cfg(test)]
    pub(crate) fn shape(&self) -> Vec<String> {
        let mut lines = self
            .0
            .iter()
            .map(|(shape, count)| format!("{:?} {count}", Shape { kind: 0, ..*shape }))
            .collect::<Vec<_>>();
        lines.sort_unstable();
        lines
    }
}
