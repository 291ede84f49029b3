//! Instances: `change` writes them, `create`, `report` and `deferred` are the units of work around that, `list` and `read`
//! look them up, `purge` forgets them.

mod change;
mod create;
mod deferred;
mod labels;
mod lane;
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

use crate::PostgresStore;
use crate::readable::Filling;

pub(crate) use change::{apply_all, stand};
pub(crate) use lane::Lanes;
pub(crate) use read::record;

#[async_trait]
impl InstanceStore for PostgresStore {
    async fn place_and_create(&self, placed: &Placed) -> Result<CreateOutcome, StoreError> {
        self.lanes.create(placed).await
    }

    async fn taken(&self, instance: &Instance) -> Result<Option<CreateOutcome>, StoreError> {
        if self.connections.fetch_one("looking for a name", read::by_name(instance)).await?.is_some() {
            return Ok(Some(CreateOutcome::NameTaken));
        }
        let found = self.connections.fetch_one("looking for a DNS name", read::by_dns_name(instance)).await?;
        Ok(found.map(|_| CreateOutcome::DnsNameTaken))
    }

    async fn idempotency(&self, tenant: TenantId, key: &str) -> Result<Option<IdempotencyRecord>, StoreError> {
        let row = self.connections.fetch_one("reading an idempotency record", read::idempotency(tenant, key)).await?;
        row.as_ref().map(read::idempotency_record).transpose()
    }

    async fn apply(&self, change: &Change) -> Result<Applied, StoreError> {
        self.connections.write("changing an instance", &change::Apply { change }).await
    }

    async fn acknowledged(&self, node: NodeId, journal: JournalId) -> Result<u64, StoreError> {
        let row =
            self.connections.fetch_one("reading how far a journal is stored", report::known(node, journal)).await?;
        row.as_ref().map_or(Ok(0), report::through)
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
        let report = report::Report { node, journal, after, through, changes, deferred };
        self.connections.write("storing a report", &report).await
    }

    async fn deferred_instances(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<InstanceId>, StoreError> {
        const CONTEXT: &str = "listing instances with deferred facts";
        let rows = self.connections.fetch_all(CONTEXT, deferred::instances(after, limit)).await?;
        rows.iter().map(deferred::instance).collect()
    }

    async fn deferred_facts(&self, instance: InstanceId, limit: u32) -> Result<Vec<DeferredFact>, StoreError> {
        let rows = self.connections.fetch_all("reading deferred facts", deferred::facts(instance, limit)).await?;
        rows.iter().map(deferred::fact).collect()
    }

    async fn apply_deferred(
        &self,
        instance: InstanceId,
        numbers: &[u64],
        changes: &[Change],
    ) -> Result<Applied, StoreError> {
        let work = deferred::Settling { instance, numbers, changes };
        self.connections.write("applying deferred facts", &work).await
    }

    async fn instance_by_name(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: &InstanceName,
    ) -> Result<Option<Instance>, StoreError> {
        let query = sqlx::query(
            "SELECT id, record::text AS record FROM instances
             WHERE tenant = $1 AND project = $2 AND name = $3 AND deleted_at IS NULL",
        );
        let query = query.bind(tenant.as_uuid()).bind(project.as_uuid()).bind(name.as_str());
        self.connections.fetch_one("reading an instance", query).await?.as_ref().map(record).transpose()
    }

    async fn instance(&self, tenant: TenantId, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        let row = self.connections.fetch_one("reading an instance", read::of_tenant(tenant, id)).await?;
        row.as_ref().map(record).transpose()
    }

    async fn instance_of_any_tenant(&self, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        let query = sqlx::query("SELECT id, record::text AS record FROM instances WHERE id = $1").bind(id.as_uuid());
        self.connections.fetch_one("reading an instance", query).await?.as_ref().map(record).transpose()
    }

    async fn instances(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let rows = self.connections.fetch_all("listing instances", list::statement(query).build()).await?;
        list::page(query, &rows)
    }

    async fn instances_on(&self, node: NodeId) -> Result<Option<OnNode>, StoreError> {
        read::on_node(&self.connections.fetch_all("reading a node's instances", read::of_node(node)).await?)
    }

    async fn pending(&self, limit: u32) -> Result<Vec<Instance>, StoreError> {
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            // The transaction of the last write tells who has waited longest.
            let query = sqlx::query(
                "SELECT id, record::text AS record FROM instances WHERE state = 'pending' ORDER BY changed, id
                 LIMIT $1 OFFSET $2",
            );
            let query = query.bind(limit).bind(passed);
            page.take(&self.connections.fetch_all("reading waiting instances", query).await?, record);
        }
        Ok(page.found())
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Instance>, StoreError> {
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let query = sqlx::query(
                "SELECT id, record::text AS record FROM instances
                 WHERE (record ->> 'expires_at')::bigint <= $1 ORDER BY (record ->> 'expires_at')::bigint, id
                 LIMIT $2 OFFSET $3",
            );
            let query = query.bind(now.as_micros()).bind(limit).bind(passed);
            page.take(&self.connections.fetch_all("reading instances whose time is over", query).await?, record);
        }
        Ok(page.found())
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Instance>, StoreError> {
        const CONTEXT: &str = "reading instances whose schedule asks for something";
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let query = sqlx::query(
                "SELECT id, record::text AS record FROM instances
                 WHERE (record -> 'timetable' ->> 'due_at')::bigint <= $1
                 ORDER BY (record -> 'timetable' ->> 'due_at')::bigint, id LIMIT $2 OFFSET $3",
            );
            let query = query.bind(now.as_micros()).bind(limit).bind(passed);
            page.take(&self.connections.fetch_all(CONTEXT, query).await?, record);
        }
        Ok(page.found())
    }

    async fn addressed(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<Instance>, StoreError> {
        const CONTEXT: &str = "reading instances with an address";
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let query = sqlx::query(
                "SELECT id, record::text AS record FROM instances
                 WHERE address IS NOT NULL AND ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2 OFFSET $3",
            );
            let query = query.bind(after.map(|id| id.as_uuid())).bind(limit).bind(passed);
            page.take(&self.connections.fetch_all(CONTEXT, query).await?, record);
        }
        Ok(page.found())
    }

    async fn every_instance(&self, after: Option<InstanceId>, limit: u32) -> Result<Vec<Instance>, StoreError> {
        const CONTEXT: &str = "reading instances by their ids";
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let query = sqlx::query(
                "SELECT id, record::text AS record FROM instances
                 WHERE ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2 OFFSET $3",
            );
            let query = query.bind(after.map(|id| id.as_uuid())).bind(limit).bind(passed);
            page.take(&self.connections.fetch_all(CONTEXT, query).await?, record);
        }
        Ok(page.found())
    }

    async fn purge(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.connections.write("forgetting deleted instances", &purge::Purge { before, limit }).await
    }
}
