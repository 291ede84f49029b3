//! Records that cannot be read.

use wherry_model::InstanceId;
use wherry_store_contract::{World, damage};

use crate::support::PostgresSubject;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_record_costs_itself_alone() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    damage::a_broken_record_costs_itself_alone(&world, async |id: InstanceId| {
        let broken = sqlx::query(
            "UPDATE instances SET record = jsonb_set(record::jsonb, '{revision}', '\"broken\"')::json WHERE id = $1",
        )
        .bind(id.as_uuid())
        .execute(&mut subject.stranger().await)
        .await;
        assert_eq!(broken.unwrap().rows_affected(), 1);
    })
    .await;
}
