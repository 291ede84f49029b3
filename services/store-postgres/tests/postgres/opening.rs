//! Opening: what is refused, and with which way out.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use wherry_pg_cluster::Shared;
use wherry_store::TenantStore;
use wherry_store_contract::World;
use wherry_store_postgres::{OpenError, PostgresStore};

use crate::support::{PostgresSubject, open};

#[tokio::test]
async fn opening_changes_no_schema() {
    let database = Shared::join().unwrap().empty_database().unwrap();
    let refused = PostgresStore::open(&database.url()).await.unwrap_err();
    assert!(matches!(refused, OpenError::NotMigrated { found: 0, .. }), "{refused:?}");
    assert!(refused.to_string().contains("wherry migrate"), "{refused}");
    assert_eq!(database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").unwrap(), "0\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_migrate_at_once_do_it_once() {
    let database = Shared::join().unwrap().empty_database().unwrap();
    let url = database.url();
    let (first, second) = tokio::join!(PostgresStore::migrate(&url), PostgresStore::migrate(&url));
    first.unwrap();
    second.unwrap();
    open(&url).await;
}

async fn apply(subject: &PostgresSubject, version: i64, name: &str) {
    let mut connection = PgConnection::connect(&subject.url()).await.unwrap();
    let statement = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES ({version}, '{name}', true, '\\x00', 0)"
    );
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
}

/// Expand and contract: this binary beside the next release's schema, but not beyond.
#[tokio::test]
async fn a_newer_schema_is_accepted_within_one_contract_step() {
    let subject = PostgresSubject::new().await;
    apply(&subject, 9_001, "prices per region").await;
    apply(&subject, 9_002, "contract 0005 drop what this release does not use").await;
    open(&subject.url()).await;
    PostgresStore::migrate(&subject.url()).await.expect("there is nothing to do");
    apply(&subject, 9_003, "contract 9001 drop what it does use").await;
    for refused in [
        PostgresStore::open(&subject.url()).await.map(drop).unwrap_err(),
        PostgresStore::migrate(&subject.url()).await.unwrap_err(),
    ] {
        assert!(matches!(refused, OpenError::NewerVersion { found: 9_003, .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_migration_of_another_build_is_refused() {
    let subject = PostgresSubject::new().await;
    subject.psql("UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 2");
    let refused = PostgresStore::open(&subject.url()).await.unwrap_err();
    assert!(matches!(refused, OpenError::ForeignMigration { version: 2 }), "{refused:?}");
}

#[tokio::test]
async fn what_is_no_database_is_told() {
    let refused = PostgresStore::open("mysql://localhost/wherry").await.unwrap_err();
    assert!(matches!(refused, OpenError::Url(_)), "{refused:?}");
    let refused = PostgresStore::open("postgres://wherry@127.0.0.1:1/wherry").await.unwrap_err();
    assert!(matches!(refused, OpenError::Unavailable(_)), "{refused:?}");
}

/// Whatever the operator has set for the database: an acknowledged write is on disk. What is stricter stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_durable_whatever_the_database_says() {
    for (set, used) in [("off", "on"), ("remote_apply", "remote_apply")] {
        let subject = PostgresSubject::new().await;
        subject.psql(
            "CREATE TABLE settings (name text, value text);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO settings SELECT name, setting FROM pg_settings WHERE name IN
                     ('synchronous_commit', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
                      'transaction_isolation', 'application_name');
                 RETURN NEW;
             END $$;
             CREATE TRIGGER note BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION note();",
        );
        let database = subject.psql("SELECT current_database()");
        let database = database.trim();
        subject.psql(&format!("ALTER DATABASE {database} SET synchronous_commit = {set}"));
        subject.psql(&format!("ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'"));
        let store = open(&subject.url()).await;
        World::bare(
            store.clone(),
            wherry_model::TenantId::from_uuid(uuid::Uuid::nil()),
            wherry_model::ProjectId::from_uuid(uuid::Uuid::nil()),
        )
        .with_tenant("acme")
        .await;
        assert_eq!(store.tenants(None, 10).await.unwrap().len(), 1);
        let settings = subject.psql("SELECT name, value FROM settings ORDER BY name");
        let wanted = format!(
            "application_name|wherry\nidle_in_transaction_session_timeout|5000\nlock_timeout|3000\n\
             statement_timeout|4000\nsynchronous_commit|{used}\ntransaction_isolation|read committed\n"
        );
        assert_eq!(settings, wanted);
    }
}
