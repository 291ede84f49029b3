//! The life of an instance as pure functions: [`create`], [`intend`] (what a user asked), [`observe`] (what an agent
//! saw), [`silence`] and [`recover`] (its node went quiet and came back), [`leave`], [`lose`], [`forsake`] and [`place`] (it
//! changes its node), [`restart`] and [`update`] (what runs is followed by another run), [`expire`] (its time is over), [`reseal`] (its secrets get
//! another key), [`due`] and [`run`] (its time has
//! come).
//!
//! Each returns a [`Change`]: the record afterwards and everything that must be written with it in the same transaction
//! (resources given back, meter edges, events). Whoever applies it guards the write with [`Change::from`], so of two
//! racing changes one is computed again.
//!
//! Invariants, property-tested in `tests`:
//! - a deleted instance never changes again, and its generation never falls;
//! - resources are given back exactly once for each time they were taken;
//! - meter edges alternate open, close, open …, and no interval begins before the end of the one before it;
//! - facts of an older generation change nothing.

mod draft;
mod expire;
mod intend;
mod metered;
#[cfg(test)]
mod metered_tests;
mod observe;
mod relocate;
mod reseal;
mod restart;
mod silence;
#[cfg(test)]
mod tests;
mod timetable;
#[cfg(test)]
mod timetable_tests;
mod update;
#[cfg(test)]
mod update_tests;

use crate::id::{InstanceId, NodeId, ProjectId, TenantId};
use crate::instance::{
    ContainerStatus, Event, EventKind, Generation, Instance, InstanceState, Intent, Meter, Revision,
};
use crate::name::{InstanceName, ProjectName};
use crate::spec::InstanceSpec;
use crate::terms::DeviceSet;
use crate::time::Timestamp;

pub use expire::expire;
pub use intend::{Ask, Refusal, intend};
pub use observe::{Ignored, observe};
pub use relocate::{explain, forsake, leave, lose, notice, place};
pub use reseal::reseal;
pub use restart::{forget_images, restart};
pub use silence::{recover, silence};
pub use timetable::{Due, SCHEDULE_ACTOR, due, last_run, postpone, run};
pub use update::{ContainerRestart, NotInPlace, UpdatePlan, plan_update, update, update_proved};

/// Which meter of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MeterKind {
    /// Containers ran.
    Run,
    /// An image was pulled.
    Pull,
}

impl MeterKind {
    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Pull => "pull",
        }
    }
}

/// One edge of a meter. The store turns it into a row in the transaction of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterEdge {
    /// An interval begins.
    Open {
        /// Of which meter.
        kind: MeterKind,
        /// When.
        at: Timestamp,
        /// Whether the interval continues one that was closed while the node was silent.
        late: bool,
    },
    /// The open interval ends.
    Close {
        /// Of which meter.
        kind: MeterKind,
        /// When; never before the start.
        at: Timestamp,
    },
}

/// A computed step of an instance's life, to be written whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision it was computed from; the write must find the record there.
    pub from: Revision,
    /// The record afterwards.
    pub after: Instance,
    /// The node whose row gets the instance's demand back: that of the record before.
    pub releases: Option<NodeId>,
    /// The node whose row the instance's demand is taken from, under the condition that it fits: that of the record
    /// afterwards. It may be the same node when another amount is held of it.
    pub takes: Option<NodeId>,
    /// Meter edges in order.
    pub meter: Vec<MeterEdge>,
    /// Events in order.
    pub events: Vec<Event>,
}

/// What a new instance is made of.
#[derive(Debug, Clone)]
pub struct Birth {
    /// Its id.
    pub id: InstanceId,
    /// Who pays.
    pub tenant: TenantId,
    /// Its folder.
    pub project: ProjectId,
    /// That folder's name.
    pub project_name: ProjectName,
    /// Its name.
    pub name: InstanceName,
    /// What was asked, checked.
    pub spec: InstanceSpec,
    /// Where it is placed. None for one with a schedule, which waits for its time.
    pub node: Option<NodeId>,
    /// Who asked.
    pub actor: String,
}

/// The first change of an instance: placed on a node, not yet begun; or waiting for the first time of its schedule, nowhere.
pub fn create(birth: Birth, now: Timestamp) -> Change {
    let containers = birth.spec.containers.iter().map(|c| ContainerStatus::new(c.name.clone())).collect();
    let mut after = Instance {
        id: birth.id,
        tenant: birth.tenant,
        project: birth.project,
        project_name: birth.project_name,
        name: birth.name,
        spec: birth.spec,
        generation: Generation::FIRST,
        updates: 0,
        revision: Revision(1),
        intent: if birth.node.is_some() { Intent::Run } else { Intent::Stop },
        node: birth.node,
        holds_resources: birth.node.is_some(),
        gpus: DeviceSet::default(),
        leaving: None,
        evict_at: None,
        state: if birth.node.is_some() { InstanceState::Scheduled } else { InstanceState::Stopped },
        reason: None,
        message: None,
        asked_by: Some(birth.actor.clone()),
        address: None,
        containers,
        first_run: 1,
        unknown_since: None,
        run_meter: Meter::default(),
        pull_meter: Meter::default(),
        created_at: now,
        updated_at: now,
        started_at: None,
        finished_at: None,
        expires_at: None,
        timetable: None,
        deleted_at: None,
    };
    timetable::renew(&mut after, None, now);
    let created = Event {
        kind: EventKind::Created,
        at: now,
        state: after.state,
        generation: after.generation,
        message: "created".to_owned(),
        actor: Some(birth.actor),
    };
    Change { from: Revision(0), takes: after.node, releases: None, meter: Vec::new(), events: vec![created], after }
}
