//! How SQLite will run a statement, for tests: a statement that serves a request must not read a whole table.

use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite};

use crate::SqliteStore;

/// Each of `wanted` is in the plan, no table or index is read from end to end, and the one sort that `wanted` may name
/// is the only one.
pub(crate) async fn assert_plan(statement: QueryBuilder<Sqlite>, wanted: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("wherry.db")).await.unwrap();
    let explain = format!("EXPLAIN QUERY PLAN {}", statement.into_string());
    let rows = sqlx::query(AssertSqlSafe(explain)).fetch_all(&store.readers).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
    for step in wanted {
        assert!(plan.iter().any(|line| line.contains(step)), "{step:?} is not in {plan:#?}");
    }
    let sorts = plan.iter().filter(|line| line.contains("TEMP B-TREE")).count();
    let allowed = wanted.iter().filter(|step| step.contains("TEMP B-TREE")).count();
    assert!(sorts <= allowed, "{sorts} sorts in {plan:#?}");
    let scans = plan.iter().filter(|line| line.starts_with("SCAN") && !line.contains("(subquery"));
    assert_eq!(scans.count(), 0, "{plan:#?}");
}
