//! `wherry migrate`: brings the schema of a PostgreSQL database up to date, which no replica does by itself: an old one may
//! still be running, and an operator chooses the moment.

use anyhow::Context as _;
use wherry_store_postgres::PostgresStore;

use crate::cli::MigrateArgs;
use crate::data::DataFolder;
use crate::settings::{Settings, without_password};

/// Migrates, or says why not.
pub(crate) async fn run(data: &DataFolder, args: &MigrateArgs) -> anyhow::Result<()> {
    let mut settings = Settings::load(args.config.as_deref(), data.root())?;
    if let Some(url) = &args.url {
        settings.store.url = Some(url.clone());
        settings.check().context("--url")?;
    }
    let url = settings.store.database_url()?.context(
        "there is no database to migrate: give --url postgres://…, or store.url in the settings. A SQLite file is brought \
         up to date when Wherry starts",
    )?;
    PostgresStore::migrate(&url).await.with_context(|| without_password(&url))?;
    println!("The schema of {} is up to date.", without_password(&url));
    Ok(())
}
