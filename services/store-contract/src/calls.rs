//! Calls: each is handed out once, in time or never.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use wherry_model::NodeId;
use wherry_store::CallRecord;

use crate::world::at;
use crate::{Subject, World};

const PATIENCE: Duration = Duration::from_secs(30);

fn call(number: u16, node: NodeId, expires: i64) -> CallRecord {
    let mut ticket_hash = [0; 32];
    ticket_hash[..2].copy_from_slice(&number.to_be_bytes());
    CallRecord { ticket_hash, node, expires_at: at(expires), call: format!("{{\"number\":{number},\"text\":\"ü'\"}}") }
}

async fn take(world: &World, node: NodeId, second: i64) -> Vec<CallRecord> {
    let mut calls = world.store.take_calls(node, at(second)).await.unwrap();
    calls.sort_by_key(|call| call.ticket_hash);
    calls
}

/// As it was posted, to its node and no other, also after reopening.
pub async fn a_call_is_handed_out_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, other) = (world.node_for(1).await, world.node_for(1).await);
    assert_eq!(take(&world, node, 0).await, []);
    let calls = [call(1, node, 60), call(2, node, 90), call(3, other, 60)];
    for call in &calls {
        world.store.post_call(call, at(0)).await.unwrap();
    }
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(take(&world, node, 1).await, calls[..2]);
    assert_eq!(take(&world, node, 1).await, []);
    assert_eq!(take(&world, other, 1).await, calls[2..]);
}

/// From the moment it expires.
pub async fn an_expired_call_is_not_handed_out(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    for (number, expires) in [(1, 10), (2, 11)] {
        world.store.post_call(&call(number, node, expires), at(0)).await.unwrap();
    }
    assert_eq!(take(&world, node, 10).await, [call(2, node, 11)]);
}

/// Nobody takes what nobody waits for any more: later calls take it out, each a bounded number.
pub async fn expired_calls_are_forgotten_bit_by_bit(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, other) = (world.node_for(1).await, world.node_for(1).await);
    for number in 0..250 {
        world.store.post_call(&call(number, node, 10), at(0)).await.unwrap();
    }
    world.store.post_call(&call(1_000, other, 60), at(20)).await.unwrap();
    // Who believes that it is earlier sees what is still there. Posted again, it can be forgotten again.
    let left = take(&world, node, 5).await;
    assert!((150..250).contains(&left.len()), "{} of 250 are left after one call", left.len());
    for call in left {
        world.store.post_call(&call, at(5)).await.unwrap();
    }
    for number in 1_001..1_004 {
        world.store.post_call(&call(number, other, 60), at(20)).await.unwrap();
    }
    assert_eq!(take(&world, node, 5).await, []);
    assert_eq!(take(&world, other, 20).await.len(), 4);
}

/// Replicas that ask for one node at once share its calls, and lose none.
pub async fn of_racing_takers_each_call_has_one(subject: &mut impl Subject) {
    const CALLS: u16 = 60;
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    let poster = tokio::spawn({
        let world = world.clone();
        async move {
            for number in 0..CALLS {
                world.store.post_call(&call(number, node, 60), at(0)).await.unwrap();
            }
        }
    });
    let mut takers = JoinSet::new();
    let deadline = Instant::now() + PATIENCE;
    let (sender, taken) = tokio::sync::watch::channel(0_usize);
    for _ in 0..5 {
        let (world, sender, taken) = (world.clone(), sender.clone(), taken.clone());
        takers.spawn(async move {
            let mut mine = Vec::new();
            while *taken.borrow() < usize::from(CALLS) {
                assert!(Instant::now() < deadline, "calls were lost: {} of {CALLS} came", *taken.borrow());
                let calls = take(&world, node, 1).await;
                sender.send_modify(|count| *count += calls.len());
                mine.extend(calls);
                tokio::task::yield_now().await;
            }
            mine
        });
    }
    poster.await.unwrap();
    let all: Vec<CallRecord> = takers.join_all().await.into_iter().flatten().collect();
    let numbers: BTreeSet<_> = all.iter().map(|call| call.ticket_hash).collect();
    assert_eq!((all.len(), numbers.len()), (usize::from(CALLS), usize::from(CALLS)));
}

/// All of them, each once, and none that is not called.
pub async fn called_nodes_are_those_with_calls(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let nodes = [world.node_for(1).await, world.node_for(1).await, world.node_for(1).await];
    let called = async |second| {
        let told = world.store.called_nodes(at(second)).await.unwrap();
        let nodes: BTreeSet<_> = told.iter().copied().collect();
        assert_eq!(nodes.len(), told.len(), "a node is told twice");
        nodes
    };
    for (number, node, expires) in [(1, nodes[0], 60), (2, nodes[0], 70), (3, nodes[1], 10)] {
        world.store.post_call(&call(number, node, expires), at(0)).await.unwrap();
    }
    assert_eq!(called(5).await, BTreeSet::from([nodes[0], nodes[1]]));
    assert_eq!(called(10).await, BTreeSet::from([nodes[0]]));
    take(&world, nodes[0], 10).await;
    assert_eq!(called(10).await, BTreeSet::new());
}

/// The replica that holds the node's poll learns of the call without waiting for its next look.
pub async fn a_call_wakes_a_waiter(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    let seen = world.store.position();
    world.store.post_call(&call(1, node, 60), at(0)).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while world.store.changed(seen).await == seen {
        assert!(Instant::now() < deadline, "a call wakes nobody");
    }
}
