//! What all processes on one database must agree on.

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use wherry_store::{InstallationStore, StoreError};

use crate::SqliteStore;
use crate::error::Context;
use crate::writer::Verdict;

#[async_trait]
impl InstallationStore for SqliteStore {
    async fn settle(&self, name: &str, value: &str) -> Result<String, StoreError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.writer.run("settling a value", move |connection| Box::pin(settle(connection, name, value))).await
    }

    async fn keep_learnt(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.writer
            .run_quietly("keeping what was learnt", move |connection| Box::pin(keep(connection, name, value)))
            .await
    }

    async fn learnt(&self, name: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT value FROM learnt WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.readers)
            .await
            .context("reading what was learnt")
    }
}

async fn keep(connection: &mut SqliteConnection, name: String, value: String) -> Result<Verdict<()>, StoreError> {
    sqlx::query(
        "INSERT INTO learnt (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(connection)
    .await
    .context("keeping what was learnt")?;
    Ok(Verdict::Keep(()))
}

async fn settle(connection: &mut SqliteConnection, name: String, value: String) -> Result<Verdict<String>, StoreError> {
    const CONTEXT: &str = "settling a value";
    let inserted = sqlx::query("INSERT INTO installation (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")
        .bind(&name)
        .bind(&value)
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
    if inserted.rows_affected() == 1 {
        return Ok(Verdict::Keep(value));
    }
    let settled = sqlx::query_scalar("SELECT value FROM installation WHERE name = ?")
        .bind(name)
        .fetch_one(connection)
        .await
        .context(CONTEXT)?;
    Ok(Verdict::Undo(settled))
}
