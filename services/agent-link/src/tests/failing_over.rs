//! An agent that loses its replica goes to another.

use futures_util::future::join_all;
use wherry_agent_api::ControlPlane as _;

use super::versions::hello;
use super::world::{Line, Machine, World, heartbeat, node, token, until};
use crate::Identity;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_learns_the_replicas_and_outlives_each_of_them() {
    let world = World::new();
    let (first, second) = (world.replica().await, world.replica().await);
    *world.control.endpoints.lock().unwrap() = vec![first.url.clone(), second.url.clone()];
    let machine = world.machine(&first, 1).await;
    let link = world.link(&machine);
    link.hello(hello(1)).await.unwrap();
    assert_eq!(machine.identity.endpoints(), [first.url.as_str(), second.url.as_str()]);
    let opened = Identity::open(machine.folder.path()).unwrap().unwrap();
    assert_eq!(opened.endpoints(), machine.identity.endpoints(), "they are known at the next start");

    first.end().await;
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    assert_eq!(link.endpoint().unwrap().to_string(), second.url);
    drop(link);
    // Started again while the replica that it joined at is away.
    let link = world.link(&machine);
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    assert_eq!(world.control.heartbeats.lock().unwrap().len(), 2);
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_answer_was_lost_is_sent_again() {
    let world = World::new();
    let replica = world.replica().await;
    let line = Line::to(&replica).await;
    let folder = tempfile::tempdir().unwrap();
    let identity = world.join(folder.path(), world.order(&line.url, &token(1))).await.unwrap();
    let link = world.link(&Machine { identity: std::sync::Arc::new(identity), folder });
    link.heartbeat(heartbeat(node(1), 1)).await.unwrap();
    let cut = line.cutter();
    let mut is_first = true;
    *world.control.when_asked.lock().unwrap() = Some(Box::new(move || {
        if std::mem::take(&mut is_first) {
            cut();
        }
    }));
    link.heartbeat(heartbeat(node(1), 2)).await.unwrap();
    let epochs: Vec<u64> = world.control.heartbeats.lock().unwrap().iter().map(|heartbeat| heartbeat.epoch).collect();
    assert!(epochs == [1, 2] || epochs == [1, 2, 2], "{epochs:?}");
    drop(line);
    replica.end().await;
}

/// Nodes of the storm.
const AGENTS: u8 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn many_agents_come_back_after_their_replica_has_died() {
    let world = World::new();
    let (first, second) = (world.replica().await, world.replica().await);
    let line = Line::to(&first).await;
    *world.control.endpoints.lock().unwrap() = vec![line.url.clone(), second.url.clone()];
    let mut machines = Vec::new();
    for number in 1..=AGENTS {
        let folder = tempfile::tempdir().unwrap();
        let order = world.order(&line.url, &token(number.into()));
        let identity = world.join(folder.path(), order).await.unwrap();
        machines.push(Machine { identity: std::sync::Arc::new(identity), folder });
    }
    let links: Vec<_> = machines.iter().map(|machine| world.link(machine)).collect();
    let told = join_all(links.iter().zip(1..).map(|(link, number)| link.hello(hello(number)))).await;
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    assert_eq!(first.port.connected_nodes(), usize::from(AGENTS));

    line.cutter()();
    drop(line);
    let told = join_all(links.iter().zip(1..).map(|(link, number)| link.heartbeat(heartbeat(node(number), 1)))).await;
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    until("all are at the other replica", || second.port.connected_nodes() == usize::from(AGENTS)).await;
    drop(links);
    first.end().await;
    second.end().await;
}
