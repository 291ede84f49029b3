//! Instances that wait for a place.

use tokio::task::JoinSet;
use wherry_model::lifecycle::{Ask, place};
use wherry_model::{InstanceId, InstanceState};
use wherry_store::{Applied, ListQuery};

use crate::world::{asked, at, edges};
use crate::{Subject, World, invariants};

async fn pending(world: &World, limit: u32) -> Vec<InstanceId> {
    world.store.pending(limit).await.unwrap().into_iter().map(|instance| instance.id).collect()
}

/// By their last write, whatever their age and name; no more than asked for; of every tenant; also after reopening.
pub async fn who_waits_longest_comes_first(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, other) = (world.node_for(10).await, world.with_tenant("umbrella").await);
    assert_eq!(pending(&world, 10).await, []);
    world.instance("placed", node, 1).await;
    let instances =
        [world.instance("a", node, 1).await, other.instance("b", node, 2).await, world.instance("c", node, 3).await];
    let mut waiting = Vec::new();
    for (second, number) in (10..).zip([1, 2, 0]) {
        waiting.push(world.displaced(&instances[number], second).await);
    }
    let ids: Vec<InstanceId> = waiting.iter().map(|instance| instance.id).collect();
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.store.pending(10).await.unwrap(), waiting);
    assert_eq!(pending(&world, 2).await, ids[..2]);
    // Written once more: it begins to wait anew.
    let mut again = edges(&waiting[0], Vec::new());
    again.after.updated_at = at(15);
    world.applied(again).await;
    assert_eq!(pending(&world, 10).await, [ids[1], ids[2], ids[0]]);
    world.applied(place(&waiting[1], node, at(20)).unwrap()).await;
    assert_eq!(pending(&world, 10).await, [ids[2], ids[0]]);
    invariants::check(&world.store).await.unwrap();
}

/// Found by id, by name and in lists; on no node, with no address, and nothing is taken for it.
pub async fn a_waiting_instance_is_nowhere(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let running = world.running(&world.instance("web", node, 1).await, 2).await;
    let waiting = world.displaced(&running, 10).await;
    assert_eq!(
        (world.used(node).await, world.store.instances_on(node).await.unwrap().unwrap().instances),
        (0, Vec::new())
    );
    assert_eq!(world.store.addressed(None, 10).await.unwrap(), []);
    assert_eq!(world.read(waiting.id).await, waiting);
    let by_name = world.store.instance_by_name(world.tenant, world.project, &waiting.name).await.unwrap();
    assert_eq!(by_name, Some(waiting.clone()));
    for states in [vec![], vec![InstanceState::Pending]] {
        let query = ListQuery {
            tenant: world.tenant,
            project: world.project,
            states,
            labels: std::collections::BTreeMap::new(),
            after: None,
            limit: 10,
        };
        assert_eq!(world.store.instances(&query).await.unwrap().instances, std::slice::from_ref(&waiting));
    }
    invariants::check(&world.store).await.unwrap();
}

/// However many replicas place it, and wherever.
pub async fn of_racing_places_one_is_taken(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let nodes = [world.node_for(5).await, world.node_for(5).await];
    let waiting = world.waiting("web", nodes[0], 1).await;
    let revision = world.node(nodes[0]).await.desired_revision + world.node(nodes[1]).await.desired_revision;
    let mut tasks = JoinSet::new();
    for number in 0..12 {
        let (store, change) = (world.store.clone(), place(&waiting, nodes[number % 2], at(20)).unwrap());
        tasks.spawn(async move { (store.apply(&change).await.unwrap(), change.after) });
    }
    let outcomes = tasks.join_all().await;
    let taken: Vec<_> = outcomes.iter().filter(|(applied, _)| *applied == Applied::Yes).collect();
    assert_eq!(taken.len(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|(applied, _)| *applied == Applied::LostRace).count(), 11);
    assert_eq!(world.read(waiting.id).await, taken[0].1);
    assert_eq!(world.used(nodes[0]).await + world.used(nodes[1]).await, 1);
    // Only the node that got it has something new to do.
    let after = world.node(nodes[0]).await.desired_revision + world.node(nodes[1]).await.desired_revision;
    assert_eq!(after, revision + 1);
    invariants::check(&world.store).await.unwrap();
}

/// A full node refuses, and the instance goes on waiting as it was.
pub async fn a_refused_place_leaves_it_waiting(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    let waiting = world.waiting("web", node, 1).await;
    world.instance("rival", node, 11).await;
    let change = place(&waiting, node, at(20)).unwrap();
    assert_eq!(world.store.apply(&change).await.unwrap(), Applied::NodeRefused);
    assert_eq!((world.used(node).await, world.store.pending(10).await.unwrap()), (1, vec![waiting.clone()]));
    let gone = world.applied(asked(&waiting, Ask::Delete, 21)).await;
    assert_eq!((gone.state, pending(&world, 10).await), (InstanceState::Deleted, Vec::new()));
    // Its name is free.
    world.waiting("web", world.node_for(1).await, 30).await;
    invariants::check(&world.store).await.unwrap();
}
