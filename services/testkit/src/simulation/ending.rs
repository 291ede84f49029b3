//! The end of a world: all faults are over, and everything comes to rest as its owners want it (I9), billed as it ran (I6);
//! then all is deleted and nothing is left (I4, I5).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use wherry_model::{Instance, InstanceState, Intent};

use super::bill::Bill;
use super::users::Ask;
use super::weather::Chances;
use super::world::World;

/// The longest that anybody waits before the next try: an agent for the control plane, after which everything is to be done
/// within another minute.
const CONTACT: Duration = Duration::from_secs(90);

/// From the last contact on.
const REST: Duration = Duration::from_secs(60);

/// How often it is looked whether all is done.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn settle(world: &mut World) {
    world.oracle.note("all faults are over");
    heal(world).await;
    until_open(world).await;
    if !rests(world, "everything is as its owner wants it", |world| {
        let records = world.oracle.records();
        records.iter().find_map(|record| unsettled(world, record))
    })
    .await
    {
        return;
    }
    check_bills(world);
    check_machines(world).await;
    for record in world.oracle.records() {
        delete(world, &record).await;
    }
    if !rests(world, "everything is deleted", |world| {
        let records = world.oracle.records();
        let left = records.iter().find(|record| record.state != InstanceState::Deleted);
        left.map(|record| format!("{} is {}", record.id, record.state))
    })
    .await
    {
        return;
    }
    check_bills(world);
    sleep(Duration::from_secs(10)).await;
    for machine in &world.machines {
        for (instance, trace) in machine.traces().await {
            world.oracle.violated(format!("I4: {instance} is deleted, and left {trace} on machine {}", machine.index));
        }
    }
    world.check();
}

async fn heal(world: &mut World) {
    world.network.heal();
    for replica in &world.network.replicas {
        replica.set(Chances::default());
        replica.out_for(Duration::ZERO);
        replica.start();
    }
    for machine in &mut world.machines {
        machine.heal().await;
    }
}

/// Operators open every machine again.
async fn until_open(world: &World) {
    let names: Vec<String> = world.machines.iter().map(|machine| machine.name().to_owned()).collect();
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

/// Waits until `missing` finds nothing any more; false when it does for too long.
async fn rests(world: &World, what: &str, missing: impl Fn(&World) -> Option<String>) -> bool {
    let deadline = Instant::now() + CONTACT + REST;
    loop {
        for replica in &world.network.replicas {
            replica.start();
        }
        sleep(LOOK_EVERY).await;
        world.check();
        if !world.oracle.violations().is_empty() {
            return false;
        }
        let Some(missing) = missing(world).or_else(|| zones_differ(world)) else {
            world.oracle.note(what);
            return true;
        };
        if Instant::now() >= deadline {
            world.oracle.violated(format!("I9: it does not come true that {what}: {missing}"));
            return false;
        }
    }
}

/// I7 at rest: every replica answers every name that must be answered, and no other.
fn zones_differ(world: &World) -> Option<String> {
    let visible = world.oracle.visible_names();
    let different = world.network.replicas.iter().position(|replica| replica.zone().len() != visible)?;
    Some(format!("replica {different} does not answer the {visible} names that there are"))
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
    (!rests).then(|| format!("{} ({:?}) is {}: {:?}", record.id, record.intent, record.state, record.message))
}

fn fits_somewhere(world: &World, record: &Instance) -> bool {
    let demand = record.spec.demand();
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

/// I5: what is on a machine belongs to an instance that is placed there.
async fn check_machines(world: &World) {
    let records = world.oracle.records();
    for machine in &world.machines {
        let here: BTreeSet<_> = records
            .iter()
            .filter(|record| record.node == Some(machine.node()) && record.state != InstanceState::Deleted)
            .map(|record| record.id)
            .collect();
        for (instance, trace) in machine.traces().await {
            if !here.contains(&instance) {
                world.oracle.violated(format!("I5: {trace} of {instance} on machine {}, not its place", machine.index));
            }
        }
    }
}

fn check_bills(world: &World) {
    let runs = world.oracle.runs();
    let bill = Bill {
        begun: world.begun,
        began_at: world.began_at,
        tolerance: world.character.clock_tolerance(),
        runs: &runs,
    };
    let exact = world.character.clock_tolerance().is_zero();
    let intervals = world.store.contents().intervals;
    for wrong in bill.wrong(&intervals, |instance| exact && !world.oracle.is_blurred(instance)) {
        world.oracle.violated(wrong);
    }
}
