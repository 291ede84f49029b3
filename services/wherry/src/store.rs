//! The store that the settings name.

use std::sync::Arc;

use anyhow::Context as _;
use wherry_store::Store;
use wherry_store_postgres::{PostgresSettings, PostgresStore};
use wherry_store_sqlite::SqliteStore;

use crate::data::DataFolder;
use crate::settings::{Settings, without_password};

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

    /// Ends in order, once nobody else uses it.
    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(store) => {
                if let Ok(store) = Arc::try_unwrap(store) {
                    store.close().await;
                }
            }
            Self::Postgres(store) => store.close().await,
        }
    }
}
