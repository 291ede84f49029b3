//! Join tokens and what they made.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgRow};
use wherry_model::{NodeId, Timestamp, TokenId};
use wherry_store::{EnrolOutcome, EnrolmentRecord, EnrolmentStore, JoinTokenRecord, StoreError};

use crate::PostgresStore;
use crate::columns::Fields;
use crate::error::{Context, constraint_behind, violation};
use crate::rows::columns;
use crate::transaction::{Unit, Verdict};

#[async_trait]
impl EnrolmentStore for PostgresStore {
    async fn create_join_token(&self, token: &JoinTokenRecord) -> Result<(), StoreError> {
        self.connections.write("storing a join token", &CreateToken { token }).await
    }

    async fn join_token(&self, id: TokenId) -> Result<Option<JoinTokenRecord>, StoreError> {
        let query = sqlx::query(concat!("SELECT ", columns!(join_tokens), " FROM join_tokens WHERE id = $1"))
            .bind(id.as_uuid());
        self.connections.fetch_one("reading a join token", query).await?.as_ref().map(token_record).transpose()
    }

    async fn enrol(
        &self,
        token: TokenId,
        public_key: [u8; 32],
        enrolment: &EnrolmentRecord,
    ) -> Result<EnrolOutcome, StoreError> {
        self.connections.write("enrolling a node", &Enrol { token, public_key, wanted: enrolment }).await
    }

    async fn enrolment(&self, node: NodeId) -> Result<Option<EnrolmentRecord>, StoreError> {
        let query = sqlx::query(concat!("SELECT ", columns!(enrolments), " FROM enrolments WHERE node = $1"))
            .bind(node.as_uuid());
        self.connections.fetch_one("reading an enrolment", query).await?.as_ref().map(enrolment_record).transpose()
    }

    async fn enrolments(&self) -> Result<Vec<EnrolmentRecord>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            columns!(enrolments),
            " FROM enrolments WHERE removed_at IS NULL ORDER BY node"
        ));
        self.connections.fetch_all("listing enrolments", query).await?.iter().map(enrolment_record).collect()
    }
}

struct CreateToken<'a> {
    token: &'a JoinTokenRecord,
}

#[async_trait]
impl Unit for CreateToken<'_> {
    type Answer = ();

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<()>, StoreError> {
        let token = self.token;
        sqlx::query(
            "INSERT INTO join_tokens (id, secret_hash, range_first, range_prefix, created_at, expires_at, used_by, public_key)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(token.id.as_uuid())
        .bind(token.secret_hash.to_vec())
        .bind(token.range.map(|(first, _)| i64::from(first.to_bits())))
        .bind(token.range.map(|(_, prefix)| i64::from(prefix)))
        .bind(token.created_at.as_micros())
        .bind(token.expires_at.as_micros())
        .bind(token.used_by.map(|node| node.as_uuid()))
        .bind(token.public_key.map(|key| key.to_vec()))
        .execute(connection)
        .await
        .context("storing a join token")?;
        Ok(Verdict::Keep(()))
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<()>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM join_tokens WHERE id = $1")
            .bind(self.token.id.as_uuid())
            .fetch_optional(connection)
            .await
            .context("storing a join token")?;
        Ok(found.map(drop))
    }
}

/// Run again after a lost COMMIT it finds its token used with its own key: it says `Again`, with what it has made.
struct Enrol<'a> {
    token: TokenId,
    public_key: [u8; 32],
    wanted: &'a EnrolmentRecord,
}

#[async_trait]
impl Unit for Enrol<'_> {
    type Answer = EnrolOutcome;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<EnrolOutcome>, StoreError> {
        // Locked: a token makes one node, whoever comes with it at once.
        let row =
            sqlx::query(concat!("SELECT ", columns!(join_tokens), " FROM join_tokens WHERE id = $1 FOR NO KEY UPDATE"))
                .bind(self.token.as_uuid())
                .fetch_optional(&mut *connection)
                .await
                .context("reading a join token")?;
        let Some(row) = row else { return Ok(Verdict::Undo(EnrolOutcome::TokenRefused)) };
        let known = token_record(&row)?;
        if let Some(node) = known.used_by {
            let row = sqlx::query(concat!("SELECT ", columns!(enrolments), " FROM enrolments WHERE node = $1"))
                .bind(node.as_uuid())
                .fetch_optional(connection)
                .await
                .context("reading an enrolment")?;
            let made = row.as_ref().map(enrolment_record).transpose()?;
            let made =
                made.ok_or_else(|| violation(format!("join token {} made an enrolment that is gone", self.token)))?;
            let same = known.public_key == Some(self.public_key) && made.removed_at.is_none();
            return Ok(Verdict::Undo(if same { EnrolOutcome::Again(made) } else { EnrolOutcome::TokenRefused }));
        }
        if known.expires_at <= self.wanted.created_at {
            return Ok(Verdict::Undo(EnrolOutcome::TokenRefused));
        }
        if let Some(refusal) = self.insert(connection).await? {
            return Ok(Verdict::Undo(refusal));
        }
        sqlx::query("UPDATE join_tokens SET used_by = $1, public_key = $2 WHERE id = $3")
            .bind(self.wanted.node.as_uuid())
            .bind(self.public_key.to_vec())
            .bind(self.token.as_uuid())
            .execute(connection)
            .await
            .context("using a join token")?;
        Ok(Verdict::Keep(EnrolOutcome::Enrolled(self.wanted.clone())))
    }
}

impl Enrol<'_> {
    /// Inserts the enrolment, unless name or range belong to another node. Two that race for them are told apart by the
    /// constraints.
    async fn insert(&self, connection: &mut PgConnection) -> Result<Option<EnrolOutcome>, StoreError> {
        const CONTEXT: &str = "enrolling a node";
        let (first, prefix) = (i64::from(self.wanted.range.0.to_bits()), i64::from(self.wanted.range.1));
        let name: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM enrolments WHERE name = $1 AND removed_at IS NULL)")
                .bind(&self.wanted.name)
                .fetch_one(&mut *connection)
                .await
                .context(CONTEXT)?;
        if name {
            return Ok(Some(EnrolOutcome::NameTaken));
        }
        let mut attempt = connection.begin().await.context(CONTEXT)?;
        let inserted = sqlx::query(
            "INSERT INTO enrolments (node, name, range_first, range_prefix, created_at, removed_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(self.wanted.node.as_uuid())
        .bind(&self.wanted.name)
        .bind(first)
        .bind(prefix)
        .bind(self.wanted.created_at.as_micros())
        .bind(self.wanted.removed_at.map(Timestamp::as_micros))
        .execute(&mut *attempt)
        .await
        .context(CONTEXT);
        match inserted {
            Ok(_) => attempt.commit().await.context(CONTEXT).map(|()| None),
            Err(error) => {
                attempt.rollback().await.context(CONTEXT)?;
                match constraint_behind(&error) {
                    Some("enrolments_live_name") => Ok(Some(EnrolOutcome::NameTaken)),
                    Some("enrolments_do_not_overlap") => Ok(Some(EnrolOutcome::RangeTaken)),
                    _ => Err(error),
                }
            }
        }
    }
}

fn token_record(row: &PgRow) -> Result<JoinTokenRecord, StoreError> {
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

fn enrolment_record(row: &PgRow) -> Result<EnrolmentRecord, StoreError> {
    let fields = Fields { table: "enrolments", row };
    Ok(EnrolmentRecord {
        node: fields.id("node")?,
        name: fields.get("name")?,
        range: (Ipv4Addr::from_bits(fields.count("range_first")?), fields.count("range_prefix")?),
        created_at: fields.time("created_at")?,
        removed_at: fields.time_if_any("removed_at")?,
    })
}
