//! The contract of the store: what the application asks of whatever keeps the facts.
//!
//! The traits speak in the domain's units of work (place-and-create, apply a change, apply a report), not in rows, and
//! every write is one transaction: all of it or nothing. Both implementations pass the suite in `store-contract`.
//!
//! To add an operation: 1. say here what it promises, including what a crash in the middle leaves; 2. add its case to
//! the contract suite; 3. implement it in each store; 4. use it from `control`.
//!
//! Rules that hold for all of them:
//! - a query that serves a tenant takes the [`TenantId`](wherry_model::TenantId) and finds nothing of another one;
//! - a lookup that finds nothing is `None`, not an error;
//! - a guarded write that comes too late is a typed outcome, not an error;
//! - names, resources, meter edges, events and the node's desired revision change in the transaction of the record.

mod audit;
mod error;
mod event;
mod feed;
mod fleet;
mod instance;
mod meter;
mod node;
mod tenant;
mod webhook;

pub use audit::{AuditEnd, AuditKind, AuditOutcome, AuditQuery, AuditRecord, AuditStore};
pub use error::StoreError;
pub use event::{EventQuery, EventStore, StoredEvent, Trimmed};
pub use feed::{ChangeCursor, ChangeFeed, Changes, Counters};
pub use fleet::{
    CallRecord, CallStore, EnrolOutcome, EnrolmentRecord, EnrolmentStore, InstallationStore, JoinTokenRecord,
    LeaseStore, ReplicaRecord, ReplicaStore,
};
pub use instance::{
    Applied, CreateOutcome, Cursor, DeferredFact, IdempotencyRecord, InstanceStore, ListQuery, OnNode, Page, Placed,
    ReportOutcome,
};
pub use meter::{MeterStore, PriceBookOutcome, UsageQuery};
pub use node::{FenceOutcome, LifeOutcome, NodeRegistration, NodeStore, RemoveOutcome};
pub use tenant::{ApiKeyRecord, NameOutcome, ProjectRecord, TenantRecord, TenantStore};
pub use webhook::{
    AttemptRecord, DeliveryRecord, DeliveryState, Disabled, DisabledReason, FormerSecret, Lagging, Settlement, Telling,
    WebhookRecord, WebhookStore,
};

/// Everything that a store does.
pub trait Store:
    TenantStore
    + NodeStore
    + InstanceStore
    + EventStore
    + MeterStore
    + ChangeFeed
    + Counters
    + EnrolmentStore
    + LeaseStore
    + ReplicaStore
    + CallStore
    + InstallationStore
    + AuditStore
    + WebhookStore
{
}

impl<T> Store for T where
    T: TenantStore
        + NodeStore
        + InstanceStore
        + EventStore
        + MeterStore
        + ChangeFeed
        + Counters
        + EnrolmentStore
        + LeaseStore
        + ReplicaStore
        + CallStore
        + InstallationStore
        + AuditStore
        + WebhookStore
{
}
