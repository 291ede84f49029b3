//! Facts that are acknowledged now and applied later, because the record that they are about cannot be read.

use wherry_model::lifecycle::Ask;
use wherry_model::{Fact, Instance, InstanceId, Observation};
use wherry_store::{Applied, DeferredFact, ReportOutcome};

use crate::world::{asked, at, exited, seen, started};
use crate::{Subject, World, invariants};

fn fact(seq: u64, instance: &Instance, fact: Fact) -> Observation {
    let (id, generation) = (instance.id, instance.generation);
    Observation { seq, instance: id, generation, revision: 0, at: at(5), fact }
}

/// What waits of an instance: numbers and what was said.
async fn waiting(world: &World, instance: InstanceId) -> (Vec<u64>, Vec<Observation>) {
    let facts = world.store.deferred_facts(instance, 2_000).await.unwrap();
    facts.into_iter().map(|fact| (fact.number, fact.observation)).unzip()
}

/// They are kept as said, in order, with the acknowledgement or not at all, and only those of who is placed on the node.
pub async fn facts_are_deferred_with_their_acknowledgement(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, other, journal) = (world.node_for(5).await, world.node_for(5).await, world.journal());
    let (web, shop) = (world.instance("web", node, 1).await, world.instance("shop", node, 1).await);
    let elsewhere = world.instance("elsewhere", other, 1).await;
    let gone = world.deleted(&world.instance("gone", node, 1).await, 2).await;
    let said = [
        fact(1, &web, started(1, 2)),
        fact(2, &shop, started(1, 2)),
        fact(3, &elsewhere, started(1, 2)),
        fact(4, &gone, started(1, 2)),
        fact(5, &web, exited(1, 2, 4, 0)),
    ];
    let report = |after, through| world.store.apply_report(node, journal, after, through, &[], &said);
    assert_eq!(report(0, 5).await.unwrap(), ReportOutcome::Applied(5));
    assert_eq!(report(0, 5).await.unwrap(), ReportOutcome::Superseded(5), "once");
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.store.acknowledged(node, journal).await.unwrap(), 5);
    let (numbers, found) = waiting(&world, web.id).await;
    assert_eq!(found, [said[0].clone(), said[4].clone()]);
    assert!(numbers[0] < numbers[1]);
    let first = world.store.deferred_facts(web.id, 1).await.unwrap();
    assert_eq!(first, [DeferredFact { number: numbers[0], node, observation: said[0].clone() }]);
    assert_eq!(waiting(&world, shop.id).await.1, [said[1].clone()]);
    let mut both = [web.id, shop.id];
    both.sort_unstable();
    assert_eq!(world.store.deferred_instances(None, 10).await.unwrap(), both);
    assert_eq!(world.store.deferred_instances(None, 1).await.unwrap(), both[..1]);
    assert_eq!(world.store.deferred_instances(Some(both[0]), 10).await.unwrap(), both[1..]);
    // A change of another that comes too late takes all of its report back.
    let late = seen(&shop, 6, started(1, 2));
    world.store.apply_deferred(shop.id, &waiting(&world, shop.id).await.0, &[]).await.unwrap();
    world.applied(asked(&shop, Ask::Stop, 3)).await;
    let mixed = world.store.apply_report(node, journal, 5, 6, &[late], &[fact(6, &web, Fact::SandboxStopped)]).await;
    assert_eq!(mixed.unwrap(), ReportOutcome::LostRace);
    assert_eq!(waiting(&world, web.id).await.1.len(), 2);
}

/// Nobody overtakes what waits.
pub async fn a_change_ahead_of_deferred_facts_is_refused(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(5).await, world.journal());
    let (web, shop) = (world.instance("web", node, 1).await, world.instance("shop", node, 1).await);
    let first = [fact(1, &web, started(1, 2))];
    world.store.apply_report(node, journal, 0, 1, &[], &first).await.unwrap();
    let changes = [seen(&shop, 3, started(1, 2)), seen(&web, 3, exited(1, 2, 3, 0))];
    let outcome = world.store.apply_report(node, journal, 1, 3, &changes, &[]).await.unwrap();
    assert_eq!(outcome, ReportOutcome::Behind(vec![web.id]));
    assert_eq!((world.read(shop.id).await, world.read(web.id).await), (shop.clone(), web.clone()));
    assert_eq!(world.store.acknowledged(node, journal).await.unwrap(), 1);
    let later = [fact(3, &web, exited(1, 2, 3, 0))];
    let outcome = world.store.apply_report(node, journal, 1, 3, &changes[..1], &later).await.unwrap();
    assert_eq!(outcome, ReportOutcome::Applied(3));
    assert_eq!(waiting(&world, web.id).await.1, [first[0].clone(), later[0].clone()]);
    assert_eq!(world.read(shop.id).await, changes[0].after);
}

/// What they change and that they wait no more is one write, made once.
pub async fn deferred_facts_are_applied_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(5).await, world.journal());
    let web = world.instance("web", node, 1).await;
    let said = [fact(1, &web, started(1, 2)), fact(2, &web, exited(1, 2, 7, 0)), fact(3, &web, Fact::SandboxStopped)];
    world.store.apply_report(node, journal, 0, 3, &[], &said).await.unwrap();
    let (numbers, _) = waiting(&world, web.id).await;
    let begun = seen(&web, 8, started(1, 2));
    let ended = seen(&begun.after, 8, exited(1, 2, 7, 0));
    let apply = |numbers: &[u64], changes: &[_]| {
        let (store, numbers, changes) = (world.store.clone(), numbers.to_vec(), changes.to_vec());
        async move { store.apply_deferred(web.id, &numbers, &changes).await.unwrap() }
    };
    // The record is not what the change was computed from.
    assert_eq!(apply(&numbers[..2], std::slice::from_ref(&ended)).await, Applied::LostRace);
    // One of them is of another instance, or is not there.
    let shop = world.instance("shop", node, 1).await;
    assert_eq!(world.store.apply_deferred(shop.id, &numbers[..1], &[]).await.unwrap(), Applied::LostRace);
    assert_eq!(apply(&[numbers[0], numbers[2] + 100], std::slice::from_ref(&begun)).await, Applied::LostRace);
    assert_eq!((waiting(&world, web.id).await.0, world.read(web.id).await), (numbers.clone(), web.clone()));
    assert_eq!(apply(&numbers[..2], &[begun.clone(), ended.clone()]).await, Applied::Yes);
    assert_eq!(apply(&numbers[..2], &[begun, ended.clone()]).await, Applied::LostRace);
    assert_eq!((waiting(&world, web.id).await.0, world.read(web.id).await), (vec![numbers[2]], ended.after.clone()));
    let intervals = world.intervals(web.id).await;
    assert_eq!(intervals.iter().map(|i| i.end_second.unwrap() - i.start_second).collect::<Vec<_>>(), [5]);
    // Those that change nothing go too, and a number is not given again.
    assert_eq!(apply(&numbers[2..], &[]).await, Applied::Yes);
    assert!(world.store.deferred_instances(None, 10).await.unwrap().is_empty());
    world.store.apply_report(node, journal, 3, 4, &[], &[fact(4, &web, Fact::SandboxStopped)]).await.unwrap();
    assert!(waiting(&world, web.id).await.0[0] > numbers[2]);
    invariants::check(&world.store).await.unwrap();
}

/// Beyond the bound nothing is stored and nothing acknowledged.
pub async fn no_more_facts_are_deferred_than_may_be(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(5).await, world.journal());
    let (web, shop) = (world.instance("web", node, 1).await, world.instance("shop", node, 1).await);
    let most = u64::from(DeferredFact::MAX_PER_INSTANCE);
    let mut through = 0;
    while through + 1 < most {
        let next = (through + 250).min(most - 1);
        let said: Vec<Observation> = (through + 1..=next).map(|seq| fact(seq, &web, started(1, 2))).collect();
        let outcome = world.store.apply_report(node, journal, through, next, &[], &said).await.unwrap();
        assert_eq!(outcome, ReportOutcome::Applied(next));
        through = next;
    }
    let two = [1, 2].map(|more| fact(through + more, &web, started(1, 2)));
    let outcome = world.store.apply_report(node, journal, through, through + 2, &[], &two).await.unwrap();
    assert_eq!(outcome, ReportOutcome::Full(web.id));
    assert_eq!(world.store.acknowledged(node, journal).await.unwrap(), through);
    assert_eq!(waiting(&world, web.id).await.1.len() as u64, through);
    // One has room, and so have those of another.
    let mixed = [two[0].clone(), fact(through + 2, &shop, started(1, 2))];
    let outcome = world.store.apply_report(node, journal, through, through + 2, &[], &mixed).await.unwrap();
    assert_eq!(outcome, ReportOutcome::Applied(through + 2));
    assert_eq!(waiting(&world, web.id).await.1.len() as u64, most);
}

/// They go with their instance.
pub async fn deferred_facts_are_purged_with_their_instance(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(5).await, world.journal());
    let web = world.instance("web", node, 1).await;
    world.store.apply_report(node, journal, 0, 1, &[], &[fact(1, &web, started(1, 2))]).await.unwrap();
    world.deleted(&web, 10).await;
    assert_eq!(waiting(&world, web.id).await.0.len(), 1);
    world.store.purge(at(20), 100).await.unwrap();
    assert!(world.store.deferred_instances(None, 10).await.unwrap().is_empty());
    assert!(waiting(&world, web.id).await.0.is_empty());
}
