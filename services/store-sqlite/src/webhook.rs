//! Webhooks and their deliveries.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wherry_model::{DeliveryId, ProjectId, TenantId, Timestamp, WebhookId, WebhookName};
use wherry_store::{DeliveryRecord, Lagging, NameOutcome, Settlement, StoreError, WebhookRecord, WebhookStore};

use crate::SqliteStore;
use crate::columns::{Blob, Fields, integer, json};
use crate::error::Context;
use crate::readable::{Filling, readable};
use crate::writer::Verdict;

/// The number of the last event of a project.
const LAST_EVENT: &str = "coalesce((SELECT max(seq) FROM events WHERE tenant = ?2 AND project = ?3), 0)";

#[async_trait]
impl WebhookStore for SqliteStore {
    async fn create_webhook(&self, webhook: &WebhookRecord) -> Result<NameOutcome, StoreError> {
        let webhook = webhook.clone();
        self.writer.run("creating a webhook", move |connection| Box::pin(create(connection, webhook))).await
    }

    async fn webhook(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: &WebhookName,
    ) -> Result<Option<WebhookRecord>, StoreError> {
        let row = sqlx::query("SELECT id, record FROM webhooks WHERE tenant = ? AND project = ? AND name = ?")
            .bind(tenant.blob())
            .bind(project.blob())
            .bind(name.as_str())
            .fetch_optional(&self.readers)
            .await
            .context("reading a webhook")?;
        row.as_ref().map(webhook).transpose()
    }

    async fn webhooks(
        &self,
        tenant: TenantId,
        project: ProjectId,
        limit: u32,
    ) -> Result<Vec<WebhookRecord>, StoreError> {
        let rows =
            sqlx::query("SELECT id, record FROM webhooks WHERE tenant = ? AND project = ? ORDER BY name LIMIT ?")
                .bind(tenant.blob())
                .bind(project.blob())
                .bind(limit)
                .fetch_all(&self.readers)
                .await
                .context("listing webhooks")?;
        Ok(readable(&rows, webhook))
    }

    async fn every_webhook(&self, after: Option<WebhookId>, limit: u32) -> Result<Vec<WebhookRecord>, StoreError> {
        let after = after.map(|id| id.blob()).unwrap_or_default();
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let query = sqlx::query("SELECT id, record FROM webhooks WHERE id > ? ORDER BY id LIMIT ? OFFSET ?");
            let rows = query.bind(after.clone()).bind(limit).bind(passed).fetch_all(&self.readers).await;
            page.take(&rows.context("reading webhooks by their ids")?, webhook);
        }
        Ok(page.found())
    }

    async fn change_webhook(&self, webhook: &WebhookRecord, anew: bool) -> Result<bool, StoreError> {
        let webhook = webhook.clone();
        self.writer
            .run("changing a webhook", move |connection| {
                Box::pin(async move {
                    let done = change(connection, &webhook, anew).await?;
                    Ok(if done { Verdict::Keep(true) } else { Verdict::Undo(false) })
                })
            })
            .await
    }

    async fn delete_webhook(&self, tenant: TenantId, id: WebhookId) -> Result<bool, StoreError> {
        self.writer
            .run("deleting a webhook", move |connection| {
                Box::pin(async move {
                    let gone = sqlx::query("DELETE FROM webhooks WHERE tenant = ? AND id = ?")
                        .bind(tenant.blob())
                        .bind(id.blob())
                        .execute(connection)
                        .await
                        .context("deleting a webhook")?;
                    Ok(if gone.rows_affected() == 1 { Verdict::Keep(true) } else { Verdict::Undo(false) })
                })
            })
            .await
    }

    async fn lagging_webhooks(
        &self,
        after: Option<WebhookId>,
        most: u32,
        limit: u32,
    ) -> Result<Vec<Lagging>, StoreError> {
        let lagging = |row: &SqliteRow| {
            let fields = Fields { table: "webhooks", row };
            let (followed, open) = (fields.count("followed")?, fields.count("open")?);
            Ok(Lagging { webhook: fields.json("record")?, followed, open })
        };
        let after = after.map(|id| id.blob()).unwrap_or_default();
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let rows = sqlx::query(
                "SELECT id, record, followed, (SELECT count(*) FROM (
                 SELECT 1 FROM deliveries AS d WHERE d.webhook = w.id AND d.next_at IS NOT NULL LIMIT ?2
             )) AS open
             FROM webhooks AS w
             WHERE id > ?1 AND enabled = 1 AND EXISTS (
                 SELECT 1 FROM events AS e WHERE e.tenant = w.tenant AND e.project = w.project AND e.seq > w.followed
             )
             ORDER BY id LIMIT ?3 OFFSET ?4",
            )
            .bind(after.clone())
            .bind(most)
            .bind(limit)
            .bind(passed)
            .fetch_all(&self.readers)
            .await
            .context("looking for webhooks that lag")?;
            page.take(&rows, lagging);
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
        let deliveries = deliveries.to_vec();
        self.writer
            .run_quietly("following events for a webhook", move |connection| {
                Box::pin(follow(connection, webhook, from, to, deliveries))
            })
            .await
    }

    async fn due_webhooks(
        &self,
        now: Timestamp,
        after: Option<WebhookId>,
        limit: u32,
    ) -> Result<Vec<WebhookRecord>, StoreError> {
        let after = after.map(|id| id.blob()).unwrap_or_default();
        let mut page = Filling::of(limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let rows = sqlx::query(
                "SELECT id, record FROM webhooks AS w
                 WHERE id > ?1 AND enabled = 1
                   AND EXISTS (SELECT 1 FROM deliveries AS d WHERE d.webhook = w.id AND d.next_at <= ?2)
                 ORDER BY id LIMIT ?3 OFFSET ?4",
            )
            .bind(after.clone())
            .bind(now.as_micros())
            .bind(limit)
            .bind(passed)
            .fetch_all(&self.readers)
            .await
            .context("looking for webhooks with work")?;
            page.take(&rows, self::webhook);
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
            let rows = sqlx::query(
                "SELECT id, record FROM deliveries AS d
             WHERE webhook = ?1 AND next_at <= ?2 AND NOT EXISTS (
                 SELECT 1 FROM deliveries AS e
                 WHERE e.webhook = d.webhook AND e.lane = d.lane AND e.number < d.number AND e.next_at IS NOT NULL
             )
             ORDER BY next_at, number, id LIMIT ?3 OFFSET ?4",
            )
            .bind(webhook.blob())
            .bind(now.as_micros())
            .bind(limit)
            .bind(passed)
            .fetch_all(&self.readers)
            .await
            .context("looking for deliveries that are due")?;
            page.take(&rows, delivery);
        }
        Ok(page.found())
    }

    async fn add_delivery(&self, delivery: &DeliveryRecord, most: u32) -> Result<bool, StoreError> {
        let delivery = delivery.clone();
        self.writer
            .run("storing a delivery", move |connection| {
                Box::pin(async move {
                    let open: u32 = sqlx::query_scalar(
                        "SELECT count(*) FROM (
                             SELECT 1 FROM deliveries WHERE webhook = ? AND next_at IS NOT NULL LIMIT ?
                         )",
                    )
                    .bind(delivery.webhook.blob())
                    .bind(most)
                    .fetch_one(&mut *connection)
                    .await
                    .context("storing a delivery")?;
                    let stored = open < most && insert(connection, &delivery).await?;
                    Ok(if stored { Verdict::Keep(true) } else { Verdict::Undo(false) })
                })
            })
            .await
    }

    async fn settle_delivery(&self, settlement: &Settlement) -> Result<bool, StoreError> {
        let settlement = settlement.clone();
        self.writer
            .run("settling a delivery", move |connection| {
                Box::pin(async move {
                    let done = settle(connection, &settlement).await?;
                    Ok(if done { Verdict::Keep(true) } else { Verdict::Undo(false) })
                })
            })
            .await
    }

    async fn delivery(&self, webhook: WebhookId, id: DeliveryId) -> Result<Option<DeliveryRecord>, StoreError> {
        let row = sqlx::query("SELECT id, record FROM deliveries WHERE id = ? AND webhook = ?")
            .bind(id.blob())
            .bind(webhook.blob())
            .fetch_optional(&self.readers)
            .await
            .context("reading a delivery")?;
        row.as_ref().map(delivery).transpose()
    }

    async fn deliveries(
        &self,
        webhook: WebhookId,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        let rows =
            sqlx::query("SELECT id, record FROM deliveries WHERE webhook = ? AND id < ? ORDER BY id DESC LIMIT ?")
                .bind(webhook.blob())
                .bind(before.map_or_else(|| vec![u8::MAX; 16], |id| id.blob()))
                .bind(limit)
                .fetch_all(&self.readers)
                .await
                .context("listing deliveries")?;
        Ok(readable(&rows, delivery))
    }

    async fn purge_deliveries(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.writer
            .run_quietly("forgetting deliveries", move |connection| {
                Box::pin(async move {
                    let gone = sqlx::query(
                        "DELETE FROM deliveries WHERE id IN (
                             SELECT id FROM deliveries WHERE ended_at < ? ORDER BY ended_at LIMIT ?
                         )",
                    )
                    .bind(before.as_micros())
                    .bind(limit)
                    .execute(connection)
                    .await
                    .context("forgetting deliveries")?
                    .rows_affected();
                    Ok(if gone > 0 { Verdict::Keep(gone) } else { Verdict::Undo(0) })
                })
            })
            .await
    }
}

async fn create(connection: &mut SqliteConnection, webhook: WebhookRecord) -> Result<Verdict<NameOutcome>, StoreError> {
    let statement = format!(
        "INSERT INTO webhooks (id, tenant, project, name, enabled, followed, revision, record)
         VALUES (?1, ?2, ?3, ?4, ?5, {LAST_EVENT}, ?6, ?7) ON CONFLICT (tenant, project, name) DO NOTHING"
    );
    let stored = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(webhook.id.blob())
        .bind(webhook.tenant.blob())
        .bind(webhook.project.blob())
        .bind(webhook.name.as_str())
        .bind(webhook.disabled.is_none())
        .bind(integer(webhook.revision)?)
        .bind(json(&webhook)?)
        .execute(connection)
        .await
        .context("creating a webhook")?;
    Ok(match stored.rows_affected() {
        1 => Verdict::Keep(NameOutcome::Created),
        _ => Verdict::Undo(NameOutcome::NameTaken),
    })
}

async fn change(connection: &mut SqliteConnection, webhook: &WebhookRecord, anew: bool) -> Result<bool, StoreError> {
    let followed = if anew { LAST_EVENT } else { "followed" };
    let statement = format!(
        "UPDATE webhooks SET enabled = ?4, revision = ?5, record = ?6, followed = {followed}
         WHERE id = ?1 AND tenant = ?2 AND project = ?3 AND revision = ?5 - 1"
    );
    let stored = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(webhook.id.blob())
        .bind(webhook.tenant.blob())
        .bind(webhook.project.blob())
        .bind(webhook.disabled.is_none())
        .bind(integer(webhook.revision)?)
        .bind(json(webhook)?)
        .execute(connection)
        .await
        .context("changing a webhook")?;
    Ok(stored.rows_affected() == 1)
}

async fn follow(
    connection: &mut SqliteConnection,
    webhook: WebhookId,
    from: u64,
    to: u64,
    deliveries: Vec<DeliveryRecord>,
) -> Result<Verdict<bool>, StoreError> {
    let moved = sqlx::query("UPDATE webhooks SET followed = ? WHERE id = ? AND followed = ? AND enabled = 1")
        .bind(integer(to)?)
        .bind(webhook.blob())
        .bind(integer(from)?)
        .execute(&mut *connection)
        .await
        .context("following events for a webhook")?;
    if moved.rows_affected() == 0 {
        return Ok(Verdict::Undo(false));
    }
    for delivery in &deliveries {
        insert(connection, delivery).await?;
    }
    Ok(Verdict::Keep(true))
}

async fn settle(connection: &mut SqliteConnection, settlement: &Settlement) -> Result<bool, StoreError> {
    let Settlement { before, after, webhook, also } = settlement;
    let settled = sqlx::query(
        "UPDATE deliveries SET lane = ?, attempts = ?, next_at = ?, ended_at = ?, record = ?
         WHERE id = ? AND attempts = ? AND (next_at IS NOT NULL) = ?",
    )
    .bind(lane(after))
    .bind(after.attempts)
    .bind(after.next_at.map(Timestamp::as_micros))
    .bind(after.ended_at.map(Timestamp::as_micros))
    .bind(json(after)?)
    .bind(before.id.blob())
    .bind(before.attempts)
    .bind(before.is_open())
    .execute(&mut *connection)
    .await
    .context("settling a delivery")?;
    if settled.rows_affected() == 0 {
        return Ok(false);
    }
    if let Some(webhook) = webhook
        && !change(connection, webhook, false).await?
    {
        return Ok(false);
    }
    for delivery in also {
        insert(connection, delivery).await?;
    }
    Ok(true)
}

/// False when the webhook is gone.
async fn insert(connection: &mut SqliteConnection, delivery: &DeliveryRecord) -> Result<bool, StoreError> {
    let stored = sqlx::query(
        "INSERT INTO deliveries (id, webhook, lane, number, attempts, next_at, ended_at, record)
         SELECT ?1, id, ?3, ?4, ?5, ?6, ?7, ?8 FROM webhooks WHERE id = ?2",
    )
    .bind(delivery.id.blob())
    .bind(delivery.webhook.blob())
    .bind(lane(delivery))
    .bind(integer(delivery.number())?)
    .bind(delivery.attempts)
    .bind(delivery.next_at.map(Timestamp::as_micros))
    .bind(delivery.ended_at.map(Timestamp::as_micros))
    .bind(json(delivery)?)
    .execute(connection)
    .await
    .context("storing a delivery")?;
    Ok(stored.rows_affected() == 1)
}

/// A delivery that nobody waits behind has a lane of its own.
fn lane(delivery: &DeliveryRecord) -> Vec<u8> {
    delivery.lane.map_or_else(|| delivery.id.blob(), |instance| instance.blob())
}

fn webhook(row: &SqliteRow) -> Result<WebhookRecord, StoreError> {
    Fields { table: "webhooks", row }.json("record")
}

fn delivery(row: &SqliteRow) -> Result<DeliveryRecord, StoreError> {
    Fields { table: "deliveries", row }.json("record")
}

#[cfg(test)]
mod tests {
    use sqlx::QueryBuilder;

    use crate::plan::assert_plan;

    #[tokio::test]
    async fn what_is_sent_and_listed_is_read_by_index() {
        for (statement, steps) in [
            (
                "SELECT id, record FROM deliveries AS d WHERE webhook = x'00' AND next_at <= 7 AND NOT EXISTS (
                     SELECT 1 FROM deliveries AS e
                     WHERE e.webhook = d.webhook AND e.lane = d.lane AND e.number < d.number AND e.next_at IS NOT NULL
                 ) ORDER BY next_at, number, id LIMIT 9",
                &["deliveries_due", "deliveries_in_lane", "TEMP B-TREE"][..],
            ),
            (
                "SELECT id, record FROM deliveries WHERE webhook = x'00' AND id < x'ff' ORDER BY id DESC LIMIT 9",
                &["deliveries_of_webhook"][..],
            ),
            ("SELECT id FROM deliveries WHERE ended_at < 7 ORDER BY ended_at LIMIT 9", &["deliveries_ended"][..]),
        ] {
            assert_plan(QueryBuilder::new(statement), steps).await;
        }
    }
}
