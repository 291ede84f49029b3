//! Join tokens and what they made.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wherry_model::{NodeId, TokenId};
use wherry_store::{EnrolOutcome, EnrolmentRecord, EnrolmentStore, JoinTokenRecord, StoreError};

use crate::SqliteStore;
use crate::columns::{Blob, Fields};
use crate::error::{Context, violation};
use crate::writer::Verdict;

#[async_trait]
impl EnrolmentStore for SqliteStore {
    async fn create_join_token(&self, token: &JoinTokenRecord) -> Result<(), StoreError> {
        let token = token.clone();
        self.writer.run("storing a join token", move |connection| Box::pin(insert_token(connection, token))).await
    }

    async fn join_token(&self, id: TokenId) -> Result<Option<JoinTokenRecord>, StoreError> {
        let mut connection = self.reader().await?;
        token(&mut connection, id).await
    }

    async fn enrol(
        &self,
        token: TokenId,
        public_key: [u8; 32],
        enrolment: &EnrolmentRecord,
    ) -> Result<EnrolOutcome, StoreError> {
        let enrolment = enrolment.clone();
        self.writer
            .run("enrolling a node", move |connection| Box::pin(enrol(connection, token, public_key, enrolment)))
            .await
    }

    async fn enrolment(&self, node: NodeId) -> Result<Option<EnrolmentRecord>, StoreError> {
        let mut connection = self.reader().await?;
        enrolment(&mut connection, node).await
    }

    async fn enrolments(&self) -> Result<Vec<EnrolmentRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM enrolments WHERE removed_at IS NULL ORDER BY node")
            .fetch_all(&self.readers)
            .await
            .context("listing enrolments")?;
        rows.iter().map(enrolment_record).collect()
    }
}

async fn insert_token(connection: &mut SqliteConnection, token: JoinTokenRecord) -> Result<Verdict<()>, StoreError> {
    sqlx::query(
        "INSERT INTO join_tokens (id, secret_hash, range_first, range_prefix, created_at, expires_at, used_by, public_key)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(token.id.blob())
    .bind(token.secret_hash.to_vec())
    .bind(token.range.map(|(first, _)| first.to_bits()))
    .bind(token.range.map(|(_, prefix)| prefix))
    .bind(token.created_at.as_micros())
    .bind(token.expires_at.as_micros())
    .bind(token.used_by.map(|node| node.blob()))
    .bind(token.public_key.map(|key| key.to_vec()))
    .execute(connection)
    .await
    .context("storing a join token")?;
    Ok(Verdict::Keep(()))
}

async fn enrol(
    connection: &mut SqliteConnection,
    id: TokenId,
    public_key: [u8; 32],
    wanted: EnrolmentRecord,
) -> Result<Verdict<EnrolOutcome>, StoreError> {
    let Some(known) = token(connection, id).await? else {
        return Ok(Verdict::Undo(EnrolOutcome::TokenRefused));
    };
    if let Some(node) = known.used_by {
        let made = enrolment(connection, node).await?;
        let made = made.ok_or_else(|| violation(format!("join token {id} made an enrolment that is gone")))?;
        let same = known.public_key == Some(public_key) && made.removed_at.is_none();
        return Ok(Verdict::Undo(if same { EnrolOutcome::Again(made) } else { EnrolOutcome::TokenRefused }));
    }
    if known.expires_at <= wanted.created_at {
        return Ok(Verdict::Undo(EnrolOutcome::TokenRefused));
    }
    if let Some(refusal) = refusal(connection, &wanted).await? {
        return Ok(Verdict::Undo(refusal));
    }
    insert_enrolment(connection, &wanted).await?;
    sqlx::query("UPDATE join_tokens SET used_by = ?, public_key = ? WHERE id = ?")
        .bind(wanted.node.blob())
        .bind(public_key.to_vec())
        .bind(id.blob())
        .execute(connection)
        .await
        .context("using a join token")?;
    Ok(Verdict::Keep(EnrolOutcome::Enrolled(wanted)))
}

/// Why there is no room for it, if so. There is one writer, so it stays true until the insert.
async fn refusal(
    connection: &mut SqliteConnection,
    wanted: &EnrolmentRecord,
) -> Result<Option<EnrolOutcome>, StoreError> {
    const CONTEXT: &str = "enrolling a node";
    let name: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM enrolments WHERE name = ? AND removed_at IS NULL)")
            .bind(&wanted.name)
            .fetch_one(&mut *connection)
            .await
            .context(CONTEXT)?;
    if name {
        return Ok(Some(EnrolOutcome::NameTaken));
    }
    let range: bool = sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT 1 FROM enrolments
             WHERE removed_at IS NULL
               AND ?1 < range_first + (1 << (32 - range_prefix)) AND range_first < ?1 + (1 << (32 - ?2))
         )",
    )
    .bind(wanted.range.0.to_bits())
    .bind(wanted.range.1)
    .fetch_one(connection)
    .await
    .context(CONTEXT)?;
    Ok(range.then_some(EnrolOutcome::RangeTaken))
}

async fn insert_enrolment(connection: &mut SqliteConnection, wanted: &EnrolmentRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO enrolments (node, name, range_first, range_prefix, created_at, removed_at)
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(wanted.node.blob())
    .bind(&wanted.name)
    .bind(wanted.range.0.to_bits())
    .bind(wanted.range.1)
    .bind(wanted.created_at.as_micros())
    .bind(wanted.removed_at.map(wherry_model::Timestamp::as_micros))
    .execute(connection)
    .await
    .context("enrolling a node")
    .map(drop)
}

async fn token(connection: &mut SqliteConnection, id: TokenId) -> Result<Option<JoinTokenRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM join_tokens WHERE id = ?")
        .bind(id.blob())
        .fetch_optional(connection)
        .await
        .context("reading a join token")?;
    row.as_ref().map(token_record).transpose()
}

async fn enrolment(connection: &mut SqliteConnection, node: NodeId) -> Result<Option<EnrolmentRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM enrolments WHERE node = ?")
        .bind(node.blob())
        .fetch_optional(connection)
        .await
        .context("reading an enrolment")?;
    row.as_ref().map(enrolment_record).transpose()
}

fn token_record(row: &SqliteRow) -> Result<JoinTokenRecord, StoreError> {
    let fields = Fields { table: "join_tokens", row };
    let first = fields.count_if_any("range_first")?.map(Ipv4Addr::from_bits);
    Ok(JoinTokenRecord {
        id: fields.id("id")?,
        secret_hash: fields.hash("secret_hash")?,
        range: first.zip(fields.count_if_any("range_prefix")?),
        created_at: fields.time("created_at")?,
        expires_at: fields.time("expires_at")?,
        used_by: fields.id_if_any("used_by")?,
        public_key: fields.hash_if_any("public_key")?,
    })
}

fn enrolment_record(row: &SqliteRow) -> Result<EnrolmentRecord, StoreError> {
    let fields = Fields { table: "enrolments", row };
    Ok(EnrolmentRecord {
        node: fields.id("node")?,
        name: fields.get("name")?,
        range: (Ipv4Addr::from_bits(fields.count("range_first")?), fields.count("range_prefix")?),
        created_at: fields.time("created_at")?,
        removed_at: fields.time_if_any("removed_at")?,
    })
}
