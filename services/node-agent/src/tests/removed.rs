//! Nodes that their fleet knows no more.

use std::time::Duration;

use wherry_agent_api::ControlError;
use wherry_model::{InstanceState as S, RestartPolicy};

use super::world::World;

const WHILE: Duration = Duration::from_secs(5);
/// Longer than a question for the desired state waits, and than a removed node waits to look again.
const LONG: Duration = Duration::from_mins(10);

#[tokio::test(start_paused = true)]
async fn a_removed_node_ends_everything_and_stays_so_without_a_control_plane() {
    let world = World::new();
    let agent = world.agent().await;
    let (kept, more) = (world.create("serve", RestartPolicy::Always), world.create("serve", RestartPolicy::Always));
    world.until_state(kept, S::Running).await;
    world.until_state(more, S::Running).await;
    world.control.refuse(Some(ControlError::Removed));
    world.until("all has ended", |w| ![kept, more].iter().any(|id| w.config().logs_of(*id).exists())).await;
    world.assert_clean().await;
    let starts = world.runtime.calls("StartContainer");
    let said = agent.status().borrow().control_plane_trouble.clone().unwrap();
    assert!(said.contains("removed"), "{said}");

    agent.shut_down(WHILE).await;
    world.control.refuse(None);
    world.control.set_away(true);
    let again = world.agent().await;
    tokio::time::sleep(LONG).await;
    assert_eq!(world.runtime.calls("StartContainer"), starts, "it remembers");
    world.assert_clean().await;
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_ended_before_a_restart_is_ended_after_it() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    world.runtime.set_engine_down(true);
    world.control.refuse(Some(ControlError::Removed));
    let heard = |w: &World| std::fs::read_to_string(w.folder.path().join("desired.json")).unwrap().contains("removed");
    world.until("it has heard", heard).await;
    agent.buried().await;
    world.control.refuse(None);
    world.control.set_away(true);
    world.runtime.set_engine_down(false);
    assert_eq!(world.running().await.len(), 1);
    let _again = world.agent().await;
    world.until("it has ended", |w| !w.config().logs_of(id).exists()).await;
    world.assert_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_merely_refused_ends_nothing() {
    let world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    for refusal in [ControlError::Forbidden("no".to_owned()), ControlError::UnknownNode] {
        world.control.refuse(Some(refusal));
        tokio::time::sleep(LONG).await;
        assert_eq!(world.running().await.len(), 1);
    }
    agent.shut_down(WHILE).await;
    let _again = world.agent().await;
    tokio::time::sleep(LONG).await;
    assert_eq!(world.running().await.len(), 1);
    assert_eq!(world.runtime.calls("StartContainer"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_looks_again_seldom_and_goes_on_when_it_is_one_again() {
    let world = World::new();
    let _agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    world.control.refuse(Some(ControlError::Removed));
    world.until("it has ended", |w| !w.config().logs_of(id).exists()).await;
    tokio::time::sleep(WHILE).await;
    let before = world.control.refused();
    tokio::time::sleep(LONG).await;
    let asked = world.control.refused() - before;
    assert!((2..=12).contains(&asked), "{asked} questions in ten minutes");

    world.control.refuse(None);
    let other = world.create("serve", RestartPolicy::Always);
    world.until_state(other, S::Running).await;
}
