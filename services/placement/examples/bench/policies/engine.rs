//! Wherry's engine, the real one, with or without what it learns of lifetimes.

use anyhow::{Context, Result};
use uuid::Uuid;
use wherry_model::{Architecture, Capacity, InstanceId, IsolationSet, NodeId, NodeOffer, NodeState, Terms};
use wherry_placement::lifetime::{Lifetimes, Reclassed, Traits};
use wherry_placement::{Ask, Fleet, FleetChange, NodeSnapshot};

use super::Policy;
use crate::nodes::{Nodes, Shape};
use crate::workload::Arrival;

/// More than a machine ever holds here: the count is no limit.
const INSTANCES: u32 = 100_000;

/// The engine.
#[derive(Debug)]
pub(crate) struct Engine {
    fleet: Fleet,
    lifetimes: Option<Lifetimes>,
}

impl Engine {
    /// With `learns`, what it sees of lifetimes goes into its decisions.
    pub(crate) fn new(shapes: &[Shape], count: usize, learns: bool) -> Self {
        let nodes = shapes.iter().cycle().take(count).enumerate();
        let nodes = nodes.map(|(number, shape)| NodeSnapshot {
            id: NodeId::from_uuid(id(number)),
            architecture: Architecture::Amd64,
            state: NodeState::Ready,
            capacity: Capacity { cpu_millis: shape.cpu_millis, memory_mib: shape.memory_mib, instances: INSTANCES },
            used: Capacity::default(),
            fences: true,
            protocol: 3,
            isolation: IsolationSet::default(),
            offer: NodeOffer::default(),
        });
        Self { fleet: nodes.collect(), lifetimes: learns.then(Lifetimes::default) }
    }

    fn tell(&mut self, changed: impl IntoIterator<Item = Reclassed>) -> Result<()> {
        for (node, departs) in changed {
            self.fleet.apply(FleetChange::Expect { node, departs })?;
        }
        Ok(())
    }
}

/// Ids are in the order of the numbers.
fn id(number: usize) -> Uuid {
    Uuid::from_u128(number as u128 + 1)
}

fn traits(arrival: &Arrival) -> Traits {
    // The trace says no tenants beyond batches. That leaves tenant 0, who is nobody.
    Traits {
        tenant: 0,
        image: arrival.image.unwrap_or(0),
        shape: Traits::shape_of(&arrival.demand()),
        batch: arrival.batch,
    }
}

impl Policy for Engine {
    fn place(&mut self, _nodes: &Nodes, arrival: &Arrival) -> Result<Option<usize>> {
        let (demand, now_s) = (arrival.demand(), arrival.at_ms / 1_000);
        let mut terms = Terms::default();
        if let Some(lifetimes) = &mut self.lifetimes {
            let outdated = lifetimes.advance(now_s);
            terms.departs = lifetimes.expect(&traits(arrival), now_s).departs;
            self.tell(outdated)?;
        }
        let Ok(placement) = self.fleet.decide_for(&Ask { demand: &demand, terms: &terms, excluded: &[] }) else {
            return Ok(None);
        };
        let node = placement.node;
        self.fleet.apply(FleetChange::Reserve { node, demand })?;
        if let Some(lifetimes) = &mut self.lifetimes {
            let instance = InstanceId::from_uuid(id(arrival.number));
            let changed = lifetimes.began(instance, node, &traits(arrival), now_s);
            self.tell(changed)?;
        }
        let number = usize::try_from(node.as_uuid().as_u128() - 1).context("a node that nobody added")?;
        Ok(Some(number))
    }

    fn ended(&mut self, arrival: &Arrival, node: usize, now_ms: u64) -> Result<()> {
        let now_s = now_ms / 1_000;
        if let Some(lifetimes) = &mut self.lifetimes {
            let outdated = lifetimes.advance(now_s);
            self.tell(outdated)?;
        }
        let release = FleetChange::Release { node: NodeId::from_uuid(id(node)), demand: arrival.demand() };
        self.fleet.apply(release)?;
        if let Some(lifetimes) = &mut self.lifetimes {
            let changed = lifetimes.ended(InstanceId::from_uuid(id(arrival.number)), now_s);
            self.tell(changed)?;
        }
        Ok(())
    }
}
