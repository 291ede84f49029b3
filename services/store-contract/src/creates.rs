//! Place and create: instance, name, resources, event and the node's revision, together or not at all.

use tokio::task::JoinSet;
use wherry_model::lifecycle::Ask;
use wherry_model::{
    Architecture, Capacity, CpuMillis, DnsReuseScope, EventKind, InstanceSpec, Isolation, IsolationSet, MemoryMib,
    NodeId, NodeState,
};
use wherry_store::{CreateOutcome, NodeRegistration, Placed};

use crate::world::{asked, name};
use crate::{Subject, World, invariants};

/// Nothing of the create is there: no record, no name, no resources, no event, no revision.
async fn assert_absent(world: &World, placed: &Placed, nodes: &[(NodeId, u64)]) {
    let id = placed.change.after.id;
    assert_eq!(world.store.instance(world.tenant, id).await.unwrap(), None);
    assert!(world.events().await.iter().all(|event| event.instance != id));
    for (node, revision) in nodes {
        assert_eq!(world.node(*node).await.desired_revision, *revision);
    }
    invariants::check(&world.store).await.unwrap();
}

/// Record by name, by id and for agents; resources; event; revision; and no idempotency record that nobody asked for.
pub async fn a_create_stores_all_of_it(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(3).await;
    let mut placed = world.create_with("web", node, 1, |spec| {
        spec.labels.insert("app".to_owned(), "shop".to_owned());
    });
    placed.idempotency = Some(("key-1".to_owned(), [1; 32]));
    let made = world.created(&placed).await;
    assert_eq!(made, placed.change.after);
    assert_eq!(world.read(made.id).await, made);
    let by_name = world.store.instance_by_name(world.tenant, world.project, &made.name).await.unwrap();
    assert_eq!(by_name, Some(made.clone()));
    assert_eq!(world.store.instance_of_any_tenant(made.id).await.unwrap(), Some(made.clone()));
    assert_eq!((world.used(node).await, world.node(node).await.desired_revision), (1, 1));
    let events = world.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].instance, &events[0].name, events[0].event.kind), (made.id, &made.name, EventKind::Created));
    assert_eq!(events[0].event, placed.change.events[0]);
    let record = world.store.idempotency(world.tenant, "key-1").await.unwrap().unwrap();
    assert_eq!((record.key.as_str(), record.fingerprint, record.instance), ("key-1", [1; 32], made.id));
    assert_eq!(record.created_at, made.created_at);
    assert_eq!(world.store.idempotency(world.tenant, "key-2").await.unwrap(), None);
}

/// What was answered is there after the store was closed and opened.
pub async fn an_acknowledged_create_survives(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(3).await;
    let made = world.instance("web", node, 1).await;
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.read(made.id).await, made);
    assert_eq!((world.used(node).await, world.events().await.len()), (1, 1));
    invariants::check(&world.store).await.unwrap();
}

/// However many try at once.
pub async fn of_racing_creates_of_a_name_one_wins(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(100).await;
    let outcomes = race(&world, (0..24).map(|second| world.create("web", node, second)).collect()).await;
    let winners: Vec<_> = outcomes.iter().filter(|outcome| matches!(outcome, CreateOutcome::Created(_))).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == CreateOutcome::NameTaken).count(), 23);
    assert_eq!((world.used(node).await, world.events().await.len()), (1, 1));
    let stored = world.store.instance_by_name(world.tenant, world.project, &name("web")).await.unwrap().unwrap();
    assert_eq!(winners, [&CreateOutcome::Created(Box::new(stored))]);
}

/// The same name in another project and in another tenant is another instance.
pub async fn names_are_apart_in_tenants_and_projects(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    let (project, tenant) = (world.with_project("billing").await, world.with_tenant("umbrella").await);
    let mut ids = Vec::new();
    for view in [&world, &project, &tenant] {
        let made = view.instance("web", node, 1).await;
        let found = view.store.instance_by_name(view.tenant, view.project, &name("web")).await.unwrap();
        assert_eq!(found, Some(made.clone()));
        ids.push(made.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

/// Not while the delete is under way, but from the moment it is done. The old one stays readable by id.
pub async fn a_name_is_free_again_after_deletion(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    let old = world.instance("web", node, 1).await;
    let deleting = world.applied(asked(&old, Ask::Delete, 2)).await;
    let too_early = world.store.place_and_create(&world.create("web", node, 3)).await.unwrap();
    assert_eq!(too_early, CreateOutcome::NameTaken);
    let gone = world.applied(crate::world::seen(&deleting, 4, wherry_model::Fact::Removed)).await;
    assert_eq!(world.store.instance_by_name(world.tenant, world.project, &name("web")).await.unwrap(), None);
    let new = world.instance("web", node, 5).await;
    let found = world.store.instance_by_name(world.tenant, world.project, &name("web")).await.unwrap();
    assert_eq!(found, Some(new));
    assert_eq!(world.read(old.id).await, gone);
    invariants::check(&world.store).await.unwrap();
}

/// The loser of a name takes no resources.
pub async fn a_taken_name_leaves_nothing(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, other) = (world.node_for(10).await, world.node_for(10).await);
    world.instance("web", node, 1).await;
    for place in [node, other] {
        let placed = world.create("web", place, 2);
        assert_eq!(world.store.place_and_create(&placed).await.unwrap(), CreateOutcome::NameTaken);
        assert_absent(&world, &placed, &[(node, 1), (other, 0)]).await;
    }
    assert_eq!((world.used(node).await, world.used(other).await), (1, 0));
}

/// Explicit or not, in a project, in a tenant, or shared with nobody; another tenant has names of its own.
pub async fn a_dns_name_is_unique_in_its_scope(subject: &mut impl Subject) {
    use DnsReuseScope::{None as Nobody, Project, Tenant};
    let world = World::new(subject).await;
    let node = world.node_for(50).await;
    let labelled = |view: &World, name: &str, label: Option<&str>, scope: DnsReuseScope| {
        view.create_with(name, node, 1, |spec| {
            spec.dns_label = label.map(|label| label.parse().unwrap());
            spec.dns_reuse_scope = scope;
        })
    };
    let (project, tenant) = (world.with_project("billing").await, world.with_tenant("umbrella").await);
    let first = world.instance("web", node, 1).await;
    let taken = labelled(&world, "a", Some("web"), Project);
    assert_eq!(world.store.place_and_create(&taken).await.unwrap(), CreateOutcome::DnsNameTaken);
    // The same is told without trying.
    let told = async |placed: &Placed| world.store.taken(&placed.change.after).await.unwrap();
    assert_eq!(told(&taken).await, Some(CreateOutcome::DnsNameTaken));
    assert_eq!(told(&labelled(&world, "web", Some("free"), Project)).await, Some(CreateOutcome::NameTaken));
    assert_eq!(told(&labelled(&world, "a", Some("free"), Project)).await, None);
    assert_eq!(told(&labelled(&world, "a", Some("web"), Tenant)).await, None);
    assert_absent(&world, &taken, &[(node, 1)]).await;
    // The other way round: who would be called by its name.
    world.created(&labelled(&world, "b", Some("shop"), Project)).await;
    let plain = world.create("shop", node, 1);
    assert_eq!(world.store.place_and_create(&plain).await.unwrap(), CreateOutcome::DnsNameTaken);
    // Both: the lasting reason that is easier to see.
    let both = labelled(&world, "web", Some("shop"), Project);
    assert_eq!(world.store.place_and_create(&both).await.unwrap(), CreateOutcome::NameTaken);
    // Other scopes are other names.
    for placed in [
        labelled(&project, "a", Some("web"), Project),
        labelled(&tenant, "a", Some("web"), Project),
        labelled(&world, "c", Some("web"), Nobody),
        labelled(&world, "d", Some("web"), Nobody),
        labelled(&world, "e", Some("web"), Tenant),
        labelled(&tenant, "e", Some("web"), Tenant),
    ] {
        world.created(&placed).await;
    }
    let elsewhere = labelled(&project, "f", Some("web"), Tenant);
    assert_eq!(project.store.place_and_create(&elsewhere).await.unwrap(), CreateOutcome::DnsNameTaken);
    // Deleted, it is free for its scope, also after reopening.
    let deleting = world.applied(asked(&first, Ask::Delete, 2)).await;
    world.applied(crate::world::seen(&deleting, 3, wherry_model::Fact::Removed)).await;
    subject.reopen().await;
    let world = world.on(subject);
    world.created(&labelled(&world, "a", Some("web"), Project)).await;
    invariants::check(&world.store).await.unwrap();
}

/// However many try at once.
pub async fn of_racing_creates_of_a_dns_name_one_wins(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(100).await;
    let creates = (0..24).map(|number| {
        world.create_with(&format!("web-{number}"), node, number, |spec| spec.dns_label = Some("web".parse().unwrap()))
    });
    let outcomes = race(&world, creates.collect()).await;
    let winners = outcomes.iter().filter(|outcome| matches!(outcome, CreateOutcome::Created(_))).count();
    let losers = outcomes.iter().filter(|outcome| **outcome == CreateOutcome::DnsNameTaken).count();
    assert_eq!((winners, losers), (1, 23));
    assert_eq!((world.used(node).await, world.events().await.len()), (1, 1));
}

/// The row is the referee, and a machine may offer less after its next start.
pub async fn a_class_is_placed_only_where_it_is_offered(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let capacity = Capacity { cpu_millis: 10_000, memory_mib: 10_000, instances: 100 };
    let plain = world.registration(capacity);
    let offering = NodeRegistration { isolation: [Isolation::Sandboxed].into_iter().collect(), ..plain.clone() };
    let node = plain.id;
    let apart = |name: &str| world.create_with(name, node, 1, |spec| spec.isolation = Isolation::Sandboxed);
    assert_eq!(world.registered(&plain, 1).await.isolation, IsolationSet::default());
    assert_eq!(world.store.place_and_create(&apart("a")).await.unwrap(), CreateOutcome::NodeRefused);
    assert_eq!(world.registered(&offering, 2).await.isolation, offering.isolation);
    world.created(&apart("a")).await;
    world.instance("plain", node, 3).await;
    let machine = world.create_with("b", node, 1, |spec| spec.isolation = Isolation::VirtualMachine);
    assert_eq!(world.store.place_and_create(&machine).await.unwrap(), CreateOutcome::NodeRefused);
    world.registered(&plain, 4).await;
    assert_eq!(world.store.place_and_create(&apart("c")).await.unwrap(), CreateOutcome::NodeRefused);
    assert_eq!(world.used(node).await, 2, "what is there stays");
    invariants::check(&world.store).await.unwrap();
}

/// Too little of anything, another kind of machine, not ready, not known: refused, and nothing is stored.
pub async fn a_refusing_node_leaves_nothing(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let room = Capacity { cpu_millis: 1_000, memory_mib: 1_000, instances: 1 };
    let ready = world.registered(&world.registration(room), 0).await.id;
    let full = world.registered(&world.registration(Capacity { instances: 0, ..room }), 0).await.id;
    let mut nodes = vec![(ready, 0), (full, 0)];
    for state in [NodeState::Cordoned, NodeState::Silent] {
        let node = world.registered(&world.registration(room), 0).await.id;
        world.store.set_node_state(node, state).await.unwrap();
        nodes.push((node, 0));
    }
    let unknown = NodeId::from_uuid(world.uuid());
    type Edit = fn(&mut InstanceSpec);
    let as_is: Edit = |_| ();
    let cases: [(NodeId, Edit); 7] = [
        (ready, |spec| spec.containers[0].cpu = CpuMillis::new(1_001)),
        (ready, |spec| spec.containers[0].memory = MemoryMib::new(1_001)),
        (ready, |spec| spec.architecture = Some(Architecture::Arm64)),
        (full, as_is),
        (nodes[2].0, as_is),
        (nodes[3].0, as_is),
        (unknown, as_is),
    ];
    for (number, (node, edit)) in cases.into_iter().enumerate() {
        let placed = world.create_with("web", node, 1, edit);
        let outcome = world.store.place_and_create(&placed).await.unwrap();
        assert_eq!(outcome, CreateOutcome::NodeRefused, "case {number}");
        assert_absent(&world, &placed, &nodes).await;
    }
    // Exactly what is there fits, once.
    let exact = world.create_with("exact", ready, 2, |spec| {
        spec.containers[0].cpu = CpuMillis::new(1_000);
        spec.containers[0].memory = MemoryMib::new(1_000);
        spec.architecture = Some(Architecture::Amd64);
    });
    world.created(&exact).await;
    assert_eq!(world.node(ready).await.used, room);
}

/// A full node may have room in a minute, a taken name is the user's to solve: that is what is told.
pub async fn a_taken_name_is_told_even_when_the_node_is_full(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    world.instance("web", node, 1).await;
    let outcome = world.store.place_and_create(&world.create("web", node, 2)).await.unwrap();
    assert_eq!(outcome, CreateOutcome::NameTaken);
}

/// As many as fit are created, whoever comes first; the others are refused.
pub async fn racing_creates_never_oversubscribe_a_node(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let creates = (0..40).map(|number| world.create(&format!("web-{number}"), node, number)).collect();
    let outcomes = race(&world, creates).await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, CreateOutcome::Created(_))).count(), 5);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == CreateOutcome::NodeRefused).count(), 35);
    assert_eq!((world.used(node).await, world.events().await.len()), (5, 5));
    assert_eq!(world.node(node).await.desired_revision, 5);
    invariants::check(&world.store).await.unwrap();
}

/// Sends all at once.
pub(crate) async fn race(world: &World, creates: Vec<Placed>) -> Vec<CreateOutcome> {
    let mut tasks = JoinSet::new();
    for placed in creates {
        let store = world.store.clone();
        tasks.spawn(async move { store.place_and_create(&placed).await.unwrap() });
    }
    tasks.join_all().await
}
