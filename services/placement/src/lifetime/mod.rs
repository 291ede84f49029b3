//! How long instances run: learnt while they do, and used to let a node's instances end together.
//!
//! [`Lifetimes`] is told who began and who ended, and of the time. It answers with an [`Expectation`] for who asks for a place
//! ([`wherry_model::Terms::departs`]) and with the departure class of each node ([`crate::FleetChange::Expect`]). Nothing reads a
//! clock and nothing is a float: the same calls in the same order give the same answers on any machine.
//!
//! What is learnt ([`Learner`]) is how many reached each age and how many ended there, by tenant, image, shape and place within
//! the batch (what one tenant starts within five minutes); what is known of few leans on what is known of more. Prediction
//! is by age: what has run long runs longer, so what was expected wrongly is expected anew as it runs (Resource Central, SOSP 2017;
//! LAVA, MLSys 2025). The members of a batch end together, so on a node a batch counts as one.
//!
//! A node's class is when its last instance is expected to go; a demand's row says by how much it would be expected to extend
//! that of each class. Rejected, measured on the trace that the header of `score.rs` names: a single number for an instance (its
//! mean or median) instead of its whole distribution; how full a node is expected to be later instead of when it is empty.
//!
//! Bounded: what is learnt by [`Learner::CURVES`] and [`Learner::BATCHES`], the rest by the instances there are.
//!
//! Around each decision:
//!
//! ```
//! # use wherry_model::{CpuMillis, Demand, InstanceId, MemoryMib, NodeId, Terms};
//! # use wherry_placement::lifetime::{Lifetimes, Reclassed, Traits};
//! # use wherry_placement::{Ask, Fleet, FleetChange, Unapplied};
//! fn tell(fleet: &mut Fleet, changed: impl IntoIterator<Item = Reclassed>) -> Result<(), Unapplied> {
//!     changed.into_iter().try_for_each(|(node, departs)| fleet.apply(FleetChange::Expect { node, departs }))
//! }
//!
//! fn place(fleet: &mut Fleet, lifetimes: &mut Lifetimes, who: InstanceId, demand: Demand, now_s: u64) -> Result<NodeId, Unapplied> {
//!     let outdated = lifetimes.advance(now_s);
//!     tell(fleet, outdated)?;
//!     let traits = Traits::of(&demand, &Terms::default(), now_s);
//!     let terms = Terms { departs: lifetimes.expect(&traits, now_s).departs, ..Terms::default() };
//!     let node = fleet.decide_for(&Ask { demand: &demand, terms: &terms, excluded: &[] }).expect("there is room").node;
//!     fleet.apply(FleetChange::Reserve { node, demand })?;
//!     tell(fleet, lifetimes.began(who, node, &traits, now_s))?;
//!     Ok(node)
//! }
//!
//! fn end(fleet: &mut Fleet, lifetimes: &mut Lifetimes, who: InstanceId, node: NodeId, demand: Demand, now_s: u64) -> Result<(), Unapplied> {
//!     fleet.apply(FleetChange::Release { node, demand })?;
//!     tell(fleet, lifetimes.ended(who, now_s))
//! }
//! ```

mod curve;
mod expectation;
mod grid;
mod learner;
#[cfg(test)]
mod tests;
mod traits;

use std::collections::{BTreeMap, BTreeSet};

use wherry_model::{InstanceId, NodeId};

pub use expectation::{Basis, Expectation};
use grid::{AGE_FLOORS, Outlook};
pub use learner::Learner;
use traits::Kind;
pub use traits::Traits;

/// How often a node's class is looked at again while nothing happens there, in seconds.
const REVIEW_SECONDS: u64 = 300;

/// How soon after somebody left, in seconds: of many that leave at once the last one is told.
const SETTLE_SECONDS: u64 = 30;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Lifetimes {
    learner: Learner,
    running: BTreeMap<InstanceId, Running>,
    nodes: BTreeMap<NodeId, Tenancy>,
    due: BTreeSet<(u64, Due)>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    /// None while it waits for another place.
    node: Option<NodeId>,
    kind: Kind,
    batch: u64,
    began_s: u64,
    age: usize,
}

/// Who is on a node, those of a batch side by side.
#[derive(Debug, Clone, Default)]
struct Tenancy {
    members: BTreeSet<(u64, InstanceId)>,
    outlook: Outlook,
    departs: u8,
    review_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// It reaches the next age.
    Age(InstanceId),
    /// Its class is to be looked at.
    Review(NodeId),
}

/// The node's class is another now.
pub type Reclassed = (NodeId, u8);

impl Lifetimes {
    /// Goes on with what was learnt before.
    pub fn with(learner: Learner) -> Self {
        Self { learner, ..Self::default() }
    }

    /// What is learnt, to be kept.
    pub const fn learner(&self) -> &Learner {
        &self.learner
    }

    /// What to expect of an instance that would begin now. Times are seconds since any fixed moment.
    pub fn expect(&mut self, traits: &Traits, now_s: u64) -> Expectation {
        let kind = self.learner.kind_of_next(traits);
        self.learner.expect(&kind, 0, now_s)
    }

    /// What to expect of one that runs, or that waits for another place.
    pub fn expect_running(&mut self, instance: InstanceId, now_s: u64) -> Option<Expectation> {
        let running = *self.running.get(&instance)?;
        let kind = self.learner.kind_now(running.kind, running.batch);
        Some(self.learner.expect(&kind, running.age, now_s))
    }

    /// It has its place, its first one or another one. Twice the same is once.
    pub fn began(&mut self, instance: InstanceId, node: NodeId, traits: &Traits, now_s: u64) -> Option<Reclassed> {
        if self.running.contains_key(&instance) {
            return self.moved(instance, node, now_s);
        }
        let kind = self.learner.began(traits);
        let running = Running { node: Some(node), kind, batch: traits.batch, began_s: now_s, age: 0 };
        self.settle(instance, running, now_s)
    }

    /// It has run since `began_s` and was counted then: after a restart, with what was learnt before.
    pub fn resumed(
        &mut self,
        instance: InstanceId,
        node: NodeId,
        traits: &Traits,
        began_s: u64,
        now_s: u64,
    ) -> Option<Reclassed> {
        if self.running.contains_key(&instance) {
            return self.moved(instance, node, now_s);
        }
        let (kind, age) = (self.learner.kind_of_known(traits), grid::age_of(now_s.saturating_sub(began_s)));
        self.settle(instance, Running { node: Some(node), kind, batch: traits.batch, began_s, age }, now_s)
    }

    /// It is not on its node any more, and has not ended: it waits for another place.
    pub fn left(&mut self, instance: InstanceId, now_s: u64) -> Option<Reclassed> {
        let running = self.running.get_mut(&instance)?;
        let (node, batch) = (running.node.take()?, running.batch);
        self.vacate(instance, node, batch, now_s)
    }

    /// It has ended.
    pub fn ended(&mut self, instance: InstanceId, now_s: u64) -> Option<Reclassed> {
        let mut running = self.running.remove(&instance)?;
        self.due.remove(&(next_age_s(&running), Due::Age(instance)));
        let reached = grid::age_of(now_s.saturating_sub(running.began_s));
        while running.age < reached {
            running.age += 1;
            self.learner.reached(&running.kind, running.age);
        }
        self.learner.ended(&running.kind, running.age);
        self.vacate(instance, running.node?, running.batch, now_s)
    }

    /// Time has passed. Nodes whose class that changed.
    pub fn advance(&mut self, now_s: u64) -> Vec<Reclassed> {
        let mut stale = BTreeSet::new();
        while let Some((_, due)) = self.due.first().copied().filter(|(due_s, _)| *due_s <= now_s) {
            self.due.pop_first();
            match due {
                Due::Age(instance) => {
                    let Some(running) = self.running.get_mut(&instance) else { continue };
                    running.age += 1;
                    let running = *running;
                    self.learner.reached(&running.kind, running.age);
                    if running.age + 1 < AGE_FLOORS.len() {
                        self.due.insert((next_age_s(&running), Due::Age(instance)));
                    }
                }
                // Once, however long nobody asked.
                Due::Review(node) => {
                    stale.insert(node);
                }
            }
        }
        stale.into_iter().filter_map(|node| self.review(node, now_s)).collect()
    }

    /// How many instances are followed.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn settle(&mut self, instance: InstanceId, running: Running, now_s: u64) -> Option<Reclassed> {
        if running.age + 1 < AGE_FLOORS.len() {
            self.due.insert((next_age_s(&running), Due::Age(instance)));
        }
        self.running.insert(instance, running);
        self.occupy(instance, running.node?, now_s)
    }

    fn moved(&mut self, instance: InstanceId, node: NodeId, now_s: u64) -> Option<Reclassed> {
        let running = self.running.get_mut(&instance)?;
        let batch = running.batch;
        match running.node.replace(node) {
            Some(before) if before == node => return None,
            // The class of the other one is told by the next look.
            Some(before) if self.nodes.get(&before).is_some_and(|tenancy| tenancy.members.len() > 1) => {
                self.vacate(instance, before, batch, now_s);
            }
            Some(before) => {
                if let Some(tenancy) = self.nodes.get_mut(&before) {
                    tenancy.members.clear();
                }
                self.review_by(before, now_s);
            }
            None => {}
        }
        self.occupy(instance, node, now_s)
    }

    /// One more on the node. What is expected of the others is as of the last look.
    fn occupy(&mut self, instance: InstanceId, node: NodeId, now_s: u64) -> Option<Reclassed> {
        let running = *self.running.get(&instance)?;
        let survival = self.learner.survival(&running.kind, running.age, now_s);
        let tenancy = self.nodes.entry(node).or_default();
        let own = (running.batch, instance);
        let beside = [tenancy.members.range(..own).next_back(), tenancy.members.range(own..).next()];
        let with_its_batch = running.batch != 0 && beside.into_iter().flatten().any(|(batch, _)| *batch == own.0);
        tenancy.members.insert(own);
        if !with_its_batch {
            tenancy.outlook.add(&survival);
        }
        let class = tenancy.outlook.class();
        if tenancy.review_s == 0 {
            self.review_by(node, now_s.saturating_add(REVIEW_SECONDS));
        }
        self.class(node, class)
    }

    fn vacate(&mut self, instance: InstanceId, node: NodeId, batch: u64, now_s: u64) -> Option<Reclassed> {
        let tenancy = self.nodes.get_mut(&node)?;
        tenancy.members.remove(&(batch, instance));
        if tenancy.members.is_empty() {
            return self.review(node, now_s);
        }
        self.review_by(node, now_s.saturating_add(SETTLE_SECONDS));
        None
    }

    /// Looks at the node then at the latest.
    fn review_by(&mut self, node: NodeId, at_s: u64) {
        let Some(tenancy) = self.nodes.get_mut(&node) else { return };
        if tenancy.review_s == 0 || at_s < tenancy.review_s {
            self.due.remove(&(tenancy.review_s, Due::Review(node)));
            tenancy.review_s = at_s;
            self.due.insert((at_s, Due::Review(node)));
        }
    }

    fn class(&mut self, node: NodeId, class: u8) -> Option<Reclassed> {
        let tenancy = self.nodes.get_mut(&node)?;
        let before = std::mem::replace(&mut tenancy.departs, class);
        (before != class).then_some((node, class))
    }

    /// What is expected of the node, as of now.
    fn review(&mut self, node: NodeId, now_s: u64) -> Option<Reclassed> {
        let tenancy = self.nodes.get_mut(&node)?;
        self.due.remove(&(tenancy.review_s, Due::Review(node)));
        if tenancy.members.is_empty() {
            let before = self.nodes.remove(&node)?.departs;
            return (before != 0).then_some((node, 0));
        }
        let mut outlook = Outlook::default();
        let mut batch: Option<(u64, [u32; grid::STEPS])> = None;
        for (number, instance) in &tenancy.members {
            let Some(running) = self.running.get(instance) else { continue };
            let kind = self.learner.kind_now(running.kind, running.batch);
            let survival = self.learner.survival(&kind, running.age, now_s);
            match &mut batch {
                Some((open, longest)) if *open == *number && *number != 0 => {
                    for (most, one) in longest.iter_mut().zip(survival) {
                        *most = one.max(*most);
                    }
                }
                _ => {
                    if let Some((_, longest)) = batch.replace((*number, survival)) {
                        outlook.add(&longest);
                    }
                }
            }
        }
        if let Some((_, longest)) = batch {
            outlook.add(&longest);
        }
        let class = outlook.class();
        tenancy.outlook = outlook;
        tenancy.review_s = 0;
        self.review_by(node, now_s.saturating_add(REVIEW_SECONDS));
        self.class(node, class)
    }
}

fn next_age_s(running: &Running) -> u64 {
    let floor = AGE_FLOORS.get(running.age + 1).copied().unwrap_or(u64::MAX);
    running.began_s.saturating_add(floor)
}
