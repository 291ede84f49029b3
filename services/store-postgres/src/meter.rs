//! Intervals and price books. Both ends of an interval are floored to the grid second; the schema forbids overlaps.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::{QueryBuilder, Row};
use uuid::Uuid;
use wherry_metering::Interval;
use wherry_model::lifecycle::{MeterEdge, MeterKind};
use wherry_model::{CpuMillis, Generation, Instance, InstanceId, MemoryMib, PriceBook, TenantId, Timestamp};
use wherry_store::{MeterStore, PriceBookOutcome, StoreError, UsageQuery};

use crate::PostgresStore;
use crate::columns::{Fields, integer, json};
use crate::error::{Context, violation};
use crate::rows::columns;
use crate::transaction::{Unit, Verdict};

#[async_trait]
impl MeterStore for PostgresStore {
    async fn intervals(&self, query: &UsageQuery) -> Result<Vec<Interval>, StoreError> {
        const CONTEXT: &str = "reading metered intervals";
        let by_end = if query.instance.is_some() {
            false
        } else {
            let row = self.connections.fetch_one(CONTEXT, probe(query).build()).await?;
            let recent: i64 = row.map_or(Ok(FEW), |row| row.try_get(0)).context(CONTEXT)?;
            recent < FEW
        };
        self.connections.fetch_all(CONTEXT, page(query, by_end).build()).await?.iter().map(interval).collect()
    }

    async fn price_book(&self, id: &str) -> Result<Option<PriceBook>, StoreError> {
        let query = sqlx::query("SELECT id, record::text AS record FROM price_books WHERE id = $1").bind(id);
        let row = self.connections.fetch_one("reading a price book", query).await?;
        row.as_ref().map(|row| Fields { table: "price_books", row }.json("record")).transpose()
    }

    async fn put_price_book(&self, book: &PriceBook) -> Result<PriceBookOutcome, StoreError> {
        let spot = book.spot();
        let spot = (spot.id.clone(), json(&spot)?);
        self.connections.write("storing a price book", &PutBook { id: &book.id, record: json(book)?, spot }).await
    }

    async fn metered(&self, tenant: TenantId, instances: &[InstanceId]) -> Result<Vec<Interval>, StoreError> {
        if instances.is_empty() {
            return Ok(Vec::new());
        }
        let instances: Vec<Uuid> = instances.iter().map(InstanceId::as_uuid).collect();
        // A row for each group of closed intervals and one for each open interval.
        let query = sqlx::query(
            "SELECT instance, max(name) AS name, tenant, project, kind, 0::bigint AS number,
                 max(generation) AS generation, cpu_millis, memory_mib, price_book, 0::bigint AS start_second,
                 sum(end_second - start_second)::bigint AS end_second, false AS late, 0::bigint AS proof_at
             FROM intervals WHERE tenant = $1 AND instance = ANY ($2) AND end_second IS NOT NULL
             GROUP BY tenant, instance, kind, project, cpu_millis, memory_mib, price_book
             UNION ALL
             SELECT instance, intervals.name, tenant, project, kind, number, generation, cpu_millis, memory_mib,
                 price_book, start_second, NULL, late, nodes.proof_at
             FROM intervals JOIN nodes ON nodes.id = intervals.node
             WHERE tenant = $1 AND instance = ANY ($2) AND end_second IS NULL",
        );
        let rows =
            self.connections.fetch_all("adding up intervals", query.bind(tenant.as_uuid()).bind(instances)).await?;
        rows.iter().map(interval).collect()
    }
}

/// Put twice it is as put once.
struct PutBook<'a> {
    id: &'a str,
    record: String,
    /// That of spot instances beside it.
    spot: (String, String),
}

#[async_trait]
impl Unit for PutBook<'_> {
    type Answer = PriceBookOutcome;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<PriceBookOutcome>, StoreError> {
        const CONTEXT: &str = "storing a price book";
        let mut added = 0;
        for (id, record) in [(self.id, &self.record), (self.spot.0.as_str(), &self.spot.1)] {
            added +=
                sqlx::query("INSERT INTO price_books (id, record) VALUES ($1, $2::json) ON CONFLICT (id) DO NOTHING")
                    .bind(id)
                    .bind(record)
                    .execute(&mut *connection)
                    .await
                    .context(CONTEXT)?
                    .rows_affected();
        }
        let stored: String = sqlx::query_scalar("SELECT record::text FROM price_books WHERE id = $1")
            .bind(self.id)
            .fetch_one(&mut *connection)
            .await
            .context(CONTEXT)?;
        if stored != self.record {
            return Ok(Verdict::Undo(PriceBookOutcome::Differs));
        }
        let moved = sqlx::query(
            "INSERT INTO price_book_current AS present (\"only\", id) VALUES (1, $1)
             ON CONFLICT (\"only\") DO UPDATE SET id = excluded.id WHERE present.id <> excluded.id",
        )
        .bind(self.id)
        .execute(connection)
        .await
        .context(CONTEXT)?;
        let current = PriceBookOutcome::Current;
        Ok(if moved.rows_affected() + added > 0 { Verdict::Keep(current) } else { Verdict::Undo(current) })
    }
}

/// Fewer than so many are collected and sorted; more are walked in the order of their key.
const FEW: i64 = 2_000;

/// Counts the intervals of the tenant that end after the window's start, up to [`FEW`].
fn probe(query: &UsageQuery) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new("SELECT count(*) FROM (SELECT 1 FROM (");
    ending_after(&mut sql, query);
    sql.push(") AS ending LIMIT ").push_bind(FEW).push(") AS few");
    sql
}

/// What has not ended when the window begins, by way of `intervals_by_end`: the past beyond the window is not touched.
fn ending_after(sql: &mut QueryBuilder<Postgres>, query: &UsageQuery) {
    for (position, condition) in [" AND end_second IS NULL", " AND end_second > "].into_iter().enumerate() {
        sql.push(if position == 0 { "" } else { " UNION ALL " });
        sql.push(concat!("SELECT ", columns!(intervals), " FROM intervals WHERE tenant = "))
            .push_bind(query.tenant.as_uuid());
        sql.push(condition);
    }
    sql.push_bind(query.from_second);
}

/// One page. A window near the present has few intervals, which are found by their end and sorted; a window that most
/// of the history falls into is walked in the order of the key, so that each page costs what it holds.
fn page(query: &UsageQuery, by_end: bool) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new("SELECT found.*, nodes.proof_at FROM ");
    if by_end {
        sql.push("(");
        ending_after(&mut sql, query);
        sql.push(")");
    } else {
        sql.push(concat!("(SELECT ", columns!(intervals), " FROM intervals)"));
    }
    sql.push(" AS found JOIN nodes ON nodes.id = found.node WHERE tenant = ").push_bind(query.tenant.as_uuid());
    if let Some(project) = query.project {
        sql.push(" AND project = ").push_bind(project.as_uuid());
    }
    if let Some(instance) = query.instance {
        sql.push(" AND instance = ").push_bind(instance.as_uuid());
    }
    if let Some((instance, kind, number)) = query.after {
        sql.push(" AND (instance, kind, number) > (").push_bind(instance.as_uuid());
        sql.push(", ").push_bind(kind.as_str()).push(", ").push_bind(i64::from(number)).push(")");
    }
    // One that covers no second of the window, for example because it covers none at all, is not of the window.
    sql.push(" AND start_second < ").push_bind(query.to_second);
    sql.push(" AND (end_second IS NULL OR end_second > greatest(start_second, ").push_bind(query.from_second);
    sql.push(")) ORDER BY instance, kind, number LIMIT ").push_bind(i64::from(query.limit));
    sql
}

/// Turns the edges of a change into rows.
pub(crate) async fn apply_edges(
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
    instance: &Instance,
    kind: MeterKind,
    at: Timestamp,
    late: bool,
) -> Result<(), StoreError> {
    let node = instance.node.ok_or_else(|| violation(format!("instance {} is metered on no node", instance.id)))?;
    let demand = instance.demand();
    let opened = sqlx::query(
        "INSERT INTO intervals (instance, kind, number, tenant, project, name, node, generation, cpu_millis, memory_mib,
             price_book, start_second, end_second, late)
         SELECT $1, $2, coalesce(max(earlier.number), 0) + 1, $3, $4, $5, $6, $7, $8, $9, spot.id,
             greatest($10, coalesce(max(earlier.end_second), $10)), NULL, $11
         FROM price_book_current AS book
             JOIN price_books AS spot ON spot.id = CASE WHEN $12 THEN book.id || '+spot' ELSE book.id END
             LEFT JOIN intervals AS earlier ON earlier.instance = $1 AND earlier.kind = $2
         GROUP BY spot.id",
    )
    .bind(instance.id.as_uuid())
    .bind(kind.as_str())
    .bind(instance.tenant.as_uuid())
    .bind(instance.project.as_uuid())
    .bind(instance.name.as_str())
    .bind(node.as_uuid())
    .bind(integer(instance.generation.0)?)
    .bind(i64::from(demand.cpu.get()))
    .bind(i64::from(demand.memory.get()))
    .bind(at.grid_second())
    .bind(late)
    .bind(demand.spot)
    .execute(connection)
    .await
    .context("opening a metered interval")?;
    if opened.rows_affected() == 1 {
        Ok(())
    } else {
        Err(violation("nothing can be metered before a price book is stored"))
    }
}

async fn close(
    connection: &mut PgConnection,
    instance: &Instance,
    kind: MeterKind,
    at: Timestamp,
) -> Result<(), StoreError> {
    let closed = sqlx::query(
        "UPDATE intervals SET end_second = greatest(start_second, $3)
         WHERE instance = $1 AND kind = $2 AND end_second IS NULL",
    )
    .bind(instance.id.as_uuid())
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

fn interval(row: &PgRow) -> Result<Interval, StoreError> {
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
