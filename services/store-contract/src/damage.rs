//! Records that cannot be read. How one is broken differs from store to store, so each calls this from a test of its own.

use wherry_model::lifecycle::Ask;
use wherry_model::{Fact, InstanceId, Observation, RestartPolicy, Schedule};
use wherry_store::{ChangeCursor, ListQuery, ReportOutcome, StoreError};

use crate::World;
use crate::world::{asked, at};

/// A broken record costs itself alone, wherever it stands in what is asked for. `damage` makes the record of an instance unreadable
/// and leaves everything else of it.
pub async fn a_broken_record_costs_itself_alone(world: &World, damage: impl AsyncFn(InstanceId)) {
    let node = world.node_for(40).await;
    let broken_at = [0, 1, 4];
    let mut due = Vec::new();
    for number in 0..6 {
        let placed = world.create_waiting(&format!("due-{number}"), 60 * number, |spec| {
            spec.restart_policy = RestartPolicy::Never;
            spec.schedule = Some(Schedule::new("* * * * *", "UTC"));
        });
        due.push(world.created(&placed).await);
    }
    let (mut running, mut waiting) = (Vec::new(), Vec::new());
    for number in 0..6 {
        running.push(world.running(&world.instance(&format!("web-{number}"), node, number).await, 10).await);
    }
    for number in 0..6 {
        waiting.push(world.waiting(&format!("waits-{number}"), node, 20 + number).await);
    }
    let mut broken = Vec::new();
    for set in [&due, &running, &waiting] {
        broken.extend(broken_at.map(|place| set[place].id));
    }
    for id in &broken {
        damage(*id).await;
    }
    let left = |set: &[wherry_model::Instance]| -> Vec<InstanceId> {
        set.iter().map(|one| one.id).filter(|id| !broken.contains(id)).collect()
    };
    let ids = |found: Vec<wherry_model::Instance>| -> Vec<InstanceId> { found.iter().map(|one| one.id).collect() };
    let store = &world.store;
    for limit in [1, 2, 3, 100] {
        let first = |set: &[wherry_model::Instance]| -> Vec<InstanceId> { left(set).into_iter().take(limit).collect() };
        let limit = u32::try_from(limit).unwrap();
        assert_eq!(ids(store.due(at(1_000), limit).await.unwrap()), first(&due), "due, {limit}");
        assert_eq!(ids(store.pending(limit).await.unwrap()), first(&waiting), "pending, {limit}");
        assert_eq!(ids(store.addressed(None, limit).await.unwrap()), first(&running), "addressed, {limit}");
        let all = [due.clone(), running.clone(), waiting.clone()].concat();
        assert_eq!(ids(store.every_instance(None, limit).await.unwrap()), first(&all), "every one, {limit}");
    }
    let on = store.instances_on(node).await.unwrap().unwrap();
    assert_eq!(ids(on.instances), left(&running));
    assert_eq!(on.unreadable, broken_at.map(|place| running[place].id));
    let mut changed = ids(store.changes(ChangeCursor::default(), 1_000).await.unwrap().instances);
    changed.sort_unstable();
    assert_eq!(changed, [left(&due), left(&running), left(&waiting)].concat());
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let query = ListQuery {
            tenant: world.tenant,
            project: world.project,
            states: Vec::new(),
            labels: std::collections::BTreeMap::new(),
            after,
            limit: 2,
        };
        let page = store.instances(&query).await.unwrap();
        listed.extend(ids(page.instances));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    listed.sort_unstable();
    assert_eq!(listed, changed);
    // What its node says of it is kept.
    let journal = world.journal();
    let fact = Fact::SandboxStopped;
    let (instance, generation) = (broken_at.map(|place| running[place].id)[0], running[0].generation);
    let said = Observation { seq: 1, instance, generation, revision: 0, at: at(40), fact };
    let outcome = store.apply_report(node, journal, 0, 1, &[], std::slice::from_ref(&said)).await.unwrap();
    assert_eq!(outcome, ReportOutcome::Applied(1));
    let kept = store.deferred_facts(instance, 10).await.unwrap();
    assert_eq!(kept.iter().map(|fact| &fact.observation).collect::<Vec<_>>(), [&said]);
    // By itself it is said to be broken, and the others go on.
    let alone = store.instance(world.tenant, broken[0]).await;
    let named = broken[0].to_string();
    assert!(matches!(&alone, Err(StoreError::Corrupt { key, .. }) if *key == named), "{alone:?}");
    world.applied(asked(&running[2], Ask::Stop, 50)).await;
}
