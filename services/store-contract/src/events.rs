//! Events: numbered in the order in which they can be read.

use std::collections::BTreeSet;

use tokio::task::JoinSet;
use wherry_store::{EventQuery, StoredEvent};

use crate::world::at;
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
