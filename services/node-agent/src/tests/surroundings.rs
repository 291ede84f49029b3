//! Names, ways and neighbours: followed, kept through restarts, and never lost because the control plane is away.

use std::sync::Arc;
use std::time::Duration;

use wherry_agent_api::{NameRecord, Neighbours, Peer, Surroundings};
use wherry_model::{InstanceState as S, RestartPolicy, Revision};

use super::world::World;

fn name(instance: u8, revision: u64) -> NameRecord {
    NameRecord {
        instance: format!("{instance:032x}").parse().unwrap(),
        revision: Revision(revision),
        name: format!("web-{instance}.local.example"),
        address: [10, 128, 1, instance].into(),
    }
}

fn peer(number: u8) -> Peer {
    Peer {
        node: format!("{number:032x}").parse().unwrap(),
        range: ([10, 128, number, 0].into(), 24),
        underlay: [192, 0, 2, number].into(),
    }
}

/// Tag and serial are the first number; the names have that revision.
fn around(tag: u64, names: &[u8], peers: &[u8]) -> Surroundings {
    Surroundings {
        tag,
        apex: "local.example".to_owned(),
        serial: u32::try_from(tag).unwrap(),
        names: names.iter().map(|instance| name(*instance, tag)).collect(),
        peers: peers.iter().map(|number| peer(*number)).collect(),
        neighbours: vec![Neighbours {
            tenant: "aa".repeat(16).parse().unwrap(),
            project: "bb".repeat(16).parse().unwrap(),
            addresses: names.iter().map(|instance| name(*instance, tag).address).collect(),
        }],
    }
}

fn records(world: &World) -> Vec<NameRecord> {
    world.names.latest().map(|names| names.records).unwrap_or_default()
}

async fn until_serves(world: &World, expected: &Surroundings) {
    world
        .until("it serves what is around", |world| {
            let rules = world.firewall.in_force().unwrap_or_default();
            records(world) == expected.names
                && world.routes.peers() == expected.peers
                && rules.elsewhere.neighbours == expected.neighbours
                && rules.elsewhere.ranges.len() == expected.peers.len()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_around_is_followed_and_served_after_a_restart_with_nobody_to_ask() {
    let mut world = World::new();
    let agent = world.agent().await;
    let id = world.create("serve", RestartPolicy::Always);
    world.until_state(id, S::Running).await;
    assert_eq!((world.names.latest(), world.routes.calls()), (None, 0), "nothing is known, nothing is touched");
    world.control.surround(around(4, &[1], &[1]));
    until_serves(&world, &around(4, &[1], &[1])).await;
    let latest = around(7, &[1, 2], &[1, 2]);
    world.control.surround(latest.clone());
    until_serves(&world, &latest).await;
    let serial = world.names.latest().unwrap().serial;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.control.set_away(true);
    agent.buried().await;

    (world.names, world.routes) = (Arc::default(), Arc::default());
    let agent = world.agent().await;
    assert_eq!(records(&world), latest.names, "at once");
    assert!(world.names.latest().unwrap().serial >= serial);
    until_serves(&world, &latest).await;
    tokio::time::sleep(Duration::from_mins(30)).await;
    until_serves(&world, &latest).await;
    assert!(agent.status().borrow().surroundings_trouble.is_some());
    assert_eq!(agent.status().borrow().names, 2);

    world.control.set_away(false);
    let next = around(8, &[2], &[2]);
    world.control.surround(next.clone());
    until_serves(&world, &next).await;
    assert_eq!(agent.status().borrow().surroundings_trouble, None);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_behind_is_believed_only_when_it_stays_so() {
    let world = World::new();
    let agent = world.agent().await;
    world.control.surround(around(9, &[1], &[1]));
    until_serves(&world, &around(9, &[1], &[1])).await;
    let serial = world.names.latest().unwrap().serial;
    world.control.surround(around(5, &[1], &[1, 2]));
    world.until("the new peer is known", |world| world.routes.peers().len() == 2).await;
    assert_eq!(records(&world), [name(1, 9)]);
    // Nor does a restart make it forget.
    tokio::time::sleep(Duration::from_secs(4)).await;
    agent.buried().await;
    let _agent = world.agent().await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(records(&world), [name(1, 9)]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(records(&world), [name(1, 5)]);
    assert!(world.names.latest().unwrap().serial > serial, "the node's own serial only grows");
}

#[tokio::test(start_paused = true)]
async fn ways_that_fail_or_are_lost_are_made_again() {
    let world = World::new();
    let agent = world.agent().await;
    world.routes.fail(3);
    world.control.surround(around(1, &[], &[1]));
    world.until("trouble is shown", |_| agent.status().borrow().routes_trouble.is_some()).await;
    world.until("the way is there", |world| world.routes.peers() == [peer(1)]).await;
    assert_eq!(world.routes.calls(), 4);
    world.until("no trouble is shown", |_| agent.status().borrow().routes_trouble.is_none()).await;
    world.routes.lose();
    world.until("the way is back", |world| world.routes.peers() == [peer(1)]).await;
    let calls = world.routes.calls();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(world.routes.calls() - calls <= 20, "looked at now and then, not all the time");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_or_cannot_be_read_changes_nothing() {
    let world = World::new();
    let agent = world.agent().await;
    let good = around(1, &[1], &[1]);
    world.control.surround(good.clone());
    until_serves(&world, &good).await;
    world.control.surround(Surroundings { peers: vec![peer(1); 10_001], ..around(2, &[2], &[]) });
    world.until("trouble is shown", |_| agent.status().borrow().surroundings_trouble.is_some()).await;
    until_serves(&world, &good).await;
    agent.buried().await;
    std::fs::write(world.folder.path().join("surroundings.json"), "{torn").unwrap();
    let _agent = world.agent().await;
    world.control.surround(around(3, &[3], &[1]));
    until_serves(&world, &around(3, &[3], &[1])).await;
}
