//! A data folder that an agent of protocol 1 left behind, from before leases, epochs and surroundings: the machine was
//! rebooted and upgraded, and the control plane is away.

use wherry_agent_api::Desired;
use wherry_model::{EndReason, Fact, InstanceId, InstanceState as S, RestartPolicy};

use super::world::World;

const FILES: [(&str, &str); 4] = [
    ("desired.json", include_str!("protocol_1/desired.json")),
    ("said.json", include_str!("protocol_1/said.json")),
    ("journal.log", include_str!("protocol_1/journal.log")),
    ("proof.json", include_str!("protocol_1/proof.json")),
];

#[tokio::test(start_paused = true)]
async fn what_an_agent_of_protocol_1_left_is_brought_back() {
    let mut world = World::new();
    for (name, content) in FILES {
        std::fs::write(world.folder.path().join(name), content).unwrap();
    }
    let desired: Desired = serde_json::from_str(FILES[0].1).unwrap();
    assert_eq!((desired.epoch, desired.instances[0].fence_after_seconds), (0, None));
    world.boot = "b1".repeat(16).parse().unwrap();
    world.control.set_away(true);
    let agent = world.agent().await;
    world.until("it runs, with nobody to ask", |world| world.runtime.calls("StartContainer") == 1).await;
    assert_eq!(world.running().await.len(), 1);

    let id: InstanceId = world.create("serve", RestartPolicy::Always);
    assert_eq!(id, desired.instances[0].id, "the control plane knows it too");
    world.control.set_away(false);
    world.until_run(id, 2).await;
    world.until_state(id, S::Running).await;
    let facts = world.control.facts(id);
    assert!(matches!(facts[0], Fact::PullStarted { .. }), "from the old journal on: {facts:?}");
    let runs = &world.instance(id).containers[0].runs;
    assert_eq!((runs.len(), runs[0].end.as_ref().unwrap().reason), (2, EndReason::NodeLost));
    assert_eq!(agent.status().borrow().count(crate::Phase::Running), 1);
    assert_eq!(world.running().await.len(), 1, "and once only");
}
