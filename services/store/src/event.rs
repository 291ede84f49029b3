//! Events, numbered in the order in which they can be read.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use wherry_model::{Event, InstanceId, InstanceName, ProjectId, TenantId};

use crate::error::StoreError;

/// An event with its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Grows; a reader that has seen a number never meets a lower one for the first time later.
    pub seq: u64,
    /// Of which instance.
    pub instance: InstanceId,
    /// That instance's name.
    pub name: InstanceName,
    /// What happened.
    pub event: Event,
}

/// Which events to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventQuery {
    /// Only of this tenant.
    pub tenant: TenantId,
    /// Only of this project.
    pub project: ProjectId,
    /// Only of this instance.
    pub instance: Option<InstanceId>,
    /// Only after this number.
    pub after: u64,
    /// At most this many.
    pub limit: u32,
}

/// A piece of the way through all instances whose events were bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    /// Events that were forgotten.
    pub events: u64,
    /// The instance after which to go on; none from the first.
    pub next: Option<InstanceId>,
    /// Whether all were looked at.
    pub is_end: bool,
}

/// Events. They are written by the changes that cause them, never alone. Those of an instance are forgotten with it, and its oldest
/// when it has too many; the highest number that was is remembered of its project, and of the instance while it is there.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// The next events, in order. One that cannot be read is left out, and said in the log.
    async fn events(&self, query: &EventQuery) -> Result<Vec<StoredEvent>, StoreError>;

    /// The highest number that was forgotten of what the query asks for; 0 if none was. Read after [`Self::events`], a number that is
    /// not above `query.after` proves that the page misses nothing.
    async fn events_forgotten(&self, query: &EventQuery) -> Result<u64, StoreError>;

    /// Forgets the oldest events of instances that have more than `keep`: looks at `instances` of them in order of id after `after`,
    /// and forgets `limit` events at most.
    async fn trim_events(
        &self,
        after: Option<InstanceId>,
        keep: u32,
        instances: u32,
        limit: u32,
    ) -> Result<Trimmed, StoreError>;
}
