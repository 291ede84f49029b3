//! The end of a world: all faults are over, and everything comes to rest as its owners want it (I9), billed as it ran (I6);
//! then all is deleted and nothing is left (I4, I5).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use wherry_model::{Instance, InstanceState, Intent, NodeId};

use super::bill::Bill;
use super::fleet;
use super::machine::Machine;
use super::users::Ask;
use super::weather::Chances;
use super::world::World;

/// The longest that anybody waits before the next try: an agent for the control plane, after which everything is to be done
/// within another minute.
const CONTACT: Duration = Duration::from_secs(90);

/// From the last contact on.
const REST: Duration = Duration::from_mins(1);

/// How often it is looked whether all is done.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a world at rest is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Every instance is as its owner wants it.
    Wanted,
    /// Everything is deleted.
    Deleted,
}

pub(super) async fn settle(world: &mut World) {
    world.oracle.note("all faults are over");
    heal(world).await;
    until_open(world).await;
    if !rests(world, Goal::Wanted).await {
        return;
    }
    for record in world.oracle.records() {
        delete(world, &record).await;
    }
    rests(world, Goal::Deleted).await;
}

async fn heal(world: &mut World) {
    world.network.heal();
    for replica in &world.network.replicas {
        replica.set(Chances::default());
        replica.out_for(Duration::ZERO);
        replica.freeze(false);
        replica.start();
    }
    // Who is joining, or being taken out, comes to an end with that first.
    let mut looks = 0_u32;
    while world.users.are_asking() && looks < 120 {
        sleep(LOOK_EVERY).await;
        looks += 1;
    }
    fleet::adopt(world).await;
    for machine in world.machines.iter_mut().filter(|machine| machine.power || !machine.removed) {
        machine.heal().await;
    }
}

/// Operators open every machine again.
async fn until_open(world: &World) {
    let here = world.machines.iter().filter(|machine| !machine.removed);
    let names: Vec<String> = here.map(|machine| machine.name().to_owned()).collect();
    for name in names {
        let mut tries = 0_u32;
        while !world.users.open(&name).await {
            tries += 1;
            if tries > 120 {
                world.oracle.violated(format!("I9: {name} cannot be opened although all faults are over"));
                return;
            }
            // Replicas that died may still be on their way back.
            for replica in &world.network.replicas {
                replica.start();
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Waits until nothing of the goal is missing any more; false when something is for too long.
async fn rests(world: &World, goal: Goal) -> bool {
    let deadline = Instant::now() + CONTACT + REST;
    loop {
        for replica in &world.network.replicas {
            replica.start();
        }
        sleep(LOOK_EVERY).await;
        world.check();
        for wrong in bill(world).overcharged(&world.store.contents().intervals) {
            world.oracle.violated(wrong);
        }
        if !world.oracle.violations().is_empty() {
            return false;
        }
        let Some(missing) = missing(world, goal).await else {
            world.oracle.note(format!("the world is at rest: {goal:?}"));
            return true;
        };
        if Instant::now() >= deadline {
            world.oracle.violated(missing);
            return false;
        }
    }
}

/// The first thing that is not as it must be at rest.
async fn missing(world: &World, goal: Goal) -> Option<String> {
    if world.users.are_asking() {
        return Some("I9: somebody is still asking".to_owned());
    }
    let records = world.oracle.records();
    let found = match goal {
        Goal::Wanted => records.iter().find_map(|record| unsettled(world, record)),
        Goal::Deleted => {
            let left = records.iter().find(|record| record.state != InstanceState::Deleted);
            left.map(|record| format!("I9: {} is {} and not deleted", record.id, record.state))
        }
    };
    if let Some(found) = found.or_else(|| zones_differ(world)).or_else(|| surroundings_differ(world)) {
        return Some(found);
    }
    if let Some(trace) = misplaced(world, &records).await {
        return Some(trace);
    }
    let exact = world.character.clock_tolerance().is_zero();
    let whole = |instance| exact && !world.oracle.is_blurred(instance);
    bill(world).undercharged(&world.store.contents().intervals, whole)
}

/// I7 at rest: every replica answers every name that must be answered, and no other.
fn zones_differ(world: &World) -> Option<String> {
    let visible = world.oracle.visible_names();
    let different = world.network.replicas.iter().position(|replica| replica.zone().len() != visible)?;
    Some(format!("I7: replica {different} does not answer the {visible} names that there are"))
}

/// I7 at rest, on the machines: the resolver of each answers just what is so, and there is a way to every other one.
fn surroundings_differ(world: &World) -> Option<String> {
    let present: BTreeSet<NodeId> =
        world.machines.iter().filter(|machine| !machine.removed).map(Machine::node).collect();
    let visible = world.oracle.visible_addresses();
    world.machines.iter().filter(|machine| !machine.removed).find_map(|machine| {
        let mut others = present.clone();
        others.remove(&machine.node());
        let (answers, peers) = (machine.answers(), machine.peers());
        if answers != visible {
            return Some(format!("I7: machine {} answers {answers:?}, and there are {visible:?}", machine.index));
        }
        let astray = peers != others;
        astray.then(|| format!("I9: machine {} has ways to {peers:?}, and there are {others:?}", machine.index))
    })
}

/// What is not yet as the owner wants it.
fn unsettled(world: &World, record: &Instance) -> Option<String> {
    let ended = record.state.is_settled() && !record.holds_resources;
    let waits_for_restart = record.containers.iter().any(|container| container.restart_at.is_some());
    let rests = match record.intent {
        Intent::Run => {
            ended
                || record.state == InstanceState::Running
                || (record.state == InstanceState::Starting && waits_for_restart)
                || (record.state == InstanceState::Pending && !fits_somewhere(world, record))
        }
        Intent::Stop => ended,
        Intent::Delete => record.state == InstanceState::Deleted,
    };
    (!rests).then(|| format!("I9: {} ({:?}) is {}: {:?}", record.id, record.intent, record.state, record.message))
}

fn fits_somewhere(world: &World, record: &Instance) -> bool {
    let demand = record.demand();
    world.store.contents().nodes.iter().any(|node| node.capacity.minus(node.used).holds(demand))
}

async fn delete(world: &World, record: &Instance) {
    if record.intent == Intent::Delete {
        return;
    }
    let caller = world.users.caller_of(record);
    for _ in 0..30 {
        if let Some(Ok(_)) = world.users.put(caller, record, Ask::Delete).await {
            world.oracle.deleted(record.id);
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
    world.oracle.violated(format!("I9: {} cannot be deleted although all faults are over", record.id));
}

/// I4 and I5: what is on a machine belongs to an instance that is placed there and not deleted.
async fn misplaced(world: &World, records: &[Instance]) -> Option<String> {
    for machine in &world.machines {
        let here: BTreeSet<_> = records
            .iter()
            .filter(|record| record.node == Some(machine.node()) && record.state != InstanceState::Deleted)
            .map(|record| record.id)
            .collect();
        if machine.removed {
            // Nobody tells it to remove anything, but it must not run anything either.
            if let Some((container, instance)) = machine.running_now().first() {
                return Some(format!("I5: {container} of {instance} runs on machine {}, taken out", machine.index));
            }
            continue;
        }
        for (instance, trace) in machine.traces().await {
            if !here.contains(&instance) {
                return Some(format!("I5: {trace} of {instance} on machine {}, not its place", machine.index));
            }
        }
    }
    None
}

fn bill(world: &World) -> Bill {
    let tolerance = world.character.clock_tolerance();
    Bill { begun: world.begun, began_at: world.began_at, tolerance, runs: world.oracle.runs() }
}
