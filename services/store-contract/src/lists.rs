//! Lists: pages, filters, and that a tenant sees only its own.

use std::collections::BTreeMap;

use wherry_model::lifecycle::Ask;
use wherry_model::{Instance, InstanceId, InstanceState};
use wherry_store::{EventQuery, ListQuery, UsageQuery};

use crate::world::{asked, name};
use crate::{Subject, World};

fn query(world: &World) -> ListQuery {
    ListQuery {
        tenant: world.tenant,
        project: world.project,
        states: Vec::new(),
        labels: BTreeMap::new(),
        after: None,
        limit: 1_000,
    }
}

/// All pages, each of at most `limit`; every page but the last one is full.
async fn walk(world: &World, query: &ListQuery, limit: u32) -> Vec<Instance> {
    let mut all = Vec::new();
    let mut query = ListQuery { limit, ..query.clone() };
    loop {
        let page = world.store.instances(&query).await.unwrap();
        assert!(page.instances.len() <= usize::try_from(limit).unwrap());
        all.extend(page.instances);
        assert!(all.len() <= 1_000, "the pages do not end");
        match page.next {
            None => return all,
            Some(next) => query.after = Some(next),
        }
    }
}

fn newest_first(mut instances: Vec<Instance>) -> Vec<Instance> {
    instances.sort_by_key(|instance| std::cmp::Reverse((instance.created_at, instance.id)));
    instances
}

/// Each exactly once, newest first, ties by id, for every page size.
pub async fn pages_cover_everything_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(50).await;
    let mut made = Vec::new();
    for number in 0..13 {
        // Groups of three are of the same microsecond; some are of other states.
        let instance = world.instance(&format!("web-{number}"), node, number / 3).await;
        made.push(if number % 4 == 0 { world.running(&instance, 20).await } else { instance });
    }
    let wanted = newest_first(made);
    for limit in [1, 2, 3, 5, 12, 13, 14, 100] {
        assert_eq!(walk(&world, &query(&world), limit).await, wanted, "pages of {limit}");
    }
    assert_eq!(world.store.instances(&ListQuery { limit: 13, ..query(&world) }).await.unwrap().next, None);
}

/// Between two pages some are created, some deleted, some change state: what was there throughout comes exactly once.
pub async fn pages_are_stable_while_instances_come_and_go(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(50).await;
    let mut made = Vec::new();
    for number in 0..10 {
        made.push(world.instance(&format!("web-{number}"), node, number).await);
    }
    let first = world.store.instances(&ListQuery { limit: 4, ..query(&world) }).await.unwrap();
    world.instance("new", node, 99).await;
    world.deleted(&made[8], 99).await;
    world.deleted(&made[6], 99).await;
    world.running(&made[3], 99).await;
    let rest = world.store.instances(&ListQuery { after: first.next, ..query(&world) }).await.unwrap();
    assert_eq!(rest.next, None);
    let ids: Vec<_> = first.instances.iter().chain(&rest.instances).map(|instance| instance.id).collect();
    let wanted: Vec<_> = made.iter().rev().map(|instance| instance.id).collect();
    assert_eq!(ids, wanted);
}

/// Every combination of states and labels finds what going through all instances one by one finds.
pub async fn filters_agree_with_a_plain_search(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(50).await;
    let mut all = Vec::new();
    for number in 0..24_i64 {
        let placed = world.create_with(&format!("web-{number}"), node, number / 2, |spec| {
            for (key, value) in [("app", number % 2), ("tier", number % 3), (&*format!("only-{number}"), 0)] {
                spec.labels.insert(key.to_owned(), value.to_string());
            }
        });
        let made = world.created(&placed).await;
        all.push(match number % 5 {
            0 => world.running(&made, 50).await,
            1 => world.deleted(&made, 51).await,
            2 => world.applied(asked(&made, Ask::Stop, 52)).await,
            _ => made,
        });
    }
    use InstanceState as S;
    let state_filters: [&[S]; 7] = [
        &[],
        &[S::Running],
        &[S::Deleted],
        &[S::Running, S::Deleted],
        &[S::Stopping, S::Scheduled, S::Stopping],
        &[S::Failed],
        &S::ALL,
    ];
    let label_filters: [&[(&str, &str)]; 7] = [
        &[],
        &[("app", "0")],
        &[("app", "1"), ("tier", "2")],
        &[("only-5", "0")],
        &[("app", "0"), ("only-5", "0")],
        &[("app", "unknown")],
        &[("unknown", "0"), ("app", "0")],
    ];
    for states in state_filters {
        for labels in label_filters {
            let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            let wanted = all.iter().filter(|instance| {
                let state_fits =
                    if states.is_empty() { instance.state != S::Deleted } else { states.contains(&instance.state) };
                state_fits && labels.iter().all(|(key, value)| instance.spec.labels.get(key) == Some(value))
            });
            let wanted = newest_first(wanted.cloned().collect());
            let query = ListQuery { states: states.to_vec(), labels, ..query(&world) };
            for limit in [3, 100] {
                assert_eq!(walk(&world, &query, limit).await, wanted, "{query:?} in pages of {limit}");
            }
        }
    }
}

/// No query finds anything with another tenant's, or another project's, ids.
pub async fn tenants_see_only_their_own(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let mut placed = world.create_with("web", node, 1, |spec| {
        spec.labels.insert("app".to_owned(), "shop".to_owned());
    });
    placed.idempotency = Some(("k".to_owned(), [1; 32]));
    let mine = world.running(&world.created(&placed).await, 2).await;
    let stranger = world.with_tenant("umbrella").await;
    let neighbour = world.with_project("billing").await;
    // The stranger as it is, the stranger with my project's id, and my own other project.
    let views = [stranger.clone(), stranger.in_project(world.project), neighbour.clone()];
    for view in &views {
        let store = &view.store;
        assert_eq!(store.instance_by_name(view.tenant, view.project, &name("web")).await.unwrap(), None);
        for states in [Vec::new(), vec![mine.state]] {
            for labels in [BTreeMap::new(), mine.spec.labels.clone()] {
                let page = store.instances(&ListQuery { states: states.clone(), labels, ..query(view) }).await.unwrap();
                assert_eq!((page.instances, page.next), (Vec::new(), None));
            }
        }
        for instance in [None, Some(mine.id)] {
            let query = EventQuery { tenant: view.tenant, project: view.project, instance, after: 0, limit: 100 };
            assert_eq!(store.events(&query).await.unwrap(), []);
            let query = UsageQuery { project: Some(view.project), instance, ..view.usage() };
            assert_eq!(store.intervals(&query).await.unwrap(), []);
        }
    }
    for (project, instance) in [(None, None), (Some(world.project), None), (None, Some(mine.id))] {
        let query = UsageQuery { project, instance, ..stranger.usage() };
        assert_eq!(stranger.store.intervals(&query).await.unwrap(), []);
    }
    assert_eq!(stranger.store.instance(stranger.tenant, mine.id).await.unwrap(), None);
    assert_eq!(stranger.store.idempotency(stranger.tenant, "k").await.unwrap(), None);
    assert_eq!(stranger.store.keys(stranger.tenant, 10).await.unwrap(), []);
    // And all of it is there for its owner.
    assert_eq!(world.events().await.len(), 2);
    assert_eq!(world.intervals(mine.id).await.len(), 1);
    assert_eq!(world.store.instances(&query(&world)).await.unwrap().instances, [mine]);
}

/// Of every tenant, in order of id, and only while they have an address.
pub async fn addressed_instances_come_in_pages(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let other = world.with_tenant("umbrella").await;
    let node = world.node_for(20).await;
    let mut wanted: Vec<InstanceId> = Vec::new();
    for number in 0..7 {
        let view = if number % 2 == 0 { &world } else { &other };
        let made = view.instance(&format!("web-{number}"), node, number).await;
        let running = view.running(&made, 10).await;
        if number == 3 {
            view.deleted(&running, 11).await;
        } else {
            wanted.push(running.id);
        }
    }
    world.instance("no-address-yet", node, 12).await;
    let mut found: Vec<InstanceId> = Vec::new();
    loop {
        let page = world.store.addressed(found.last().copied(), 2).await.unwrap();
        assert!(page.len() <= 2 && page.iter().all(|instance| instance.address.is_some()));
        if page.is_empty() {
            break;
        }
        found.extend(page.iter().map(|instance| instance.id));
    }
    assert_eq!(found, wanted);
}
