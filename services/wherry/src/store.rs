//! The store that the settings name.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use wherry_store::Store;
use wherry_store_postgres::{PostgresSettings, PostgresStore};
use wherry_store_sqlite::SqliteStore;

use crate::data::DataFolder;
use crate::settings::{Settings, without_password};

/// How long who uses the store may take to let go of it at the end.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

/// An open store.
pub(crate) enum OpenStore {
    Sqlite(Arc<SqliteStore>),
    Postgres(Arc<PostgresStore>),
}

impl OpenStore {
    /// Opens it. SQLite's schema is brought up to date on the way, PostgreSQL's by `wherry migrate` only.
    pub(crate) async fn open(data: &DataFolder, settings: &Settings) -> anyhow::Result<Self> {
        let Some(url) = settings.store.database_url()? else {
            let store = SqliteStore::open(data.database()).await.context("cannot open the store")?;
            return Ok(Self::Sqlite(Arc::new(store)));
        };
        let limits = PostgresSettings { max_connections: settings.store.connections, ..PostgresSettings::default() };
        let opened = PostgresStore::open_with(&url, &limits).await;
        let store = opened.with_context(|| format!("cannot use the store {}", without_password(&url)))?;
        Ok(Self::Postgres(Arc::new(store)))
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => Arc::clone(store) as Arc<dyn Store>,
            Self::Postgres(store) => Arc::clone(store) as Arc<dyn Store>,
        }
    }

    /// Whether several processes may use it at once.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Ends in order, whoever else still holds it: a SQLite file that is left is whole without the journal beside it.
    pub(crate) async fn close(self) {
        let closed = async {
            match &self {
                Self::Sqlite(store) => store.close().await,
                Self::Postgres(store) => store.close().await,
            }
        };
        if tokio::time::timeout(CLOSES_WITHIN, closed).await.is_err() {
            tracing::warn!("the store was in use to the end; what is committed is there at the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another that holds it is a request that was cut off, or a task that has not seen yet that all is over.
    #[tokio::test]
    async fn what_is_closed_is_whole_in_its_file_though_another_holds_it() {
        let scratch = tempfile::tempdir().unwrap();
        let data = DataFolder::new(scratch.path()).unwrap();
        let opened = OpenStore::open(&data, &Settings::default()).await.unwrap();
        let held = opened.store();
        held.settle("any", "thing").await.unwrap();
        let journal = data.database().with_extension("db-wal");
        assert!(journal.exists(), "it is where it is looked for");
        opened.close().await;
        assert!(!journal.exists(), "the journal would mend, or undo, what is done to the file");
        assert!(held.settle("any", "thing").await.is_err(), "who still holds it is refused");
    }
}
