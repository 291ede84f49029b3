//! Instances: `write` changes them, `read` looks them up.

mod read;
mod write;

use std::ops::Bound;

use async_trait::async_trait;
use wherry_model::lifecycle::Change;
use wherry_model::{
    Instance, InstanceId, InstanceName, InstanceState, JournalId, NodeId, Observation, ProjectId, TenantId, Timestamp,
};
use wherry_store::{
    Applied, CreateOutcome, DeferredFact, IdempotencyRecord, InstanceStore, ListQuery, OnNode, Page, Placed,
    ReportOutcome, StoreError,
};

use crate::MemoryStore;
use crate::database::Verdict;
use crate::state::InstanceRow;

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
        deferred: &[Observation],
    ) -> Result<ReportOutcome, StoreError> {
        self.write("storing a report", |state| {
            write::apply_report(state, (node, journal), (after, through), changes, deferred)
        })
        .await
    }

    async fn deferred_instances(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<InstanceId>, StoreError> {
        self.read("listing instances with deferred facts", |state| {
            let mut found: Vec<InstanceId> = state.deferred.values().map(|row| row.observation.instance).collect();
            found.retain(|id| after.is_none_or(|after| *id > after));
            found.sort_unstable();
            found.dedup();
            found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            found
        })
        .await
    }

    async fn deferred_facts(&self, instance: InstanceId, limit: u32) -> Result<Vec<DeferredFact>, StoreError> {
        self.read("reading deferred facts", |state| {
            let own = state.deferred.iter().filter(|(_, row)| row.observation.instance == instance);
            let facts = own.map(|(number, row)| DeferredFact {
                number: *number,
                node: row.node,
                observation: row.observation.clone(),
            });
            facts.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
        })
        .await
    }

    async fn apply_deferred(
        &self,
        instance: InstanceId,
        numbers: &[u64],
        changes: &[Change],
    ) -> Result<Applied, StoreError> {
        self.write("applying deferred facts", |state| write::apply_deferred(state, instance, numbers, changes)).await
    }

    async fn instance_by_name(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: &InstanceName,
    ) -> Result<Option<Instance>, StoreError> {
        self.read("reading an instance", |state| read::by_name(state, tenant, project, name).map(record).transpose())
            .await?
    }

    async fn instance(&self, tenant: TenantId, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        let found = self.instance_of_any_tenant(id).await?;
        Ok(found.filter(|instance| instance.tenant == tenant))
    }

    async fn instance_of_any_tenant(&self, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        self.read("reading an instance", |state| state.instances.get(&id).map(record).transpose()).await?
    }

    async fn instances(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.read("listing instances", |state| read::page(state, query)).await
    }

    async fn instances_on(&self, node: NodeId) -> Result<Option<OnNode>, StoreError> {
        self.read("reading a node's instances", |state| {
            let row = state.nodes.get(&node).filter(|row| !row.removed)?;
            let rows = read::rows_on(state, node);
            let instances = rows.filter_map(InstanceRow::readable).map(|record| (**record).clone()).collect();
            let unreadable = read::rows_on(state, node).filter(|row| row.broken).map(|row| row.record.id).collect();
            Some(OnNode { revision: row.record.desired_revision, instances, unreadable })
        })
        .await
    }

    async fn pending(&self, limit: u32) -> Result<Vec<Instance>, StoreError> {
        self.read("reading instances without a place", |state| {
            let records = state.instances.values().filter_map(InstanceRow::readable);
            let mut waiting: Vec<_> = records.filter(|record| record.state == InstanceState::Pending).collect();
            waiting.sort_by_key(|record| (record.updated_at, record.id));
            waiting.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|r| (**r).clone()).collect()
        })
        .await
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Instance>, StoreError> {
        self.read("reading instances whose time is over", |state| {
            let records = state.instances.values().filter_map(InstanceRow::readable);
            let mut over: Vec<_> = records.filter(|record| record.expires_at.is_some_and(|at| at <= now)).collect();
            over.sort_by_key(|record| (record.expires_at, record.id));
            over.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|r| (**r).clone()).collect()
        })
        .await
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Instance>, StoreError> {
        self.read("reading instances whose schedule asks for something", |state| {
            let due_at = |record: &Instance| record.timetable.as_ref().and_then(|table| table.due_at);
            let records = state.instances.values().filter_map(InstanceRow::readable);
            let mut due: Vec<_> = records.filter(|record| due_at(record).is_some_and(|at| at <= now)).collect();
            due.sort_by_key(|record| (due_at(record), record.id));
            due.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|r| (**r).clone()).collect()
        })
        .await
    }

    async fn addressed(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<Instance>, StoreError> {
        self.read("reading instances with an address", |state| {
            let rest = state.instances.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
            let found = rest.filter_map(|(_, row)| row.readable()).filter(|record| record.address.is_some());
            found.take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|record| (**record).clone()).collect()
        })
        .await
    }

    async fn every_instance(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<Instance>, StoreError> {
        self.read("reading instances by their ids", |state| {
            let rest = state.instances.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
            let found = rest.filter_map(|(_, row)| row.readable());
            found.take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|record| (**record).clone()).collect()
        })
        .await
    }

    async fn purge(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.write("forgetting deleted instances", |state| Ok(write::purge(state, before, limit))).await
    }
}

fn record(row: &InstanceRow) -> Result<Instance, StoreError> {
    row.read().map(|record| (**record).clone())
}
