//! What a node's row decides on beside CPU, memory and places: zone, disk, who has it alone, and how much more than it has it
//! hands out.

use wherry_model::{
    Capacity, DeviceSet, GpuAmount, GpuDemand, GpuOffer, Gpus, InstanceSpec, MemoryMib, NodeId, Overcommit, Priority,
    Stock,
};
use wherry_store::{CreateOutcome, NodeRegistration, Placed};

use crate::{Subject, World, invariants};

const ROOM: Capacity = Capacity { cpu_millis: 10_000, memory_mib: 10_000, instances: 100 };

async fn refused(world: &World, placed: &Placed) -> bool {
    match world.store.place_and_create(placed).await.unwrap() {
        CreateOutcome::NodeRefused => true,
        CreateOutcome::Created(_) => false,
        other => panic!("{other:?}"),
    }
}

/// The row is the referee.
pub async fn a_zone_is_kept(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let plain = world.registration(ROOM);
    let west = NodeRegistration { zone: Some("west".parse().unwrap()), ..plain.clone() };
    let (node, zoned) = (plain.id, |name: &str, zone: &str| {
        let zone = Some(zone.parse().unwrap());
        world.create_with(name, plain.id, 1, |spec: &mut InstanceSpec| spec.zone = zone)
    });
    world.registered(&plain, 1).await;
    assert!(refused(&world, &zoned("a", "west")).await);
    assert_eq!(world.registered(&west, 2).await.offer.zone, west.zone);
    assert!(!refused(&world, &zoned("a", "west")).await);
    assert!(refused(&world, &zoned("b", "east")).await);
    assert!(!refused(&world, &world.create("any", node, 3)).await);
    world.registered(&plain, 4).await;
    assert_eq!(world.node(node).await.offer.zone, None);
    assert_eq!(world.used(node).await, 2, "what is there stays");
}

/// Counted where the machine says how much there is, of those that say how much they want; given back with the rest.
pub async fn disk_is_taken_and_given_back(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let plain = world.registration(ROOM);
    let counted = NodeRegistration { disk_mib: Some(1_000), ..plain.clone() };
    let node = plain.id;
    let on_disk =
        |name: &str, mib: u32| world.create_with(name, node, 1, |spec| spec.ephemeral_disk = Some(MemoryMib::new(mib)));
    let disk = |used_mib| Some(Stock { total_mib: 1_000, used_mib });
    assert_eq!(world.registered(&counted, 1).await.offer.disk, disk(0));
    world.created(&world.create("plain", node, 1)).await;
    let first = world.created(&on_disk("a", 600)).await;
    assert!(refused(&world, &on_disk("b", 401)).await);
    world.created(&on_disk("b", 400)).await;
    assert_eq!(world.node(node).await.offer.disk, disk(1_000));
    assert_eq!(world.registered(&counted, 2).await.offer.disk, disk(1_000), "what is taken stays so");
    world.deleted(&first, 3).await;
    assert_eq!(world.node(node).await.offer.disk, disk(400));
    let more = Overcommit { disk_percent: 200, ..Overcommit::default() };
    world.registered(&NodeRegistration { overcommit: more, ..counted }, 4).await;
    assert!(refused(&world, &on_disk("c", 1_601)).await);
    world.created(&on_disk("c", 1_600)).await;
    world.registered(&plain, 5).await;
    world.created(&on_disk("huge", 1_000_000)).await;
    invariants::check(&world.store).await.unwrap();
}

/// By their numbers: a whole one for one instance, shares beside each other up to the whole; given back with the rest.
pub async fn gpus_are_taken_and_given_back(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let plain = world.registration(ROOM);
    let gpus = GpuOffer { model: Some("demo-gpu".parse().unwrap()), count: 2 };
    let offering = NodeRegistration { gpus, ..plain.clone() };
    let node = plain.id;
    let on = |name: &str, amount, bits| {
        let mut placed = world.create_with(name, node, 1, |spec| spec.gpu = Some(GpuDemand::new(amount)));
        placed.change.after.gpus = DeviceSet::from_bits(bits);
        placed
    };
    let used = async |wanted: [u16; 2]| {
        assert_eq!(world.node(node).await.offer.gpus.used_permille[..2], wanted);
    };
    let (whole, share) = (GpuAmount::Whole, GpuAmount::Share);
    world.registered(&plain, 1).await;
    assert!(refused(&world, &on("a", whole(1), 0b01)).await, "it has none");
    assert_eq!(world.registered(&offering, 2).await.offer.gpus, gpus.used([0; Gpus::MOST]));
    assert!(refused(&world, &on("a", whole(1), 0b100)).await);
    assert!(refused(&world, &on("a", whole(1), 0)).await);
    let beside = world.created(&world.create("beside", node, 3)).await;
    let first = world.created(&on("a", whole(1), 0b01)).await;
    used([1_000, 0]).await;
    for (amount, bits) in [(whole(1), 0b01), (share(1), 0b01), (whole(2), 0b11)] {
        assert!(refused(&world, &on("b", amount, bits)).await);
    }
    let half = world.created(&on("b", share(600), 0b10)).await;
    assert!(refused(&world, &on("c", share(401), 0b10)).await);
    world.created(&on("c", share(400), 0b10)).await;
    assert_eq!(
        world.registered(&offering, 4).await.offer.gpus.used_permille[..2],
        [1_000, 1_000],
        "what is taken stays so"
    );
    world.deleted(&first, 5).await;
    world.deleted(&half, 6).await;
    used([0, 400]).await;
    let mut other = on("d", whole(1), 0b01);
    other.change.after.spec.gpu = Some(GpuDemand { model: Some("other".parse().unwrap()), ..GpuDemand::new(whole(1)) });
    assert!(refused(&world, &other).await, "it has no such");
    world.created(&on("d", whole(1), 0b01)).await;
    world.deleted(&beside, 7).await;
    used([1_000, 400]).await;
    invariants::check(&world.store).await.unwrap();
}

/// From its first dedicated instance on until it is empty.
pub async fn a_node_that_a_tenant_has_alone_takes_no_other(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let other = world.with_tenant("blue").await;
    let node = world.node_for(100).await;
    let dedicated = |world: &World, name: &str| world.create_with(name, node, 1, |spec| spec.dedicated = true);
    let sole = async |wanted| assert_eq!(world.node(node).await.offer.sole_tenant, wanted);
    let theirs = other.created(&other.create("theirs", node, 1)).await;
    assert!(refused(&world, &dedicated(&world, "mine")).await);
    other.deleted(&theirs, 2).await;
    let mine = world.created(&dedicated(&world, "mine")).await;
    sole(Some(world.tenant)).await;
    assert!(refused(&other, &other.create("theirs", node, 3)).await);
    assert!(refused(&other, &dedicated(&other, "theirs")).await);
    let beside = world.created(&world.create("beside", node, 3)).await;
    world.created(&dedicated(&world, "more")).await;
    world.deleted(&mine, 4).await;
    sole(Some(world.tenant)).await;
    let more = world.store.instance_by_name(world.tenant, world.project, &crate::world::name("more")).await.unwrap();
    world.deleted(&more.unwrap(), 5).await;
    world.deleted(&beside, 6).await;
    sole(None).await;
    other.created(&other.create("theirs", node, 7)).await;
    invariants::check(&world.store).await.unwrap();
}

/// An operator's choice, that comes with the node's word and goes with it.
pub async fn more_than_there_is_is_handed_out_where_the_operator_says_so(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let room = Capacity { cpu_millis: 1_000, memory_mib: 1_000, instances: 100 };
    let plain = world.registration(room);
    let overcommit = Overcommit { cpu_percent: 150, memory_percent: 120, ..Overcommit::default() };
    let sized = |name: &str, cpu: u32, memory: u32| {
        world.create_with(name, plain.id, 1, |spec| {
            spec.containers[0].cpu = wherry_model::CpuMillis::new(cpu);
            spec.containers[0].memory = MemoryMib::new(memory);
        })
    };
    world.registered(&plain, 1).await;
    assert!(refused(&world, &sized("a", 1_001, 10)).await);
    let record = world.registered(&NodeRegistration { overcommit, ..plain.clone() }, 2).await;
    assert_eq!((record.offer.overcommit, record.capacity), (overcommit, room));
    assert!(refused(&world, &sized("a", 1_501, 10)).await);
    assert!(refused(&world, &sized("a", 10, 1_201)).await);
    world.created(&sized("a", 1_500, 1_200)).await;
    world.registered(&plain, 3).await;
    assert!(refused(&world, &sized("b", 10, 10)).await);
}

/// Beside each price book there is that of spot instances.
pub async fn spot_instances_are_rated_with_a_book_of_their_own(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node: NodeId = world.node_for(10).await;
    let regular = world.created(&world.create("regular", node, 1)).await;
    let spot = world.created(&world.create_with("spot", node, 1, |spec| spec.priority = Priority::Spot)).await;
    for instance in [&regular, &spot] {
        world.running(instance, 2).await;
    }
    let book = async |id| world.intervals(id).await[0].price_book.clone();
    assert_eq!((book(regular.id).await.as_str(), book(spot.id).await.as_str()), ("default-1", "default-1+spot"));
    let stored = world.store.price_book("default-1+spot").await.unwrap();
    assert_eq!(stored, Some(wherry_model::PriceBook::default_book().spot()));
}
