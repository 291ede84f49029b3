//! Instances: `change` writes them, `create`, `report` and `deferred` are the units of work around that, `list` and `read`
//! look them up, `purge` forgets them.

mod change;
mod create;
mod deferred;
mod list;
mod purge;
mod read;
mod report;

use async_trait::async_trait;
use wherry_model::lifecycle::Change;
use wherry_model::{
    Instance, InstanceId, InstanceName, JournalId, NodeId, Observation, ProjectId, TenantId, Timestamp,
};
use wherry_store::{
    Applied, CreateOutcome, DeferredFact, IdempotencyRecord, InstanceStore, ListQuery, OnNode, Page, Placed,
    ReportOutcome, StoreError,
};

use crate::SqliteStore;
use crate::writer::{News, Verdict};

pub(crate) use change::apply;
pub(crate) use read::record;

#[async_trait]
impl InstanceStore for SqliteStore {
    async fn place_and_create(&self, placed: &Placed) -> Result<CreateOutcome, StoreError> {
        let asked = ("creating an instance", News::Yes);
        self.creates.run(&self.writer, asked, placed.clone(), |c, work| Box::pin(create::all(c, work))).await
    }

    async fn taken(&self, instance: &Instance) -> Result<Option<CreateOutcome>, StoreError> {
        let mut connection = self.reader().await?;
        create::taken(&mut connection, instance).await
    }

    async fn idempotency(&self, tenant: TenantId, key: &str) -> Result<Option<IdempotencyRecord>, StoreError> {
        let mut connection = self.reader().await?;
        read::idempotency(&mut connection, tenant, key).await
    }

    async fn apply(&self, change: &Change) -> Result<Applied, StoreError> {
        let change = change.clone();
        self.writer
            .run("changing an instance", move |connection| {
                Box::pin(async move {
                    Ok(match change::apply(connection, &change).await? {
                        Applied::Yes => Verdict::Keep(Applied::Yes),
                        refused => Verdict::Undo(refused),
                    })
                })
            })
            .await
    }

    async fn acknowledged(&self, node: NodeId, journal: JournalId) -> Result<u64, StoreError> {
        let mut connection = self.reader().await?;
        report::acknowledged(&mut connection, node, journal).await
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
        let (changes, deferred) = (changes.to_vec(), deferred.to_vec());
        let batch = report::Batch { node, journal, after, through, changes, deferred };
        self.writer.run("storing a report", move |connection| Box::pin(report::apply(connection, batch))).await
    }

    async fn deferred_instances(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<InstanceId>, StoreError> {
        let mut connection = self.reader().await?;
        deferred::instances(&mut connection, after, limit).await
    }

    async fn deferred_facts(&self, instance: InstanceId, limit: u32) -> Result<Vec<DeferredFact>, StoreError> {
        let mut connection = self.reader().await?;
        deferred::facts(&mut connection, instance, limit).await
    }

    async fn apply_deferred(
        &self,
        instance: InstanceId,
        numbers: &[u64],
        changes: &[Change],
    ) -> Result<Applied, StoreError> {
        let work = deferred::Settling { instance, numbers: numbers.to_vec(), changes: changes.to_vec() };
        self.writer.run("applying deferred facts", move |connection| Box::pin(deferred::settle(connection, work))).await
    }

    async fn instance_by_name(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: &InstanceName,
    ) -> Result<Option<Instance>, StoreError> {
        let mut connection = self.reader().await?;
        read::by_name(&mut connection, tenant, project, name).await
    }

    async fn instance(&self, tenant: TenantId, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        let mut connection = self.reader().await?;
        read::of_tenant(&mut connection, tenant, id).await
    }

    async fn instance_of_any_tenant(&self, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        let mut connection = self.reader().await?;
        read::of_any_tenant(&mut connection, id).await
    }

    async fn instances(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let mut connection = self.reader().await?;
        list::page(&mut connection, query).await
    }

    async fn instances_on(&self, node: NodeId) -> Result<Option<OnNode>, StoreError> {
        read::on_node(&self.readers, node).await
    }

    async fn pending(&self, limit: u32) -> Result<Vec<Instance>, StoreError> {
        let mut connection = self.reader().await?;
        read::pending(&mut connection, limit).await
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Instance>, StoreError> {
        let mut connection = self.reader().await?;
        read::expired(&mut connection, now, limit).await
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Instance>, StoreError> {
        let mut connection = self.reader().await?;
        read::due(&mut connection, now, limit).await
    }

    async fn addressed(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<Instance>, StoreError> {
        let mut connection = self.reader().await?;
        read::by_id(&mut connection, true, after, limit).await
    }

    async fn every_instance(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<Instance>, StoreError> {
        let mut connection = self.reader().await?;
        read::by_id(&mut connection, false, after, limit).await
    }

    async fn purge(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.writer
            .run("forgetting deleted instances", move |connection| Box::pin(purge::purge(connection, before, limit)))
            .await
    }
}
