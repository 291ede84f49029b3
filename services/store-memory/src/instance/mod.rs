//! Instances: `write` changes them, `read` looks them up.

mod read;
mod write;

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use wherry_model::lifecycle::Change;
use wherry_model::{
    Instance, InstanceId, InstanceName, InstanceState, JournalId, NodeId, ProjectId, TenantId, Timestamp,
};
use wherry_store::{
    Applied, CreateOutcome, IdempotencyRecord, InstanceStore, ListQuery, OnNode, Page, Placed, ReportOutcome,
    StoreError,
};

use crate::MemoryStore;
use crate::database::Verdict;

pub(crate) use read::placed_on;
pub(crate) use write::apply;

#[async_trait]
impl InstanceStore for MemoryStore {
    async fn place_and_create(&self, placed: &Placed) -> Result<CreateOutcome, StoreError> {
        self.write("creating an instance", |state| write::place_and_create(state, placed)).await
    }

    async fn taken(&self, instance: &Instance) -> Result<Option<CreateOutcome>, StoreError> {
        self.read("looking for names", |state| read::taken(state, instance)).await
    }

    async fn idempotency(&self, tenant: TenantId, key: &str) -> Result<Option<IdempotencyRecord>, StoreError> {
        let key = (tenant, key.to_owned());
        self.read("reading an idempotency record", |state| state.idempotency.get(&key).cloned()).await
    }

    async fn apply(&self, change: &Change) -> Result<Applied, StoreError> {
        self.write("changing an instance", |state| {
            Ok(match apply(state, change)? {
                Applied::Yes => Verdict::Keep(Applied::Yes),
                refused => Verdict::Undo(refused),
            })
        })
        .await
    }

    async fn acknowledged(&self, node: NodeId, journal: JournalId) -> Result<u64, StoreError> {
        self.read("reading how far a journal is stored", |state| {
            state.journals.get(&(node, journal)).copied().unwrap_or(0)
        })
        .await
    }

    async fn apply_report(
        &self,
        node: NodeId,
        journal: JournalId,
        after: u64,
        through: u64,
        changes: &[Change],
    ) -> Result<ReportOutcome, StoreError> {
        self.write("storing a report", |state| write::apply_report(state, (node, journal), after, through, changes))
            .await
    }

    async fn instance_by_name(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: &InstanceName,
    ) -> Result<Option<Instance>, StoreError> {
        self.read("reading an instance", |state| read::by_name(state, tenant, project, name).map(Arc::unwrap_or_clone))
            .await
    }

    async fn instance(&self, tenant: TenantId, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        let found = self.instance_of_any_tenant(id).await?;
        Ok(found.filter(|instance| instance.tenant == tenant))
    }

    async fn instance_of_any_tenant(&self, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        self.read("reading an instance", |state| state.instances.get(&id).map(|row| (*row.record).clone())).await
    }

    async fn instances(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.read("listing instances", |state| read::page(state, query)).await
    }

    async fn instances_on(&self, node: NodeId) -> Result<Option<OnNode>, StoreError> {
        self.read("reading a node's instances", |state| {
            let row = state.nodes.get(&node).filter(|row| !row.removed)?;
            let instances = placed_on(state, node).cloned().collect();
            Some(OnNode { revision: row.record.desired_revision, instances, unreadable: Vec::new() })
        })
        .await
    }

    async fn pending(&self, limit: u32) -> Result<Vec<Instance>, StoreError> {
        self.read("reading instances without a place", |state| {
            let records = state.instances.values().map(|row| &row.record);
            let mut waiting: Vec<_> = records.filter(|record| record.state == InstanceState::Pending).collect();
            waiting.sort_by_key(|record| (record.updated_at, record.id));
            waiting.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|r| (**r).clone()).collect()
        })
        .await
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Instance>, StoreError> {
        self.read("reading instances whose time is over", |state| {
            let records = state.instances.values().map(|row| &row.record);
            let mut over: Vec<_> = records.filter(|record| record.expires_at.is_some_and(|at| at <= now)).collect();
            over.sort_by_key(|record| (record.expires_at, record.id));
            over.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|r| (**r).clone()).collect()
        })
        .await
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Instance>, StoreError> {
        self.read("reading instances whose schedule asks for something", |state| {
            let due_at = |record: &Instance| record.timetable.as_ref().and_then(|table| table.due_at);
            let records = state.instances.values().map(|row| &row.record);
            let mut due: Vec<_> = records.filter(|record| due_at(record).is_some_and(|at| at <= now)).collect();
            due.sort_by_key(|record| (due_at(record), record.id));
            due.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|r| (**r).clone()).collect()
        })
        .await
    }

    async fn addressed(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<Instance>, StoreError> {
        self.read("reading instances with an address", |state| {
            let rest = state.instances.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
            let found = rest.map(|(_, row)| &row.record).filter(|record| record.address.is_some());
            found.take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|record| (**record).clone()).collect()
        })
        .await
    }

    async fn every_instance(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<Instance>, StoreError> {
        self.read("reading instances by their ids", |state| {
            let rest = state.instances.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
            rest.take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|(_, row)| (*row.record).clone()).collect()
        })
        .await
    }

    async fn purge(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.write("forgetting deleted instances", |state| Ok(write::purge(state, before, limit))).await
    }
}
