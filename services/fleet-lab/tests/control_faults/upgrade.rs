//! F38, the part of the database: replicas of one release beside the schema of the next, as `migrations/README.md` says.
//!
//! The next release is played: its migrations are done by hand and entered where a migrating binary enters them. The release
//! before is not: `releases.rs` runs its program.

use wherry_api_types::InstanceState;

use crate::database::processes;
use crate::support::{Crowd, Lab, PATIENCE, reach, run_servers, seed};

/// Expanding: a column with a default, an index, a table. Old binaries go on and write without them.
const EXPAND: &str = "
    BEGIN;
    SET LOCAL lock_timeout = '5s';
    ALTER TABLE instances ADD COLUMN IF NOT EXISTS tier text NOT NULL DEFAULT 'standard';
    COMMIT;
    BEGIN;
    CREATE TABLE IF NOT EXISTS tiers (name text PRIMARY KEY);
    CREATE INDEX IF NOT EXISTS instances_by_tier ON instances (tier);
    COMMIT;";

/// What the binary under test does not use: a column of its own past.
const CONTRACT: &str = "DROP TABLE IF EXISTS tiers; DROP INDEX IF EXISTS instances_by_tier";

fn enter(lab: &Lab, version: u32, name: &str) {
    lab.stored(&format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES ({version}, '{name}', true, '\\x00', 0)"
    ));
}

/// A schema is expanded under running replicas, which are then replaced one by one; a contracted one is refused by who does not
/// know what it took away. Nobody is told anything but "ask again".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f38_replicas_work_beside_the_schema_of_the_next_release() {
    let mut lab = Lab::start(2, 1).await;
    let ids = run_servers(&lab, 1, |_| {}).await;
    let before = processes(&lab);
    let mut crowd = Crowd::start(&lab, 2, seed());
    crowd.more(4).await;
    retried(&lab, EXPAND).await;
    enter(&lab, 9_001, "tiers");
    crowd.more(4).await;
    for replica in 0..2 {
        lab.fleet.replicas[replica].stop().await.unwrap();
        crowd.more(2).await;
        lab.fleet.replicas[replica].start().await.unwrap();
        crowd.more(2).await;
    }
    // `wherry migrate` of this release finds nothing to do and takes nothing back.
    let binary = lab.fleet.binary().to_owned();
    lab.fleet.replicas[0].cli(&binary, &["migrate"]).await.unwrap();

    // Contracted, what every binary that knows the newest migration of this one can live without: it starts.
    let newest = lab.stored("SELECT max(version) FROM _sqlx_migrations WHERE version < 9000");
    retried(&lab, CONTRACT).await;
    enter(&lab, 9_002, &format!("contract {newest:0>4} drop tiers"));
    lab.fleet.replicas[0].stop().await.unwrap();
    crowd.more(2).await;
    lab.fleet.replicas[0].start().await.unwrap();
    crowd.more(2).await;

    // Contracted beyond what this binary knows: a replica that runs goes on, one that starts is refused with a sentence.
    enter(&lab, 9_003, "contract 9001 drop what the next release uses");
    crowd.more(2).await;
    lab.fleet.replicas[1].stop().await.unwrap();
    lab.fleet.replicas[1].begin().unwrap();
    let status = lab.fleet.replicas[1].program.ended(PATIENCE).await.unwrap();
    assert!(!status.success(), "it must not work on a schema that it does not know");
    let said = lab.fleet.replicas[1].program.last_lines();
    assert!(said.contains("newer"), "{said}");
    crowd.more(2).await;

    // Back: the schema stays, the binary that knows it comes; here, by the entry being taken back.
    lab.stored("DELETE FROM _sqlx_migrations WHERE version = 9003");
    lab.fleet.replicas[1].start().await.unwrap();
    crowd.more(2).await;
    crowd.leave().await;
    reach(&lab.clients(), &ids[0], InstanceState::Running).await;
    assert_eq!(processes(&lab).get(&ids[0]), before.get(&ids[0]), "no container was restarted by any of this");
    lab.finish().await;
}

/// A replica on a database that was not migrated is refused, and told the way out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f38_a_replica_does_not_start_on_a_schema_that_lacks_its_migrations() {
    let mut lab = Lab::start(1, 0).await;
    lab.fleet.replicas[0].stop().await.unwrap();
    let newest = lab.stored(
        "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations) RETURNING version",
    );
    lab.fleet.replicas[0].begin().unwrap();
    let status = lab.fleet.replicas[0].program.ended(PATIENCE).await.unwrap();
    let said = lab.fleet.replicas[0].program.last_lines();
    assert!(!status.success() && said.contains("wherry migrate"), "without {newest}: {said}");
}

/// As `wherry migrate` on a busy table: a lock that is not got in time is tried again.
async fn retried(lab: &Lab, statements: &str) {
    crate::support::until("the schema is changed", async || {
        let changed = tokio::task::block_in_place(|| lab.fleet.psql(statements));
        match changed {
            Ok(_) => Some(()),
            Err(error) => {
                let said = format!("{error:#}");
                assert!(said.contains("lock timeout"), "{said}");
                None
            }
        }
    })
    .await;
}
