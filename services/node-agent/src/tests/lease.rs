//! What may be replaced is ended when nobody renews the lease, and everything else runs on.

use std::time::Duration;

use wherry_model::{EndReason, InstanceState as S, OnNodeLoss, RestartPolicy};

use super::world::World;

/// Longer than the fence of a minute and what ending takes.
const PAST_THE_FENCE: Duration = Duration::from_secs(65);

fn replaceable(world: &World) -> wherry_model::InstanceId {
    let id = world.create("serve", RestartPolicy::Never);
    let mut instance = world.instance(id);
    instance.spec.on_node_loss = OnNodeLoss::Replace;
    world.control.put(instance);
    id
}

#[tokio::test(start_paused = true)]
async fn what_may_be_replaced_ends_with_the_lease_and_comes_back_with_it() {
    let world = World::new();
    let _agent = world.agent().await;
    let (kept, id) = (world.create("serve", RestartPolicy::Always), replaceable(&world));
    world.until_state(kept, S::Running).await;
    world.until_state(id, S::Running).await;
    world.control.set_away(true);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(world.running().await.len(), 2, "the lease holds");
    tokio::time::sleep(PAST_THE_FENCE.saturating_sub(Duration::from_secs(50))).await;
    assert_eq!(world.running().await.len(), 1);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(world.running().await.len(), 1, "and nothing starts it");
    world.control.set_away(false);
    world.until_run(id, 2).await;
    let end = world.instance(id).containers[0].runs[0].end.clone().unwrap();
    assert_eq!(end.reason, EndReason::NodeLost);
    assert_eq!(world.instance(kept).containers[0].runs.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_extends_no_lease_and_a_reboot_ends_it() {
    let mut world = World::new();
    let agent = world.agent().await;
    let id = replaceable(&world);
    world.until_state(id, S::Running).await;
    world.control.set_away(true);
    tokio::time::sleep(Duration::from_secs(40)).await;
    agent.shut_down(Duration::from_secs(5)).await;
    let agent = world.agent().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.running().await.len(), 1);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(world.running().await.len(), 0);
    world.control.set_away(false);
    world.until_run(id, 2).await;
    world.control.set_away(true);
    agent.buried().await;
    world.boot = "b1".repeat(16).parse().unwrap();
    let _agent = world.agent().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.running().await.len(), 0, "what was renewed before the boot counts for nothing");
}
