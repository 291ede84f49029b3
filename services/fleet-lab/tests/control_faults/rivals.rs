//! F04: two replicas place the same waiting instance at the same moment.

use wherry_api_types::{InstanceState, OnNodeLoss};

use crate::support::{Lab, reach, run_servers, told, until};

const SETTINGS: &str = "[fleet]\ndetection_seconds = 5\nfence_after_seconds = 10\nfence_margin_seconds = 20\n";

/// The lease keeps nobody off any more: whoever asks gets it. And who places an instance waits in the middle of it, with the
/// record's row in hand, until the barrier opens or the statement has taken too long.
const SABOTAGE: &str = "
    CREATE FUNCTION forget_lease() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN DELETE FROM leases; RETURN NULL; END $$;
    CREATE TRIGGER forget_lease AFTER INSERT OR UPDATE ON leases FOR EACH ROW EXECUTE FUNCTION forget_lease();
    CREATE TABLE barrier (closed boolean);
    INSERT INTO barrier VALUES (true);
    CREATE FUNCTION wait_at_barrier() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        WHILE EXISTS (SELECT 1 FROM barrier WHERE closed) LOOP PERFORM pg_sleep(0.02); END LOOP;
        RETURN NEW;
    END $$;
    CREATE TRIGGER wait_at_barrier BEFORE UPDATE ON instances FOR EACH ROW
    WHEN (OLD.state = 'pending' AND NEW.state <> 'pending') EXECUTE FUNCTION wait_at_barrier()";

/// One sits in the barrier, another waits for the same row.
const BOTH: &str = "
    SELECT count(*) FILTER (WHERE wait_event = 'PgSleep') > 0 AND count(*) FILTER (WHERE wait_event_type = 'Lock') > 0
    FROM pg_stat_activity WHERE application_name = 'wherry' AND query LIKE '%instances%'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f04_of_two_replicas_that_place_one_instance_one_wins() {
    let mut lab = Lab::start_with(2, 2, SETTINGS).await;
    let clients = lab.clients();
    let names: Vec<String> = lab.fleet.machines.iter().map(|machine| machine.host.name.clone()).collect();
    told(&clients, 0, async |client| client.cordon_node(&names[1]).await).await;
    let ids = run_servers(&lab, 1, |body| body.on_node_loss = Some(OnNodeLoss::Replace)).await;
    told(&clients, 0, async |client| client.uncordon_node(&names[1]).await).await;

    lab.stored(SABOTAGE);
    for replica in &lab.fleet.replicas {
        until("both replicas do the background work", async || {
            replica.program.log().contains("this replica does the background work").then_some(())
        })
        .await;
    }
    lab.fleet.machines[0].lose_power().await.unwrap();
    lab.history.gone(&names[0]);
    // Refused until the machine is silent for long enough.
    until("the machine is confirmed to be off", async || clients[0].confirm_node_off(&names[0]).await.ok()).await;
    until("both place it at once", async || (lab.stored(BOTH) == "t").then_some(())).await;
    lab.stored("UPDATE barrier SET closed = false");

    reach(&clients, &ids[0], InstanceState::Running).await;
    assert_eq!(lab.placed_again(&ids[0]), 1, "it was placed once more, not twice");
    assert_eq!(lab.stored("SELECT sum(used_instances) FROM nodes"), "1", "one of the two took room");
    lab.finish().await;
}
