//! Events: numbered in the order in which they can be read.

use std::collections::BTreeSet;

use tokio::task::JoinSet;
use wherry_model::{Fact, Instance, NodeId};
use wherry_store::{EventQuery, StoredEvent, Trimmed};

use crate::world::{asked, at, exited, seen, started};
use crate::{Subject, World};

fn query(world: &World, after: u64, limit: u32) -> EventQuery {
    EventQuery { tenant: world.tenant, project: world.project, instance: None, after, limit }
}

fn numbers(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

/// Ascending, no further than asked, and from anywhere again.
pub async fn events_are_read_in_order_and_in_pages(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(20).await;
    for number in 0..5 {
        let made = world.instance(&format!("web-{number}"), node, number).await;
        world.running(&made, 10).await;
    }
    let all = world.events().await;
    assert_eq!(all.len(), 10);
    assert!(all.is_sorted_by(|a, b| a.seq < b.seq), "{all:?}");
    for limit in [1, 3, 10, 11] {
        let mut walked = Vec::new();
        loop {
            let after = walked.last().map_or(0, |event: &StoredEvent| event.seq);
            let page = world.store.events(&query(&world, after, limit)).await.unwrap();
            assert!(page.len() <= usize::try_from(limit).unwrap());
            if page.is_empty() {
                break;
            }
            walked.extend(page);
        }
        assert_eq!(walked, all, "pages of {limit}");
    }
    let replay = world.store.events(&query(&world, all[3].seq, 100)).await.unwrap();
    assert_eq!(replay, all[4..]);
    assert_eq!(world.store.events(&query(&world, u64::MAX, 100)).await.unwrap(), []);
}

/// Only of that instance, with the numbers that they have in the project.
pub async fn events_of_one_instance(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(20).await;
    let (first, second) = (world.instance("a", node, 1).await, world.instance("b", node, 2).await);
    world.running(&second, 3).await;
    world.running(&first, 4).await;
    for instance in [first, second] {
        let wanted: Vec<_> = world.events().await.into_iter().filter(|event| event.instance == instance.id).collect();
        assert_eq!(wanted.len(), 2);
        let query = EventQuery { instance: Some(instance.id), ..query(&world, 0, 100) };
        assert_eq!(world.store.events(&query).await.unwrap(), wanted);
        let query = EventQuery { after: wanted[0].seq, ..query };
        assert_eq!(world.store.events(&query).await.unwrap(), wanted[1..]);
    }
}

/// A number is never given again, also when the highest one was forgotten.
pub async fn numbers_grow_over_reopening_and_purging(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(20).await;
    world.deleted(&world.instance("old", node, 1).await, 2).await;
    let highest = *numbers(&world.events().await).last().unwrap();
    world.store.purge(at(1_000), 100).await.unwrap();
    assert_eq!(world.events().await, []);
    subject.reopen().await;
    let world = world.on(subject);
    world.instance("new", node, 3).await;
    let events = numbers(&world.events().await);
    assert!(events[0] > highest, "{events:?} after {highest}");
}

/// A reader that remembers the last number that it saw misses nothing, however writers interleave.
pub async fn readers_miss_no_event_while_writers_write(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(200).await;
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let world = world.clone();
        writers.spawn(async move {
            for number in 0..10 {
                world.instance(&format!("web-{writer}-{number}"), node, number).await;
            }
        });
    }
    let mut seen: Vec<StoredEvent> = Vec::new();
    let mut written = false;
    loop {
        let after = seen.last().map_or(0, |event| event.seq);
        let page = world.store.events(&query(&world, after, 7)).await.unwrap();
        if page.is_empty() && written {
            break;
        }
        seen.extend(page);
        // Only an empty page that was read after the last writer had ended is the end.
        while writers.try_join_next().transpose().unwrap().is_some() {}
        written = writers.is_empty();
        tokio::task::yield_now().await;
    }
    let distinct: BTreeSet<_> = seen.iter().map(|event| event.instance).collect();
    assert_eq!((seen.len(), distinct.len()), (80, 80));
    assert_eq!(seen, world.events().await);
}

/// A running instance that has crashed and come back so often: two events each.
async fn crashing(world: &World, name: &str, node: NodeId, crashes: u32) -> Instance {
    let mut instance = world.running(&world.instance(name, node, 1).await, 2).await;
    for run in 1..=crashes {
        let second = i64::from(run) * 10;
        let mut crashed = exited(run, second, second + 1, 1);
        if let Fact::ContainerExited { restart_at, .. } = &mut crashed {
            *restart_at = Some(at(second + 2));
        }
        instance = world.applied(seen(&instance, second + 1, crashed)).await;
        instance = world.applied(seen(&instance, second + 2, started(run + 1, second + 2))).await;
    }
    instance
}

/// Looks at everything, a few instances and events at a time. How many went, and in how many steps.
async fn trimmed(world: &World, keep: u32, instances: u32, limit: u32) -> (u64, u32) {
    let (mut after, mut gone) = (None, 0);
    for steps in 1..1_000 {
        let Trimmed { events, next, is_end } = world.store.trim_events(after, keep, instances, limit).await.unwrap();
        assert!(events <= u64::from(limit), "{events} of at most {limit}");
        gone += events;
        after = next;
        if is_end {
            return (gone, steps);
        }
    }
    panic!("it never ends");
}

/// Each instance keeps its newest events, also one that is deleted; who comes back from before the others can know.
pub async fn the_newest_events_of_an_instance_are_kept(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(20).await;
    let first = crashing(&world, "a", node, 10).await;
    let calm = world.instance("b", node, 3).await;
    let second = crashing(&world, "c", node, 7).await;
    world.applied(asked(&second, wherry_model::lifecycle::Ask::Delete, 500)).await;
    let other = world.with_project("other").await;
    other.instance("a", node, 4).await;
    let before = world.events().await;
    let of = |all: &[StoredEvent], instance: &Instance| -> Vec<StoredEvent> {
        all.iter().filter(|event| event.instance == instance.id).cloned().collect()
    };
    let query =
        |instance: Option<&Instance>| EventQuery { instance: instance.map(|one| one.id), ..query(&world, 0, 1) };
    for instance in [None, Some(&first), Some(&calm), Some(&second)] {
        assert_eq!(world.store.events_forgotten(&query(instance)).await.unwrap(), 0);
    }
    assert_eq!(trimmed(&world, 1_000, 10, 10).await, (0, 1), "nobody has too many");
    let [of_first, of_second] = [&first, &second].map(|one| of(&before, one));
    let wanted = u64::try_from(of_first.len() + of_second.len() - 10).unwrap();
    let (gone, steps) = trimmed(&world, 5, 2, 4).await;
    assert_eq!(gone, wanted);
    assert!(u64::from(steps) >= wanted / 4, "{steps} steps");
    let after = world.events().await;
    for (instance, before) in [(&first, &of_first), (&second, &of_second)] {
        assert_eq!(of(&after, instance), before[before.len() - 5..]);
        let last_gone = before[before.len() - 6].seq;
        assert_eq!(world.store.events_forgotten(&query(Some(instance))).await.unwrap(), last_gone);
    }
    assert_eq!(of(&after, &calm), of(&before, &calm));
    assert_eq!(world.store.events_forgotten(&query(Some(&calm))).await.unwrap(), 0);
    let highest = of_first[of_first.len() - 6].seq.max(of_second[of_second.len() - 6].seq);
    assert_eq!(world.store.events_forgotten(&query(None)).await.unwrap(), highest);
    let elsewhere = EventQuery { project: other.project, ..query(None) };
    assert_eq!(world.store.events_forgotten(&elsewhere).await.unwrap(), 0, "of another project");
    assert_eq!(trimmed(&world, 5, 100, 100).await, (0, 1), "a second time there is nothing to do");
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.store.events_forgotten(&query(None)).await.unwrap(), highest);
}

/// What goes with its instance is remembered of the project.
pub async fn events_of_purged_instances_are_known_to_be_gone(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(20).await;
    world.deleted(&world.instance("old", node, 1).await, 2).await;
    let last = *numbers(&world.events().await).last().unwrap();
    world.instance("new", node, 3).await;
    assert_eq!(world.store.events_forgotten(&query(&world, 0, 1)).await.unwrap(), 0);
    world.store.purge(at(1_000), 100).await.unwrap();
    assert_eq!(world.store.events_forgotten(&query(&world, 0, 1)).await.unwrap(), last);
    assert_eq!(world.events().await.len(), 1);
}
