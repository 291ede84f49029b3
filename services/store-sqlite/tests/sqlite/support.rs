//! A store on a file in a folder of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use wherry_store::Store;
use wherry_store_contract::Subject;
use wherry_store_sqlite::SqliteStore;

pub(crate) struct SqliteSubject {
    folder: TempDir,
    store: Arc<SqliteStore>,
}

impl SqliteSubject {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder can be made");
        let store = open(folder.path()).await;
        Self { folder, store }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        database(self.folder.path())
    }

    /// Closes the store in order; the folder lives on with what is returned.
    pub(crate) async fn closed(self) -> (TempDir, PathBuf) {
        self.store.close().await;
        let path = self.path();
        (self.folder, path)
    }
}

pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join("wherry.db")
}

pub(crate) async fn open(folder: &Path) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(database(folder)).await.expect("the database can be opened"))
}

/// A connection of somebody else.
pub(crate) fn raw(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).foreign_keys(true)
}

#[async_trait]
impl Subject for SqliteSubject {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = open(self.folder.path()).await;
    }
}
