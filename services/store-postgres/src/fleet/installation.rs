//! What all processes on one database must agree on.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use wherry_store::{InstallationStore, StoreError};

use crate::PostgresStore;
use crate::error::Context;
use crate::transaction::{Unit, Verdict};

#[async_trait]
impl InstallationStore for PostgresStore {
    async fn settle(&self, name: &str, value: &str) -> Result<String, StoreError> {
        self.connections.write("settling a value", &Settle { name, value }).await
    }

    async fn keep_learnt(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.connections.write("keeping what was learnt", &KeepLearnt { name, value }).await
    }

    async fn learnt(&self, name: &str) -> Result<Option<String>, StoreError> {
        const CONTEXT: &str = "reading what was learnt";
        let query = sqlx::query("SELECT value FROM learnt WHERE name = $1").bind(name);
        let rows = self.connections.fetch_all(CONTEXT, query).await?;
        rows.first().map(|row| row.try_get("value").context(CONTEXT)).transpose()
    }
}

/// Kept twice it is as kept once.
struct KeepLearnt<'a> {
    name: &'a str,
    value: &'a str,
}

#[async_trait]
impl Unit for KeepLearnt<'_> {
    type Answer = ();

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<()>, StoreError> {
        sqlx::query(
            "INSERT INTO learnt (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(self.name)
        .bind(self.value)
        .execute(connection)
        .await
        .context("keeping what was learnt")?;
        Ok(Verdict::Keep(()))
    }

    fn is_news(&self) -> bool {
        false
    }
}

/// Settled twice it is as settled once.
struct Settle<'a> {
    name: &'a str,
    value: &'a str,
}

#[async_trait]
impl Unit for Settle<'_> {
    type Answer = String;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<String>, StoreError> {
        const CONTEXT: &str = "settling a value";
        let inserted =
            sqlx::query("INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
                .bind(self.name)
                .bind(self.value)
                .execute(&mut *connection)
                .await
                .context(CONTEXT)?;
        if inserted.rows_affected() == 1 {
            return Ok(Verdict::Keep(self.value.to_owned()));
        }
        // A statement of its own sees what the insert has waited for.
        let settled = sqlx::query_scalar("SELECT value FROM installation WHERE name = $1")
            .bind(self.name)
            .fetch_one(connection)
            .await
            .context(CONTEXT)?;
        Ok(Verdict::Undo(settled))
    }
}
