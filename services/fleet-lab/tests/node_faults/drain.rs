//! Machines are emptied while something is wrong: F39.

use rustix::process::Signal;
use wherry_api_types::{DrainThen, InstanceState, NodeDrainRequest, NodeState};

use crate::lab::{Lab, SHORT, STEADY, signal};

/// Ends only when it is killed.
const DEAF: &str = "trap '' TERM; while :; do sleep 1; done";

fn now(then: DrainThen) -> NodeDrainRequest {
    NodeDrainRequest { grace_seconds: Some(0), then: Some(then) }
}

/// F39: a container that does not want to end is killed after its grace, and the drain is not stuck.
#[tokio::test(flavor = "multi_thread")]
async fn f39_a_drain_gets_over_containers_that_hang() {
    let lab = Lab::start(2, SHORT).await;
    lab.client.cordon_node("node-1").await.unwrap();
    let deaf = lab.run(lab.script("deaf", DEAF)).await;
    let polite = lab.run(lab.script("polite", STEADY)).await;
    lab.client.uncordon_node("node-1").await.unwrap();
    for id in [&deaf.id, &polite.id] {
        lab.history.may_move(id);
    }
    lab.client.drain_node("node-0", &now(DrainThen::Move)).await.unwrap();
    let is_empty = |node: &wherry_api_types::Node| node.drain.as_ref().is_some_and(|drain| drain.left == 0);
    lab.node("node-0", "empty", is_empty).await;
    for id in [&deaf.id, &polite.id] {
        let second = lab.run_number(id, 2).await;
        let first = lab.run_number(id, 1).await;
        assert_eq!((first.machine.as_str(), second.machine.as_str()), ("node-0", "node-1"));
        assert!(first.missed.is_some_and(|ended| ended < second.made), "{first:?} {second:?}");
        lab.reach(id, InstanceState::Running).await;
    }
    // The other way: what is left is stopped for good.
    lab.client.cancel_drain("node-0").await.unwrap();
    lab.client.drain_node("node-1", &now(DrainThen::Stop)).await.unwrap();
    lab.node("node-1", "empty", is_empty).await;
    for id in [&deaf.id, &polite.id] {
        lab.reach(id, InstanceState::Stopped).await;
        assert_eq!(lab.history.runs(id).len(), 2);
    }
    lab.client.cancel_drain("node-1").await.unwrap();
    lab.finish().await;
}

/// F39: the machine dies while it is emptied. The drain waits for it, and a person who knows that it is off ends the wait.
#[tokio::test(flavor = "multi_thread")]
async fn f39_a_drain_of_a_machine_that_dies_waits_until_it_is_confirmed_off() {
    let mut lab = Lab::start(2, SHORT).await;
    lab.client.cordon_node("node-1").await.unwrap();
    let mut body = lab.script("deaf", DEAF);
    // So long that the death comes first.
    body.stop_grace_seconds = Some(600);
    let deaf = lab.run(body).await;
    lab.client.uncordon_node("node-1").await.unwrap();
    lab.history.may_move(&deaf.id);
    lab.client.drain_node("node-0", &now(DrainThen::Move)).await.unwrap();
    lab.reach(&deaf.id, InstanceState::Stopping).await;
    lab.history.gone("node-0");
    lab.machine("node-0").lose_power().await.unwrap();
    let waits =
        lab.node("node-0", "waited for", |node| node.drain.as_ref().is_some_and(|drain| drain.waits_for_node)).await;
    assert_eq!(waits.drain.unwrap().left, 1);
    assert_eq!(lab.history.runs(&deaf.id).len(), 1, "it runs elsewhere and nobody knows that its machine is off");
    lab.client.confirm_node_off("node-0").await.unwrap();
    let second = lab.run_number(&deaf.id, 2).await;
    assert_eq!(second.machine, "node-1");
    lab.reach(&deaf.id, InstanceState::Running).await;
    lab.client.remove_node("node-0").await.unwrap();
    // Its grace is long, so it is told to end by its end.
    signal(&second, Signal::KILL);
    lab.reach(&deaf.id, InstanceState::Failed).await;
    lab.finish().await;
}

/// F39: a drain that is cancelled again and again, while what it has begun goes on.
#[tokio::test(flavor = "multi_thread")]
async fn f39_a_drain_and_its_end_may_cross() {
    let lab = Lab::start(2, SHORT).await;
    lab.client.cordon_node("node-1").await.unwrap();
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(lab.run(lab.script(&format!("moved-{number}"), STEADY)).await.id);
    }
    lab.client.uncordon_node("node-1").await.unwrap();
    for id in &ids {
        lab.history.may_move(id);
    }
    let (one, two) = (lab.client.clone(), lab.client.clone());
    for _ in 0..4 {
        // Which of them is first is open; both are answered, one of them perhaps with a refusal.
        let request = now(DrainThen::Move);
        let (begun, ended) = tokio::join!(one.drain_node("node-0", &request), two.cancel_drain("node-0"));
        for error in [begun.err(), ended.err()].into_iter().flatten() {
            assert_eq!(error.status(), Some(409), "{error}");
        }
    }
    // Whatever happened last, it can be undone, and then everything runs once, somewhere.
    let _ = lab.client.cancel_drain("node-0").await;
    lab.node("node-0", "ready", |node| node.state == NodeState::Ready).await;
    for id in &ids {
        lab.reach(id, InstanceState::Running).await;
    }
    lab.finish().await;
}
