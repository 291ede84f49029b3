//! Instances: the units of work around them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use wherry_model::lifecycle::Change;
use wherry_model::{
    Instance, InstanceId, InstanceName, InstanceState, JournalId, NodeId, Observation, ProjectId, TenantId, Timestamp,
};

use crate::error::StoreError;

/// A create that a tenant can repeat safely: the same key with the same fingerprint gets the same instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// Chosen by the client, unique in the tenant.
    pub key: String,
    /// SHA-256 of what was asked.
    pub fingerprint: [u8; 32],
    /// The instance that it made.
    pub instance: InstanceId,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A create with its place.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The first change of the instance; `takes` names the node, if it has one from the beginning.
    pub change: Change,
    /// The client's key and the fingerprint, when it gave one.
    pub idempotency: Option<(String, [u8; 32])>,
}

/// What became of a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateOutcome {
    /// Instance, resources, name, idempotency record and event are stored.
    Created(Box<Instance>),
    /// The key was used before for the same request: this is what it made, as it is now (possibly deleted).
    Replayed(Box<Instance>),
    /// The key was used before for another request.
    KeyReused,
    /// The name is in use in this project.
    NameTaken,
    /// Another instance of its scope has its DNS name.
    DnsNameTaken,
    /// The node's row refused: not ready any more, or not enough left.
    NodeRefused,
}

/// What became of a guarded change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// All of it is stored.
    Yes,
    /// The record is not at the revision that the change was computed from; compute it again.
    LostRace,
    /// The node's row refused to give what the change takes.
    NodeRefused,
}

/// A fact that was acknowledged to its agent and has not been applied yet, because the record that it is about cannot be read, or
/// because an earlier one of the same instance waits for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeferredFact {
    /// Grows in the order in which the facts of an instance came; never given twice.
    pub number: u64,
    /// Whose journal it is of.
    pub node: NodeId,
    /// What was seen, as its agent said it.
    pub observation: Observation,
}

impl DeferredFact {
    /// Of one instance no more than this are kept.
    pub const MAX_PER_INSTANCE: u32 = 1_000;
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportOutcome {
    /// All changes are stored, and the journal is acknowledged through this number.
    Applied(u64),
    /// Somebody acknowledged up to this number first; nothing was stored, look again.
    Superseded(u64),
    /// A record is not at the revision that its change was computed from; nothing was stored.
    LostRace,
    /// Earlier facts of these instances are deferred, so that later ones must be too; nothing was stored.
    Behind(Vec<InstanceId>),
    /// [`DeferredFact::MAX_PER_INSTANCE`] would be exceeded for this instance; nothing was stored.
    Full(InstanceId),
}

/// Where the next page begins: after this instance, in order of (created_at, id), newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Creation time of the last instance of the page before.
    pub created_at: Timestamp,
    /// Its id.
    pub id: InstanceId,
}

/// Which instances to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only of this tenant.
    pub tenant: TenantId,
    /// Only of this project.
    pub project: ProjectId,
    /// Only in one of these states; any live state when empty. Deleted ones come only when asked for here.
    pub states: Vec<InstanceState>,
    /// Only with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Only after this one.
    pub after: Option<Cursor>,
    /// At most this many.
    pub limit: u32,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub instances: Vec<Instance>,
    /// Where the next page begins, when there is one.
    pub next: Option<Cursor>,
}

/// What is on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnNode {
    /// The node's desired revision.
    pub revision: u64,
    /// By id.
    pub instances: Vec<Instance>,
    /// Those of which nothing is known but that they are there, because their records cannot be read.
    pub unreadable: Vec<InstanceId>,
}

/// Instances.
///
/// A record that cannot be read (damaged, or written by a newer release) costs itself alone: what asks for it by name or id
/// fails with [`StoreError::Corrupt`], what asks for many leaves it out, with its id in the log.
#[async_trait]
pub trait InstanceStore: Send + Sync {
    /// Stores a new instance in one transaction: record, name, resources taken from the node's row if it is ready and
    /// they fit, idempotency record, event, desired revision of the node. The key is looked at before anything else.
    async fn place_and_create(&self, placed: &Placed) -> Result<CreateOutcome, StoreError>;

    /// Which of the names that `instance` asks for is another's, so that no room would help its create: `NameTaken` or
    /// `DnsNameTaken`. None when both are free.
    async fn taken(&self, instance: &Instance) -> Result<Option<CreateOutcome>, StoreError>;

    /// What the tenant's idempotency key made.
    async fn idempotency(&self, tenant: TenantId, key: &str) -> Result<Option<IdempotencyRecord>, StoreError>;

    /// Stores a change of an instance in one transaction: record (guarded by `change.from`), resources, meter edges,
    /// events, desired revision of the nodes concerned.
    async fn apply(&self, change: &Change) -> Result<Applied, StoreError>;

    /// The number through which the node's journal is acknowledged; 0 for a journal never heard of.
    async fn acknowledged(&self, node: NodeId, journal: JournalId) -> Result<u64, StoreError>;

    /// Stores what a batch of observations changes, those that are `deferred`, and that the journal is acknowledged `through`,
    /// if it was acknowledged exactly through `after` before. Later changes may build on earlier ones of the batch. Of the
    /// deferred ones only those are stored whose instance is placed on the node and not deleted, however unreadable its record:
    /// a node speaks only of what is assigned to it.
    async fn apply_report(
        &self,
        node: NodeId,
        journal: JournalId,
        after: u64,
        through: u64,
        changes: &[Change],
        deferred: &[Observation],
    ) -> Result<ReportOutcome, StoreError>;

    /// Instances of which facts are deferred, in order of id, after `after`, at most `limit`.
    async fn deferred_instances(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<InstanceId>, StoreError>;

    /// The deferred facts of an instance in the order in which they came, at most `limit`.
    async fn deferred_facts(&self, instance: InstanceId, limit: u32) -> Result<Vec<DeferredFact>, StoreError>;

    /// Stores what the deferred facts with these numbers change, and forgets them, in one transaction. [`Applied::LostRace`] when
    /// one of them is not there any more, or the record is not what the first change was computed from: nothing was stored.
    async fn apply_deferred(
        &self,
        instance: InstanceId,
        numbers: &[u64],
        changes: &[Change],
    ) -> Result<Applied, StoreError>;

    /// The tenant's live instance of that name.
    async fn instance_by_name(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: &InstanceName,
    ) -> Result<Option<Instance>, StoreError>;

    /// The tenant's instance of that id, deleted ones included.
    async fn instance(&self, tenant: TenantId, id: InstanceId) -> Result<Option<Instance>, StoreError>;

    /// The instance of that id, of whichever tenant: for what agents report.
    async fn instance_of_any_tenant(&self, id: InstanceId) -> Result<Option<Instance>, StoreError>;

    /// A page of the tenant's instances.
    async fn instances(&self, query: &ListQuery) -> Result<Page, StoreError>;

    /// Every instance whose place is this node and that is not deleted, with the node's desired revision, read together.
    /// None when there is no such node.
    async fn instances_on(&self, node: NodeId) -> Result<Option<OnNode>, StoreError>;

    /// Instances that wait for a place, longest waiting first (by their last write), at most `limit`.
    async fn pending(&self, limit: u32) -> Result<Vec<Instance>, StoreError>;

    /// Instances whose time is over at `now` ([`Instance::expires_at`]), the earliest first, at most `limit`.
    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Instance>, StoreError>;

    /// Instances whose schedule asks for something at `now` (`due_at` of [`Instance::timetable`]), the earliest first, at most
    /// `limit`.
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Instance>, StoreError>;

    /// Every instance that has an address: what the zone is made of. In order of id, after `after`, at most `limit`.
    async fn addressed(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<Instance>, StoreError>;

    /// Every instance of whichever tenant, deleted ones included, in order of id, after `after`, at most `limit`.
    async fn every_instance(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<Instance>, StoreError>;

    /// Forgets instances deleted before `before` (their intervals stay) and idempotency records made before it, at most
    /// `limit` of each. Says how many rows went.
    async fn purge(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError>;
}
