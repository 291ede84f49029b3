//! Intervals and price books. Both ends of an interval are floored to the grid second; the schema forbids overlaps.

use async_trait::async_trait;
use sqlx::QueryBuilder;
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use wherry_metering::Interval;
use wherry_model::lifecycle::{MeterEdge, MeterKind};
use wherry_model::{CpuMillis, Generation, Instance, InstanceId, MemoryMib, PriceBook, TenantId, Timestamp};
use wherry_store::{MeterStore, PriceBookOutcome, StoreError, UsageQuery};

use crate::SqliteStore;
use crate::columns::{Blob, Fields, integer, json};
use crate::error::{Context, violation};
use crate::writer::Verdict;

#[async_trait]
impl MeterStore for SqliteStore {
    async fn intervals(&self, query: &UsageQuery) -> Result<Vec<Interval>, StoreError> {
        const CONTEXT: &str = "reading metered intervals";
        let mut connection = self.reader().await?;
        let by_end = if query.instance.is_some() {
            false
        } else {
            let recent: i64 = probe(query).build_query_scalar().fetch_one(&mut *connection).await.context(CONTEXT)?;
            recent < FEW
        };
        let mut page = page(query, by_end);
        let rows = page.build().fetch_all(&mut *connection).await.context(CONTEXT)?;
        rows.iter().map(interval).collect()
    }

    async fn price_book(&self, id: &str) -> Result<Option<PriceBook>, StoreError> {
        let row = sqlx::query("SELECT id, record FROM price_books WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .context("reading a price book")?;
        row.as_ref().map(|row| Fields { table: "price_books", row }.json("record")).transpose()
    }

    async fn put_price_book(&self, book: &PriceBook) -> Result<PriceBookOutcome, StoreError> {
        let (id, record) = (book.id.clone(), json(book)?);
        let spot = book.spot();
        let spot = (spot.id.clone(), json(&spot)?);
        self.writer
            .run("storing a price book", move |connection| Box::pin(put_book(connection, id, record, spot)))
            .await
    }

    async fn metered(&self, tenant: TenantId, instances: &[InstanceId]) -> Result<Vec<Interval>, StoreError> {
        if instances.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sums(tenant, instances).build().fetch_all(&self.readers).await.context("adding up intervals")?;
        rows.iter().map(interval).collect()
    }
}

async fn put_book(
    connection: &mut SqliteConnection,
    id: String,
    record: String,
    spot: (String, String),
) -> Result<Verdict<PriceBookOutcome>, StoreError> {
    const CONTEXT: &str = "storing a price book";
    let mut added = 0;
    for (id, record) in [(&id, &record), (&spot.0, &spot.1)] {
        added += sqlx::query("INSERT INTO price_books (id, record) VALUES (?, ?) ON CONFLICT (id) DO NOTHING")
            .bind(id)
            .bind(record)
            .execute(&mut *connection)
            .await
            .context(CONTEXT)?
            .rows_affected();
    }
    let stored: String = sqlx::query_scalar("SELECT record FROM price_books WHERE id = ?")
        .bind(&id)
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
    if stored != record {
        return Ok(Verdict::Undo(PriceBookOutcome::Differs));
    }
    let moved = sqlx::query(
        "INSERT INTO price_book_current (only, id) VALUES (1, ?) ON CONFLICT (only) DO UPDATE SET id = excluded.id
         WHERE id <> excluded.id",
    )
    .bind(id)
    .execute(connection)
    .await
    .context(CONTEXT)?;
    let current = PriceBookOutcome::Current;
    Ok(if moved.rows_affected() + added > 0 { Verdict::Keep(current) } else { Verdict::Undo(current) })
}

/// What was metered in all, a row for each group of closed intervals and one for each open interval.
fn sums(tenant: TenantId, instances: &[InstanceId]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(
        "SELECT instance, max(name) AS name, tenant, project, kind, 0 AS number, max(generation) AS generation, cpu_millis,
             memory_mib, price_book, 0 AS start_second, sum(end_second - start_second) AS end_second, 0 AS late,
             0 AS proof_at
         FROM intervals WHERE tenant = ",
    );
    let one_of = |sql: &mut QueryBuilder<Sqlite>| {
        sql.push_bind(tenant.blob()).push(" AND instance IN (");
        let mut list = sql.separated(", ");
        for instance in instances {
            list.push_bind(instance.blob());
        }
        sql.push(")");
    };
    one_of(&mut sql);
    sql.push(
        " AND end_second IS NOT NULL GROUP BY tenant, instance, kind, project, cpu_millis, memory_mib, price_book",
    );
    sql.push(
        " UNION ALL SELECT instance, intervals.name, tenant, project, kind, number, generation, cpu_millis, memory_mib,
             price_book, start_second, NULL, late, nodes.proof_at
         FROM intervals JOIN nodes ON nodes.id = intervals.node WHERE tenant = ",
    );
    one_of(&mut sql);
    sql.push(" AND end_second IS NULL");
    sql
}

/// Fewer than so many are collected and sorted; more are walked in the order of their key.
const FEW: i64 = 2_000;

/// Counts the intervals of the tenant that end after the window's start, up to [`FEW`].
fn probe(query: &UsageQuery) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT count(*) FROM (SELECT 1 FROM (");
    ending_after(&mut sql, query);
    sql.push(") LIMIT ").push_bind(FEW).push(")");
    sql
}

/// What has not ended when the window begins, by way of `intervals_by_end`: the past beyond the window is not touched.
fn ending_after(sql: &mut QueryBuilder<Sqlite>, query: &UsageQuery) {
    for (position, condition) in [" AND end_second IS NULL", " AND end_second > "].into_iter().enumerate() {
        sql.push(if position == 0 { "" } else { " UNION ALL " });
        sql.push("SELECT * FROM intervals INDEXED BY intervals_by_end WHERE tenant = ").push_bind(query.tenant.blob());
        sql.push(condition);
    }
    sql.push_bind(query.from_second);
}

/// One page. A window near the present has few intervals, which are found by their end and sorted; a window that most
/// of the history falls into is walked in the order of the key, so that each page costs what it holds.
fn page(query: &UsageQuery, by_end: bool) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT found.*, nodes.proof_at FROM ");
    if by_end {
        sql.push("(");
        ending_after(&mut sql, query);
        sql.push(")");
    } else {
        sql.push("intervals");
    }
    sql.push(" AS found CROSS JOIN nodes ON nodes.id = found.node WHERE tenant = ").push_bind(query.tenant.blob());
    if let Some(project) = query.project {
        sql.push(" AND project = ").push_bind(project.blob());
    }
    if let Some(instance) = query.instance {
        sql.push(" AND instance = ").push_bind(instance.blob());
    }
    if let Some((instance, kind, number)) = query.after {
        sql.push(" AND (instance, kind, number) > (").push_bind(instance.blob());
        sql.push(", ").push_bind(kind.as_str()).push(", ").push_bind(number).push(")");
    }
    // One that covers no second of the window, for example because it covers none at all, is not of the window.
    sql.push(" AND start_second < ").push_bind(query.to_second);
    sql.push(" AND (end_second IS NULL OR end_second > max(start_second, ").push_bind(query.from_second);
    sql.push(")) ORDER BY instance, kind, number LIMIT ").push_bind(query.limit);
    sql
}

/// Turns the edges of a change into rows.
pub(crate) async fn apply_edges(
    connection: &mut SqliteConnection,
    instance: &Instance,
    edges: &[MeterEdge],
) -> Result<(), StoreError> {
    for edge in edges {
        match *edge {
            MeterEdge::Open { kind, at, late } => open(connection, instance, kind, at, late).await?,
            MeterEdge::Close { kind, at } => close(connection, instance, kind, at).await?,
        }
    }
    Ok(())
}

/// Opens the next interval, at the end of the one before if a clock says that this was later.
async fn open(
    connection: &mut SqliteConnection,
    instance: &Instance,
    kind: MeterKind,
    at: Timestamp,
    late: bool,
) -> Result<(), StoreError> {
    let node = instance.node.ok_or_else(|| violation(format!("instance {} is metered on no node", instance.id)))?;
    let book: Option<String> = sqlx::query_scalar("SELECT id FROM price_book_current")
        .fetch_optional(&mut *connection)
        .await
        .context("reading the price book")?;
    let book = book.ok_or_else(|| violation("nothing can be metered before a price book is stored"))?;
    let demand = instance.demand();
    let book = if demand.spot { PriceBook::spot_id(&book) } else { book };
    sqlx::query(
        "INSERT INTO intervals (instance, kind, number, tenant, project, name, node, generation, cpu_millis, memory_mib,
             price_book, start_second, end_second, late)
         SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
             max(?11, coalesce(max(end_second), ?11)), NULL, ?12
         FROM intervals WHERE instance = ?1 AND kind = ?2",
    )
    .bind(instance.id.blob())
    .bind(kind.as_str())
    .bind(instance.tenant.blob())
    .bind(instance.project.blob())
    .bind(instance.name.as_str())
    .bind(node.blob())
    .bind(integer(instance.generation.0)?)
    .bind(demand.cpu.get())
    .bind(demand.memory.get())
    .bind(book)
    .bind(at.grid_second())
    .bind(late)
    .execute(connection)
    .await
    .context("opening a metered interval")
    .map(drop)
}

async fn close(
    connection: &mut SqliteConnection,
    instance: &Instance,
    kind: MeterKind,
    at: Timestamp,
) -> Result<(), StoreError> {
    let closed = sqlx::query(
        "UPDATE intervals SET end_second = max(start_second, ?3)
         WHERE instance = ?1 AND kind = ?2 AND end_second IS NULL",
    )
    .bind(instance.id.blob())
    .bind(kind.as_str())
    .bind(at.grid_second())
    .execute(connection)
    .await
    .context("closing a metered interval")?;
    if closed.rows_affected() == 1 {
        Ok(())
    } else {
        Err(violation(format!("instance {} has no open {} interval to close", instance.id, kind.as_str())))
    }
}

fn interval(row: &SqliteRow) -> Result<Interval, StoreError> {
    let fields = Fields { table: "intervals", row };
    let kind = match fields.get::<&str>("kind")? {
        "run" => MeterKind::Run,
        "pull" => MeterKind::Pull,
        other => return Err(fields.corrupt(format!("kind {other:?} is not known"))),
    };
    let end_second = fields.get::<Option<i64>>("end_second")?;
    Ok(Interval {
        instance: fields.id("instance")?,
        name: fields.parse("name")?,
        tenant: fields.id("tenant")?,
        project: fields.id("project")?,
        kind,
        number: fields.count("number")?,
        generation: Generation(fields.count("generation")?),
        cpu: CpuMillis::new(fields.count("cpu_millis")?),
        memory: MemoryMib::new(fields.count("memory_mib")?),
        price_book: fields.get("price_book")?,
        start_second: fields.get("start_second")?,
        end_second,
        proved_until: match end_second {
            Some(end) => Timestamp::from_seconds(end),
            None => fields.time("proof_at")?,
        },
        late: fields.get("late")?,
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::plan::assert_plan;

    #[tokio::test]
    async fn windows_are_read_by_index() {
        let query = UsageQuery {
            tenant: TenantId::from_uuid(Uuid::nil()),
            project: None,
            instance: None,
            from_second: 0,
            to_second: 1,
            limit: 10,
            after: None,
        };
        let after = Some((InstanceId::from_uuid(Uuid::nil()), MeterKind::Run, 1));
        assert_plan(probe(&query), &["SEARCH intervals USING COVERING INDEX intervals_by_end"]).await;
        assert_plan(page(&query, true), &["SEARCH intervals USING INDEX intervals_by_end", "USE TEMP B-TREE"]).await;
        for query in [query, UsageQuery { after, ..query }] {
            assert_plan(page(&query, false), &["SEARCH found USING INDEX intervals_of_tenant"]).await;
        }
        let instance = UsageQuery { instance: Some(InstanceId::from_uuid(Uuid::nil())), ..query };
        assert_plan(page(&instance, false), &["SEARCH found USING"]).await;
    }
}
