//! Where a Wherry keeps its facts: SQLite in its data folder, or a database of its own on PostgreSQL.

use wherry_pg_cluster::{Database, Shared};

/// Runs the tests of the binary `e2e` on this store: `postgres`.
const VARIABLE: &str = "WHERRY_E2E_STORE";
/// The test binary whose tests are always on PostgreSQL.
const ON_POSTGRES: &str = "e2e_postgres";

/// A new database when this run is on PostgreSQL.
pub(crate) fn database() -> Option<Database> {
    let asked = std::env::var(VARIABLE).ok();
    match asked.as_deref() {
        Some("postgres") => {}
        None if env!("CARGO_CRATE_NAME") == ON_POSTGRES => {}
        None | Some("sqlite") => return None,
        Some(other) => panic!("{VARIABLE}={other}: there are sqlite and postgres"),
    }
    Some(Shared::join().and_then(|server| server.empty_database()).unwrap())
}
