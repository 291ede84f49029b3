//! Webhooks and their deliveries.

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;
use wherry_model::{DeliveryId, ProjectId, TenantId, Timestamp, WebhookId, WebhookName};
use wherry_store::{DeliveryRecord, Lagging, NameOutcome, Settlement, StoreError, WebhookRecord, WebhookStore};

use crate::PostgresStore;
use crate::columns::{Fields, integer, json};
use crate::error::Context;
use crate::readable::{Filling, readable};
use crate::transaction::{Unit, Verdict};

/// The number of the last event of a project. Numbers appear in their order, so all below it can be seen too.
const LAST_EVENT: &str = "coalesce((SELECT max(seq) FROM events WHERE tenant = $2 AND project = $3), 0)";

#[async_trait]
impl WebhookStore for PostgresStore {
    async fn create_webhook(&self, webhook: &WebhookRecord) -> Result<NameOutcome, StoreError> {
        self.connections.write("creating a webhook", &Create { webhook }).await
    }

    async fn webhook(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: &WebhookName,
    ) -> Result<Option<WebhookRecord>, StoreError> {
        let query = sqlx::query("SELECT id, record FROM webhooks WHERE tenant = $1 AND project = $2 AND name = $3")
            .bind(tenant.as_uuid())
            .bind(project.as_uuid())
            .bind(name.as_str());
        self.connections.fetch_one("reading a webhook", query).await?.as_ref().map(webhook).transpose()
    }

    async fn webhooks(
        &self,
        tenant: TenantId,
        project: ProjectId,
        limit: u32,
    ) -> Result<Vec<WebhookRecord>, StoreError> {
        let query =
            sqlx::query("SELECT id, record FROM webhooks WHERE tenant = $1 AND project = $2 ORDER BY name LIMIT $3")
                .bind(tenant.as_uuid())
                .bind(project.as_uuid())
                .bind(i64::from(limit));
        Ok(readable(&self.connections.fetch_all("listing webhooks", query).await?, webhook))
    }

    async fn every_webhook(&self, after: Option<WebhookId>, limit: u32) -> Result<Vec<WebhookRecord>, StoreError> {
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let query = sqlx::query(
                "SELECT id, record FROM webhooks WHERE ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2 OFFSET $3",
            )
            .bind(after.map(|id| id.as_uuid()))
            .bind(limit)
            .bind(passed);
            page.take(&self.connections.fetch_all("reading webhooks by their ids", query).await?, webhook);
        }
        Ok(page.found())
    }

    async fn change_webhook(&self, webhook: &WebhookRecord, anew: bool) -> Result<bool, StoreError> {
        self.connections.write("changing a webhook", &Change { webhook, anew }).await
    }

    async fn delete_webhook(&self, tenant: TenantId, id: WebhookId) -> Result<bool, StoreError> {
        self.connections.write("deleting a webhook", &Delete { tenant, id }).await
    }

    async fn lagging_webhooks(
        &self,
        after: Option<WebhookId>,
        most: u32,
        limit: u32,
    ) -> Result<Vec<Lagging>, StoreError> {
        let lagging = |row: &PgRow| {
            let fields = Fields { table: "webhooks", row };
            let (followed, open) = (fields.count("followed")?, fields.count("open")?);
            Ok(Lagging { webhook: fields.json("record")?, followed, open })
        };
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let query = sqlx::query(
                "SELECT id, record, followed, (SELECT count(*) FROM (
                 SELECT 1 FROM deliveries AS d WHERE d.webhook = w.id AND d.next_at IS NOT NULL LIMIT $2
             ) AS counted) AS open
             FROM webhooks AS w
             WHERE ($1 IS NULL OR id > $1) AND enabled AND EXISTS (
                 SELECT 1 FROM events AS e WHERE e.tenant = w.tenant AND e.project = w.project AND e.seq > w.followed
             )
             ORDER BY id LIMIT $3 OFFSET $4",
            )
            .bind(after.map(|id| id.as_uuid()))
            .bind(i64::from(most))
            .bind(limit)
            .bind(passed);
            page.take(&self.connections.fetch_all("looking for webhooks that lag", query).await?, lagging);
        }
        Ok(page.found())
    }

    async fn follow_events(
        &self,
        webhook: WebhookId,
        from: u64,
        to: u64,
        deliveries: &[DeliveryRecord],
    ) -> Result<bool, StoreError> {
        self.connections.write("following events for a webhook", &Follow { webhook, from, to, deliveries }).await
    }

    async fn due_webhooks(
        &self,
        now: Timestamp,
        after: Option<WebhookId>,
        limit: u32,
    ) -> Result<Vec<WebhookRecord>, StoreError> {
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let query = sqlx::query(
                "SELECT id, record FROM webhooks AS w
             WHERE ($1 IS NULL OR id > $1) AND enabled
               AND EXISTS (SELECT 1 FROM deliveries AS d WHERE d.webhook = w.id AND d.next_at <= $2)
             ORDER BY id LIMIT $3 OFFSET $4",
            )
            .bind(after.map(|id| id.as_uuid()))
            .bind(now.as_micros())
            .bind(limit)
            .bind(passed);
            page.take(&self.connections.fetch_all("looking for webhooks with work", query).await?, webhook);
        }
        Ok(page.found())
    }

    async fn due_deliveries(
        &self,
        webhook: WebhookId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let query = sqlx::query(
                "SELECT id, record FROM deliveries AS d
             WHERE webhook = $1 AND next_at <= $2 AND NOT EXISTS (
                 SELECT 1 FROM deliveries AS e
                 WHERE e.webhook = d.webhook AND e.lane = d.lane AND e.number < d.number AND e.next_at IS NOT NULL
             )
             ORDER BY next_at, number, id LIMIT $3 OFFSET $4",
            )
            .bind(webhook.as_uuid())
            .bind(now.as_micros())
            .bind(limit)
            .bind(passed);
            page.take(&self.connections.fetch_all("looking for deliveries that are due", query).await?, delivery);
        }
        Ok(page.found())
    }

    async fn add_delivery(&self, delivery: &DeliveryRecord, most: u32) -> Result<bool, StoreError> {
        self.connections.write("storing a delivery", &Add { delivery, most }).await
    }

    async fn settle_delivery(&self, settlement: &Settlement) -> Result<bool, StoreError> {
        self.connections.write("settling a delivery", &Settle { settlement }).await
    }

    async fn delivery(&self, webhook: WebhookId, id: DeliveryId) -> Result<Option<DeliveryRecord>, StoreError> {
        let query = sqlx::query("SELECT id, record FROM deliveries WHERE id = $1 AND webhook = $2")
            .bind(id.as_uuid())
            .bind(webhook.as_uuid());
        self.connections.fetch_one("reading a delivery", query).await?.as_ref().map(delivery).transpose()
    }

    async fn deliveries(
        &self,
        webhook: WebhookId,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        let query =
            sqlx::query("SELECT id, record FROM deliveries WHERE webhook = $1 AND id < $2 ORDER BY id DESC LIMIT $3")
                .bind(webhook.as_uuid())
                .bind(before.map_or_else(Uuid::max, |id| id.as_uuid()))
                .bind(i64::from(limit));
        Ok(readable(&self.connections.fetch_all("listing deliveries", query).await?, delivery))
    }

    async fn purge_deliveries(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.connections.write("forgetting deliveries", &Purge { before, limit }).await
    }
}

struct Create<'a> {
    webhook: &'a WebhookRecord,
}

#[async_trait]
impl Unit for Create<'_> {
    type Answer = NameOutcome;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<NameOutcome>, StoreError> {
        let webhook = self.webhook;
        let statement = format!(
            "INSERT INTO webhooks (id, tenant, project, name, enabled, followed, revision, record)
             VALUES ($1, $2, $3, $4, $5, {LAST_EVENT}, $6, $7) ON CONFLICT (tenant, project, name) DO NOTHING"
        );
        let stored = sqlx::query(AssertSqlSafe(statement))
            .bind(webhook.id.as_uuid())
            .bind(webhook.tenant.as_uuid())
            .bind(webhook.project.as_uuid())
            .bind(webhook.name.as_str())
            .bind(webhook.disabled.is_none())
            .bind(integer(webhook.revision)?)
            .bind(json(webhook)?)
            .execute(connection)
            .await
            .context("creating a webhook")?;
        Ok(match stored.rows_affected() {
            1 => Verdict::Keep(NameOutcome::Created),
            _ => Verdict::Undo(NameOutcome::NameTaken),
        })
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<NameOutcome>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM webhooks WHERE id = $1")
            .bind(self.webhook.id.as_uuid())
            .fetch_optional(connection)
            .await
            .context("creating a webhook")?;
        Ok(found.map(|_| NameOutcome::Created))
    }
}

struct Change<'a> {
    webhook: &'a WebhookRecord,
    anew: bool,
}

#[async_trait]
impl Unit for Change<'_> {
    type Answer = bool;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<bool>, StoreError> {
        let done = change(connection, self.webhook, self.anew).await?;
        Ok(if done { Verdict::Keep(true) } else { Verdict::Undo(false) })
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<bool>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM webhooks WHERE id = $1 AND record = $2")
            .bind(self.webhook.id.as_uuid())
            .bind(json(self.webhook)?)
            .fetch_optional(connection)
            .await
            .context("changing a webhook")?;
        Ok(found.map(|_| true))
    }
}

struct Delete {
    tenant: TenantId,
    id: WebhookId,
}

#[async_trait]
impl Unit for Delete {
    type Answer = bool;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<bool>, StoreError> {
        let gone = sqlx::query("DELETE FROM webhooks WHERE tenant = $1 AND id = $2")
            .bind(self.tenant.as_uuid())
            .bind(self.id.as_uuid())
            .execute(connection)
            .await
            .context("deleting a webhook")?;
        Ok(if gone.rows_affected() == 1 { Verdict::Keep(true) } else { Verdict::Undo(false) })
    }

    /// Nobody makes a webhook of this id again: one that is gone was deleted.
    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<bool>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM webhooks WHERE id = $1")
            .bind(self.id.as_uuid())
            .fetch_optional(connection)
            .await
            .context("deleting a webhook")?;
        Ok(found.is_none().then_some(true))
    }
}

struct Follow<'a> {
    webhook: WebhookId,
    from: u64,
    to: u64,
    deliveries: &'a [DeliveryRecord],
}

#[async_trait]
impl Unit for Follow<'_> {
    type Answer = bool;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<bool>, StoreError> {
        let moved = sqlx::query("UPDATE webhooks SET followed = $1 WHERE id = $2 AND followed = $3 AND enabled")
            .bind(integer(self.to)?)
            .bind(self.webhook.as_uuid())
            .bind(integer(self.from)?)
            .execute(&mut *connection)
            .await
            .context("following events for a webhook")?;
        if moved.rows_affected() == 0 {
            return Ok(Verdict::Undo(false));
        }
        for delivery in self.deliveries {
            insert(connection, delivery).await?;
        }
        Ok(Verdict::Keep(true))
    }

    fn is_news(&self) -> bool {
        false
    }
}

struct Add<'a> {
    delivery: &'a DeliveryRecord,
    most: u32,
}

#[async_trait]
impl Unit for Add<'_> {
    type Answer = bool;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<bool>, StoreError> {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (
                 SELECT 1 FROM deliveries WHERE webhook = $1 AND next_at IS NOT NULL LIMIT $2
             ) AS counted",
        )
        .bind(self.delivery.webhook.as_uuid())
        .bind(i64::from(self.most))
        .fetch_one(&mut *connection)
        .await
        .context("storing a delivery")?;
        let stored = open < i64::from(self.most) && insert(connection, self.delivery).await?;
        Ok(if stored { Verdict::Keep(true) } else { Verdict::Undo(false) })
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<bool>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM deliveries WHERE id = $1")
            .bind(self.delivery.id.as_uuid())
            .fetch_optional(connection)
            .await
            .context("storing a delivery")?;
        Ok(found.map(|_| true))
    }
}

struct Settle<'a> {
    settlement: &'a Settlement,
}

#[async_trait]
impl Unit for Settle<'_> {
    type Answer = bool;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<bool>, StoreError> {
        let Settlement { before, after, webhook, also } = self.settlement;
        let settled = sqlx::query(
            "UPDATE deliveries SET lane = $1, attempts = $2, next_at = $3, ended_at = $4, record = $5
             WHERE id = $6 AND attempts = $7 AND (next_at IS NOT NULL) = $8",
        )
        .bind(lane(after))
        .bind(i64::from(after.attempts))
        .bind(after.next_at.map(Timestamp::as_micros))
        .bind(after.ended_at.map(Timestamp::as_micros))
        .bind(json(after)?)
        .bind(before.id.as_uuid())
        .bind(i64::from(before.attempts))
        .bind(before.is_open())
        .execute(&mut *connection)
        .await
        .context("settling a delivery")?;
        if settled.rows_affected() == 0 {
            return Ok(Verdict::Undo(false));
        }
        if let Some(webhook) = webhook
            && !change(connection, webhook, false).await?
        {
            return Ok(Verdict::Undo(false));
        }
        for delivery in also {
            insert(connection, delivery).await?;
        }
        Ok(Verdict::Keep(true))
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<bool>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM deliveries WHERE id = $1 AND record = $2")
            .bind(self.settlement.after.id.as_uuid())
            .bind(json(&self.settlement.after)?)
            .fetch_optional(connection)
            .await
            .context("settling a delivery")?;
        Ok(found.map(|_| true))
    }
}

struct Purge {
    before: Timestamp,
    limit: u32,
}

#[async_trait]
impl Unit for Purge {
    type Answer = u64;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<u64>, StoreError> {
        let gone = sqlx::query(
            "DELETE FROM deliveries WHERE id IN (
                 SELECT id FROM deliveries WHERE ended_at < $1 ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED
             )",
        )
        .bind(self.before.as_micros())
        .bind(i64::from(self.limit))
        .execute(connection)
        .await
        .context("forgetting deliveries")?
        .rows_affected();
        Ok(if gone > 0 { Verdict::Keep(gone) } else { Verdict::Undo(0) })
    }

    fn is_news(&self) -> bool {
        false
    }
}

async fn change(connection: &mut PgConnection, webhook: &WebhookRecord, anew: bool) -> Result<bool, StoreError> {
    let followed = if anew { LAST_EVENT } else { "followed" };
    let statement = format!(
        "UPDATE webhooks SET enabled = $4, revision = $5, record = $6, followed = {followed}
         WHERE id = $1 AND tenant = $2 AND project = $3 AND revision = $5 - 1"
    );
    let stored = sqlx::query(AssertSqlSafe(statement))
        .bind(webhook.id.as_uuid())
        .bind(webhook.tenant.as_uuid())
        .bind(webhook.project.as_uuid())
        .bind(webhook.disabled.is_none())
        .bind(integer(webhook.revision)?)
        .bind(json(webhook)?)
        .execute(connection)
        .await
        .context("changing a webhook")?;
    Ok(stored.rows_affected() == 1)
}

/// False when the webhook is gone. It cannot go while this is under way.
async fn insert(connection: &mut PgConnection, delivery: &DeliveryRecord) -> Result<bool, StoreError> {
    let stored = sqlx::query(
        "INSERT INTO deliveries (id, webhook, lane, number, attempts, next_at, ended_at, record)
         SELECT $1, id, $3, $4, $5, $6, $7, $8 FROM webhooks WHERE id = $2 FOR KEY SHARE",
    )
    .bind(delivery.id.as_uuid())
    .bind(delivery.webhook.as_uuid())
    .bind(lane(delivery))
    .bind(integer(delivery.number())?)
    .bind(i64::from(delivery.attempts))
    .bind(delivery.next_at.map(Timestamp::as_micros))
    .bind(delivery.ended_at.map(Timestamp::as_micros))
    .bind(json(delivery)?)
    .execute(connection)
    .await
    .context("storing a delivery")?;
    Ok(stored.rows_affected() == 1)
}

/// A delivery that nobody waits behind has a lane of its own.
fn lane(delivery: &DeliveryRecord) -> Uuid {
    delivery.lane.map_or_else(|| delivery.id.as_uuid(), |instance| instance.as_uuid())
}

fn webhook(row: &PgRow) -> Result<WebhookRecord, StoreError> {
    Fields { table: "webhooks", row }.json("record")
}

fn delivery(row: &PgRow) -> Result<DeliveryRecord, StoreError> {
    Fields { table: "deliveries", row }.json("record")
}
