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

/// Events. They are written by the changes that cause them, never alone.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// The next events, in order.
    async fn events(&self, query: &EventQuery) -> Result<Vec<StoredEvent>, StoreError>;
}
