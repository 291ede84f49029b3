use futures_util::StreamExt;
use wherry_control::{Background, FleetEvent, FleetEventKind};
use wherry_testkit::{PATIENCE, Stack, eventually, spec};

use crate::support::seconds;

fn kinds(events: &[FleetEvent]) -> Vec<FleetEventKind> {
    events.iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn every_replica_sees_what_happens_to_the_fleet() {
    let stack = Stack::start().await;
    let other = stack.replica().await;
    let background = Background::start(&other);
    let operator = stack.operator();
    stack.control().cordon_node(operator, "node-0").await.unwrap();
    eventually("the other sees it", || async {
        let events = other.fleet_events(operator, 0, 100).unwrap();
        kinds(&events).contains(&FleetEventKind::NodeCordoned).then_some(())
    })
    .await;
    background.stop().await;
    let own = stack.control().fleet_events(operator, 0, 100).unwrap();
    assert!(kinds(&own).contains(&FleetEventKind::Asked), "who asked stands where it was asked: {own:?}");
    assert!(own.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));
    let first = own.first().unwrap().seq;
    assert!(stack.control().fleet_events(operator, first, 100).unwrap().iter().all(|event| event.seq > first));
}

#[tokio::test]
async fn silence_and_return_are_told_once_each() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    stack.let_pass(seconds(16)).await;
    stack.background().await;
    stack.background().await;
    stack.agent().heartbeat().await.unwrap();
    stack.background().await;
    let events = stack.control().fleet_events(stack.operator(), 0, 100).unwrap();
    let wanted = [FleetEventKind::NodeSilent, FleetEventKind::NodeReady];
    let told: Vec<_> = kinds(&events).into_iter().filter(|kind| wanted.contains(kind)).collect();
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn a_stream_replays_and_goes_on() {
    let stack = Stack::start().await;
    let operator = stack.operator();
    stack.control().cordon_node(operator, "node-0").await.unwrap();
    let mut stream = stack.control().fleet_event_stream(operator, 0).unwrap();
    let before = stack.control().fleet_events(operator, 0, 100).unwrap();
    for wanted in &before {
        assert_eq!(stream.next().await.as_ref(), Some(wanted));
    }
    stack.control().uncordon_node(operator, "node-0").await.unwrap();
    let next = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap();
    assert!(next.seq > before.last().unwrap().seq);
}
