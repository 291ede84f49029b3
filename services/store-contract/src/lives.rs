//! Whole lives at random, through the lifecycle's own functions: after any of them the oracle is content.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use wherry_model::lifecycle::{self, Ask, Change};
use wherry_model::{Fact, Instance, InstanceId, Leaving, NodeId, Observation, OnNodeLoss};
use wherry_store::{Applied, CreateOutcome, ReportOutcome};

use crate::world::{at, exited, main_container, started};
use crate::{Subject, World, invariants};

#[derive(Debug, Clone, Copy)]
enum Step {
    Create,
    Stop,
    Start,
    Delete,
    PullStarted,
    Started,
    Exited,
    SandboxStopped,
    Removed,
    Silence,
    Recover,
    Leave,
    Evict,
    Lose,
    LoseConfirmed,
    Place,
}

const STEPS: [Step; 16] = [
    Step::Create,
    Step::Stop,
    Step::Start,
    Step::Delete,
    Step::PullStarted,
    Step::Started,
    Step::Exited,
    Step::SandboxStopped,
    Step::Removed,
    Step::Silence,
    Step::Recover,
    Step::Leave,
    Step::Evict,
    Step::Lose,
    Step::LoseConfirmed,
    Step::Place,
];

/// The change that the step makes of the instance, if it makes one.
fn change(instance: &Instance, step: Step, node: NodeId, now: i64) -> Option<Change> {
    let run = instance.first_run;
    let observe = |fact| {
        let observation = Observation {
            seq: 1,
            instance: instance.id,
            generation: instance.generation,
            revision: 0,
            at: at(now),
            fact,
        };
        lifecycle::observe(instance, &observation, at(now)).ok()
    };
    let intend = |ask| lifecycle::intend(instance, ask, "key:test", at(now)).ok().flatten();
    match step {
        Step::Create => None,
        Step::Stop => intend(Ask::Stop),
        Step::Start => intend(Ask::Start(node)),
        Step::Delete => intend(Ask::Delete),
        Step::PullStarted => observe(Fact::PullStarted { container: main_container() }),
        Step::Started => observe(started(run, now)),
        Step::Exited => observe(exited(run, now - 3, now, 1)),
        Step::SandboxStopped => observe(Fact::SandboxStopped),
        Step::Removed => observe(Fact::Removed),
        Step::Silence => lifecycle::silence(instance, at(now - 4), at(now)),
        Step::Recover => lifecycle::recover(instance, &[(main_container(), run)], at(now)),
        Step::Leave => lifecycle::leave(instance, Leaving::Move, at(now)),
        Step::Evict => lifecycle::leave(instance, Leaving::Evict, at(now)),
        Step::Lose => lifecycle::lose(instance, at(now - 4), false, at(now)),
        Step::LoseConfirmed => lifecycle::lose(instance, at(now - 4), true, at(now)),
        Step::Place => lifecycle::place(instance, node, at(now)),
    }
}

/// One caller after another: every change is stored as computed, by itself or in a report.
pub async fn random_lives_keep_the_invariants(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let nodes = [world.node_for(2).await, world.node_for(1).await];
    let journal = world.journal();
    let handle = Handle::current();
    let checked = tokio::task::spawn_blocking(move || {
        let step = (0_usize..3, prop::sample::select(&STEPS[..]), any::<bool>(), -2_i64..8);
        let steps = prop::collection::vec(step, 1..60);
        let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
        let numbers = Cell::new(0);
        runner.run(&steps, |steps| {
            let number = numbers.replace(numbers.get() + 1);
            let project = handle.block_on(world.with_project(&format!("case-{number}")));
            handle.block_on(one_life(&project, nodes, journal, &steps));
            Ok(())
        })
    });
    checked.await.unwrap().unwrap();
}

async fn one_life(
    world: &World,
    nodes: [NodeId; 2],
    journal: wherry_model::JournalId,
    steps: &[(usize, Step, bool, i64)],
) {
    let mut slots: [Option<Instance>; 3] = [const { None }; 3];
    let mut now = 10_000;
    for (slot, step, coin, passed) in steps {
        now += passed;
        let node = nodes[usize::from(*coin)];
        let Some(instance) = slots[*slot].clone() else {
            let loss = if *slot == 0 { OnNodeLoss::Keep } else { OnNodeLoss::Replace };
            let placed = world.create_with(&format!("web-{slot}"), node, now, |spec| spec.on_node_loss = loss);
            if let CreateOutcome::Created(made) = world.store.place_and_create(&placed).await.unwrap() {
                slots[*slot] = Some(*made);
            }
            continue;
        };
        let Some(change) = change(&instance, *step, node, now) else { continue };
        let stored = if *coin && change.takes.is_none() {
            let acknowledged = world.store.acknowledged(node, journal).await.unwrap();
            let changes = std::slice::from_ref(&change);
            let outcome = world.store.apply_report(node, journal, acknowledged, acknowledged + 1, changes, &[]).await;
            assert_eq!(outcome.unwrap(), ReportOutcome::Applied(acknowledged + 1));
            Applied::Yes
        } else {
            world.store.apply(&change).await.unwrap()
        };
        match stored {
            Applied::Yes => slots[*slot] = (change.after.deleted_at.is_none()).then_some(change.after),
            Applied::NodeRefused => assert!(change.takes.is_some()),
            Applied::LostRace => panic!("nobody races here: {change:?}"),
        }
        if let Some(instance) = &slots[*slot] {
            assert_eq!(&world.read(instance.id).await, instance);
        }
    }
    invariants::check(&world.store).await.unwrap();
    // Leave the nodes empty for the next case.
    for instance in slots.into_iter().flatten() {
        let deleting = change(&instance, Step::Delete, nodes[0], now);
        let deleting = match deleting {
            Some(change) => world.applied(change).await,
            None => instance,
        };
        if deleting.deleted_at.is_some() {
            continue;
        }
        world.applied(change(&deleting, Step::Removed, nodes[0], now).expect("it can be removed")).await;
    }
    invariants::check(&world.store).await.unwrap();
    assert_eq!((world.used(nodes[0]).await, world.used(nodes[1]).await), (0, 0));
}

/// Many callers on the same instances, each computing from what it read: late ones lose, nothing is doubled or lost.
pub async fn racing_lives_keep_the_invariants(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let nodes = [world.node_for(3).await, world.node_for(2).await];
    let mut ids = Vec::new();
    for number in 0..4 {
        let node = nodes[usize::from(number == 3)];
        ids.push(world.instance(&format!("web-{number}"), node, i64::from(number)).await.id);
    }
    let mut callers = JoinSet::new();
    for caller in 0..6_u64 {
        callers.spawn(race(world.clone(), ids.clone(), nodes, caller));
    }
    let stored: u32 = callers.join_all().await.into_iter().sum();
    assert!(stored > 20, "only {stored} changes were stored: this proves little");
    invariants::check(&world.store).await.unwrap();
    subject.reopen().await;
    invariants::check(&subject.store()).await.unwrap();
}

/// How many changes of this caller were stored.
async fn race(world: World, ids: Vec<InstanceId>, nodes: [NodeId; 2], caller: u64) -> u32 {
    let mut stored = 0;
    // Knuth's MMIX generator: each caller has its own fixed sequence, only their interleaving differs between runs.
    let mut random = caller;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((random >> 33) % u64::try_from(below).unwrap()).unwrap()
    };
    for round in 0..60 {
        let instance = world.read(ids[draw(ids.len())]).await;
        // Deletes would end the game early; the other cases have them.
        let step = STEPS[draw(STEPS.len())];
        if matches!(step, Step::Delete) {
            continue;
        }
        let Some(change) = change(&instance, step, nodes[draw(2)], 10_000 + round) else { continue };
        if world.store.apply(&change).await.unwrap() == Applied::Yes {
            stored += 1;
        }
    }
    stored
}
