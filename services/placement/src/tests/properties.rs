//! Random fleets, demands, terms and churn.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use wherry_model::{
    Architecture, Capacity, Demand, Departure, DeviceSet, GpuAmount, GpuDemand, GpuModel, Gpus, Group, HostPort,
    ImageKey, InstanceId, Isolation, MemoryMib, NodeId, NodeOffer, NodeState, Overcommit, Protocol, Spread, SpreadOver,
    Stock, TenantId, Terms, ZoneName,
};

use super::scan::Known;
use super::{capacity, demand, id, node};
use crate::{Ask, Fleet, FleetChange, HardLimit, NodeSnapshot, Placement, Unapplied};

const IDS: u128 = 24;

fn tenant(number: u8) -> TenantId {
    id(u128::from(number)).as_uuid().to_string().parse().unwrap()
}

fn instance(number: u128) -> InstanceId {
    id(number).as_uuid().to_string().parse().unwrap()
}

fn any_zone() -> impl Strategy<Value = Option<ZoneName>> {
    select(vec![None, Some("a"), Some("b")]).prop_map(|name| name.map(|name| name.parse().unwrap()))
}

fn any_model() -> impl Strategy<Value = Option<GpuModel>> {
    select(vec![None, Some("small"), Some("large")]).prop_map(|name| name.map(|name| name.parse().unwrap()))
}

fn any_gpu() -> impl Strategy<Value = GpuDemand> {
    let amount = prop_oneof![
        (1_u8..4).prop_map(GpuAmount::Whole),
        select(vec![1_u16, 250, 500, 1_000]).prop_map(GpuAmount::Share)
    ];
    let devices = DeviceSet::default();
    (amount, any_model()).prop_map(move |(amount, model)| GpuDemand { amount, model, devices })
}

pub(super) fn any_demand() -> impl Strategy<Value = Demand> {
    let cpu = prop_oneof![select(vec![250_u32, 500, 1_000, 2_000, 4_000]), 10_u32..20_000];
    let memory = prop_oneof![select(vec![256_u32, 1_024, 4_096, 16_384]), 4_u32..70_000];
    let architecture = option::weighted(0.3, select(vec![Architecture::Amd64, Architecture::Arm64]));
    let protocol = select(vec![0_u32, 0, 3]);
    let isolation = select(vec![Isolation::Shared, Isolation::Shared, Isolation::Sandboxed]);
    let kind = (architecture, prop::bool::weighted(0.2), protocol, isolation);
    let disk = select(vec![0_u32, 0, 1, 1_000, 5_000]);
    let gpu = option::weighted(0.15, any_gpu());
    let whose = (option::of(0_u8..2), prop::bool::weighted(0.15), prop::bool::weighted(0.3));
    (cpu, memory, kind, disk, gpu, option::weighted(0.15, any_zone()), whose).prop_map(
        |(cpu, memory, (architecture, fenced, protocol, isolation), disk, gpu, zone, (owner, dedicated, spot))| {
            Demand {
                architecture,
                fenced,
                protocol,
                isolation,
                disk: MemoryMib::new(disk),
                gpu,
                zone: zone.flatten(),
                tenant: owner.map(tenant),
                dedicated: dedicated && owner.is_some(),
                spot,
                ..demand(cpu, memory)
            }
        },
    )
}

fn any_group() -> impl Strategy<Value = Group> {
    (0_u8..2, select(vec!["web", "db"])).prop_map(|(owner, value)| Group::of(tenant(owner), "app", value))
}

pub(super) fn any_terms() -> impl Strategy<Value = Terms> {
    let over = select(vec![SpreadOver::Nodes, SpreadOver::Zones]);
    let spread = move || {
        (any_group(), over.clone(), 1_u32..3).prop_map(|(group, over, max_skew)| Spread { group, over, max_skew })
    };
    let port = || {
        (select(vec![Protocol::Tcp, Protocol::Udp]), 80_u16..82)
            .prop_map(|(protocol, port)| HostPort { protocol, port })
    };
    let rarely = |most: usize| prop_oneof![3 => Just(0..1), 1 => Just(0..most)];
    let groups = vec(any_group(), 0..3);
    let near = rarely(2).prop_flat_map(|size| vec(any_group(), size));
    let apart = rarely(3).prop_flat_map(|size| vec(any_group(), size));
    let spread = rarely(3).prop_flat_map(move |size| vec(spread(), size));
    let ports = rarely(3).prop_flat_map(move |size| vec(port(), size));
    let images = rarely(4).prop_flat_map(|size| vec(any_image(), size));
    let gaps = vec(0_u8..3, Departure::CLASSES).prop_map(|gaps| Departure(gaps.try_into().unwrap()));
    let departs = prop_oneof![Just(Departure::default()), gaps];
    (groups, near, apart, spread, ports, images, departs).prop_map(
        |(groups, near, apart, spread, ports, images, departs)| {
            let images = images.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            Terms { groups, near, apart, spread, ports, images, departs }
        },
    )
}

fn any_image() -> impl Strategy<Value = ImageKey> {
    (0_u64..3).prop_map(ImageKey)
}

fn any_gpus() -> impl Strategy<Value = Gpus> {
    let used = prop::array::uniform16(select(vec![0_u16, 0, 250, 500, 1_000]));
    (0_u8..4, any_model(), used).prop_map(|(count, model, used)| {
        let mut gpus = Gpus { model: model.filter(|_| count > 0), count, ..Gpus::default() };
        gpus.used_permille[..usize::from(count)].copy_from_slice(&used[..usize::from(count)]);
        gpus
    })
}

fn any_offer() -> impl Strategy<Value = NodeOffer> {
    let disk = option::of((0_u64..20_000, 0_u64..10_000))
        .prop_map(|disk| disk.map(|(total_mib, used_mib)| Stock { total_mib, used_mib }));
    let gpus = prop_oneof![2 => Just(Gpus::default()), 1 => any_gpus()];
    let overcommit = (select(vec![100_u16, 100, 150]), select(vec![100_u16, 100, 110]), Just(100_u16));
    let addresses = option::weighted(0.3, 0_u32..8);
    let owner = option::weighted(0.15, 0_u8..2);
    (any_zone(), disk, gpus, addresses, owner, overcommit).prop_map(
        |(zone, disk, gpus, addresses, owner, overcommit)| {
            let (cpu_percent, memory_percent, disk_percent) = overcommit;
            let overcommit = Overcommit { cpu_percent, memory_percent, disk_percent };
            NodeOffer { zone, disk, gpus, addresses, sole_tenant: owner.map(tenant), overcommit }
        },
    )
}

pub(super) fn any_node() -> impl Strategy<Value = NodeSnapshot> {
    let size =
        prop_oneof![Just((16_000_u64, 65_536_u64)), Just((64_000, 131_072)), (500_u64..70_000, 512_u64..140_000)];
    let state =
        select(vec![NodeState::Ready, NodeState::Ready, NodeState::Ready, NodeState::Cordoned, NodeState::Silent]);
    let architecture = select(vec![Architecture::Amd64, Architecture::Amd64, Architecture::Arm64]);
    // Sometimes more is used than there is: the node came back smaller.
    let used = option::of((0_u64..70_000, 0_u64..140_000, 0_u32..8));
    let spoken = select(vec![(true, 3_u32), (true, 2), (false, 1), (false, 3)]);
    let isolation = select(vec![Isolation::Shared, Isolation::Sandboxed, Isolation::VirtualMachine]);
    let offer = prop_oneof![any_offer(), Just(NodeOffer::default())];
    (0..IDS, size, 0_u32..8, state, architecture, used, spoken, isolation, offer).prop_map(
        |(number, size, instances, state, architecture, used, (fences, protocol), isolation, offer)| {
            let (cpu, memory, count) = used.unwrap_or_default();
            NodeSnapshot {
                id: id(number),
                architecture,
                state,
                capacity: capacity(size.0, size.1, instances),
                used: capacity(cpu, memory, count),
                fences,
                protocol,
                isolation: [isolation].into_iter().collect(),
                offer,
            }
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Change(FleetChange),
    Images(NodeId, Vec<ImageKey>),
    /// Decide, reserve and settle what was decided.
    Place(Demand, Terms),
    /// Release and depart the placement of this number, if there are so many.
    Leave(usize),
    /// Settle somewhere, whatever the terms: another replica has decided.
    Settle(u128, NodeId, Demand, Terms),
}

fn any_step() -> impl Strategy<Value = Step> {
    let ids = || (0..IDS).prop_map(id);
    prop_oneof![
        4 => any_node().prop_map(|node| Step::Change(FleetChange::Node(node))),
        1 => ids().prop_map(|node| Step::Change(FleetChange::Gone(node))),
        1 => (ids(), any_demand()).prop_map(|(node, demand)| Step::Change(FleetChange::Reserve { node, demand })),
        1 => (ids(), any_demand()).prop_map(|(node, demand)| Step::Change(FleetChange::Release { node, demand })),
        1 => (ids(), 0_u8..8).prop_map(|(node, departs)| Step::Change(FleetChange::Expect { node, departs })),
        1 => (ids(), vec(any_image(), 0..3)).prop_map(|(node, images)| Step::Images(node, images)),
        1 => (1_000_u128..1_010, ids(), any_demand(), any_terms()).prop_map(|(number, node, demand, terms)| Step::Settle(number, node, demand, terms)),
        8 => (any_demand(), any_terms()).prop_map(|(demand, terms)| Step::Place(demand, terms)),
        3 => (0_usize..64).prop_map(Step::Leave),
    ]
}

fn check_decision(fleet: &Fleet, known: &Known, ask: &Ask<'_>) -> Result<Option<Placement>, TestCaseError> {
    let decided = fleet.decide_for(ask);
    prop_assert_eq!(&decided, &fleet.clone().decide_for(ask), "the same again");
    let best = known.best(ask, fleet.exchange_rate().mib_per_core());
    let explained = fleet.explain(ask);
    let takers = known.nodes.values().filter(|node| known.may_take(node, ask)).count();
    prop_assert_eq!(usize::try_from(explained.fits).unwrap(), takers);
    prop_assert_eq!(explained.best.first(), best.as_ref());
    let nodes = u32::try_from(known.nodes.len()).unwrap();
    prop_assert_eq!(explained.nodes, nodes);
    prop_assert!(explained.refused.values().all(|count| (1..=nodes).contains(count)));
    prop_assert!(
        explained.fits + explained.refused.values().sum::<u32>() >= nodes,
        "every node takes it or is refused by something"
    );
    let excluded = ask.excluded.iter().filter(|id| known.nodes.contains_key(id)).count();
    prop_assert_eq!(explained.by(HardLimit::Excluded), u32::try_from(excluded).unwrap());
    match (decided, best) {
        (Ok(placement), Some(best)) => {
            prop_assert_eq!(placement.why.score, best);
            prop_assert_eq!(placement.node, best.node);
            Ok(Some(placement))
        }
        (Err(_), None) => Ok(None),
        (decided, best) => Err(TestCaseError::fail(format!("decided {decided:?}, a scan finds {best:?}"))),
    }
}

fn with_devices(demand: Demand, placement: &Placement) -> Demand {
    Demand { gpu: demand.gpu.map(|gpu| GpuDemand { devices: placement.devices, ..gpu }), ..demand }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn decides_as_a_scan_would_and_changes_add_up_to_a_rebuild(
        steps in vec(any_step(), 1..120),
        left_out in vec(0..IDS, 0..3),
        share in option::weighted(0.3, (2_u32..4).prop_flat_map(|of| (0..of, Just(of)))),
    ) {
        let mut fleet = Fleet::default();
        let mut known = Known { share, ..Known::default() };
        if let Some((own, of)) = share {
            fleet.prefer_share(own, of);
        }
        let mut placed = Vec::new();
        let mut next = 0;
        let excluded = BTreeSet::from_iter(left_out).into_iter().map(id).collect::<Vec<_>>();
        for step in steps {
            match step {
                Step::Change(change) => {
                    let there = match change {
                        FleetChange::Node(_) => true,
                        FleetChange::Gone(node)
                        | FleetChange::Reserve { node, .. }
                        | FleetChange::Release { node, .. }
                        | FleetChange::Expect { node, .. } => fleet.node(node).is_some(),
                    };
                    let unknown = matches!(fleet.apply(change), Err(Unapplied::NoSuchNode(_)));
                    prop_assert_eq!(there, !unknown);
                    if let FleetChange::Gone(gone) = change {
                        known.settled.retain(|_, (node, ..)| *node != gone);
                        known.images.remove(&gone);
                        known.departs.remove(&gone);
                    }
                    if let (FleetChange::Expect { node, departs }, true) = (change, there) {
                        known.departs.insert(node, departs);
                    }
                }
                Step::Images(node, images) => {
                    if fleet.images(node, &images).is_ok() {
                        known.images.insert(node, images);
                    }
                }
                Step::Settle(number, node, demand, terms) => {
                    if fleet.settle(instance(number), node, &demand, &terms).is_ok() {
                        known.settled.insert(instance(number), (node, demand, terms));
                    }
                }
                Step::Place(demand, terms) => {
                    let ask = Ask { demand: &demand, terms: &terms, excluded: &[] };
                    check_decision(&fleet, &known, &Ask { excluded: &excluded, ..ask })?;
                    if let Some(placement) = check_decision(&fleet, &known, &ask)? {
                        let (node, demand) = (placement.node, with_devices(demand, &placement));
                        fleet.apply(FleetChange::Reserve { node, demand }).unwrap();
                        fleet.settle(instance(next), node, &demand, &terms).unwrap();
                        known.settled.insert(instance(next), (node, demand, terms));
                        placed.push((instance(next), node, demand));
                        next += 1;
                    }
                }
                Step::Leave(number) if number < placed.len() => {
                    let (instance, node, demand) = placed.swap_remove(number);
                    // The node may be gone or replaced meanwhile: the error says so and nothing breaks.
                    let _ = fleet.apply(FleetChange::Release { node, demand });
                    prop_assert_eq!(fleet.depart(instance), known.settled.remove(&instance).is_some());
                }
                Step::Leave(_) => {}
            }
            known.nodes = fleet.nodes().map(|node| (node.id, *node)).collect();
            prop_assert_eq!(fleet.shape(), known.build().shape());
        }
    }

    /// Nothing is ever oversubscribed by deciding and reserving, and giving everything back leads to the first state.
    #[test]
    fn filling_and_emptying_ends_where_it_began(
        sizes in vec((1_000_u64..64_000, 1_024_u64..262_144, 1_u32..20, any_offer()), 1..20),
        demands in vec((any_demand(), any_terms()), 1..150),
    ) {
        let nodes = sizes.iter().zip(0..).map(|((cpu, memory, instances, offer), number)| NodeSnapshot {
            capacity: capacity(*cpu, *memory, *instances),
            offer: NodeOffer { sole_tenant: None, ..*offer },
            ..node(number, Capacity::default())
        });
        let mut fleet = nodes.collect::<Fleet>();
        let first = fleet.shape();
        let over = |node: &NodeSnapshot| {
            let disk = node.offer.disk.is_some_and(|disk| disk.used_mib > disk.total_mib);
            let gpu = node.offer.gpus.used_permille.iter().any(|used| *used > 1_000);
            (disk, gpu)
        };
        let before = fleet.nodes().map(over).collect::<Vec<_>>();
        let mut placed = Vec::new();
        for (number, (demand, terms)) in (0..).zip(demands) {
            if let Ok(placement) = fleet.decide_for(&Ask { demand: &demand, terms: &terms, excluded: &[] }) {
                let (node, demand) = (placement.node, with_devices(demand, &placement));
                fleet.apply(FleetChange::Reserve { node, demand }).unwrap();
                fleet.settle(instance(number), node, &demand, &terms).unwrap();
                placed.push((instance(number), node, demand));
            }
        }
        for node in fleet.nodes() {
            let percent = node.offer.overcommit;
            prop_assert!(node.used.cpu_millis <= node.capacity.cpu_millis * u64::from(percent.cpu_percent) / 100);
            prop_assert!(node.used.memory_mib <= node.capacity.memory_mib * u64::from(percent.memory_percent) / 100);
            prop_assert!(node.used.instances <= node.capacity.instances.min(node.offer.addresses.unwrap_or(u32::MAX)));
        }
        prop_assert_eq!(fleet.nodes().map(over).collect::<Vec<_>>(), before, "what was too much before is all that is");
        for (instance, node, demand) in placed {
            fleet.apply(FleetChange::Release { node, demand }).unwrap();
            prop_assert!(fleet.depart(instance));
        }
        prop_assert_eq!(fleet.shape(), first);
    }
}

#[test]
fn replicas_that_prefer_their_shares_propose_different_nodes_among_equals() {
    let nodes = (0..64).map(|number| node(number, capacity(4_000, 16_384, 1)));
    let fleet = nodes.collect::<Fleet>();
    let replica = |own: u32| {
        let mut fleet = fleet.clone();
        fleet.prefer_share(own, 4);
        fleet
    };
    let asked = demand(1_000, 4_096);
    let placements = (0..4).map(|own| replica(own).decide(&asked).unwrap()).collect::<Vec<_>>();
    assert!(placements.iter().all(|placement| !placement.why.score.others_share));
    assert_eq!(placements.iter().map(|placement| placement.node).collect::<BTreeSet<_>>().len(), 4);
    // What fits nowhere in the own share goes into another's.
    let mut full = replica(0);
    for number in 1..64 {
        full.apply(FleetChange::Node(node(number, capacity(16_000, 65_536, 1)))).unwrap();
    }
    for own in 0..4 {
        full.prefer_share(own, 4);
        assert_eq!(full.decide(&asked).unwrap().node, id(0));
    }
    // A better fit in another's share is none: the field stands above it. An empty node of the own share is not woken for it.
    let emptied = NodeSnapshot { used: Capacity::default(), ..*full.node(placements[1].node).unwrap() };
    full.apply(FleetChange::Node(emptied)).unwrap();
    full.prefer_share(1, 4);
    assert_eq!(full.decide(&asked).unwrap().node, id(0));
}

#[test]
fn kinds_beyond_the_bits_are_told_apart() {
    let nodes = (0..80_u128).map(|number| {
        let zone = Some(format!("zone-{number}").parse().unwrap());
        let used = capacity(u64::try_from(number).unwrap() * 10, 1_024, 1);
        NodeSnapshot { offer: NodeOffer { zone, ..NodeOffer::default() }, ..node(number, used) }
    });
    let mut known = Known { nodes: nodes.map(|node| (node.id, node)).collect(), ..Known::default() };
    let mut fleet = known.build();
    for number in [0_u128, 62, 63, 64, 79] {
        let zone = Some(format!("zone-{number}").parse().unwrap());
        let asked = Demand { zone, ..demand(1_000, 1_024) };
        assert_eq!(fleet.decide(&asked).unwrap().node, id(number));
    }
    for step in 0..40_u32 {
        let asked = demand(1_000 + step, 1_024);
        let decided = fleet.decide(&asked).unwrap();
        assert_eq!(Some(decided.why.score), known.best(&Ask::of(&asked), fleet.exchange_rate().mib_per_core()));
        fleet.apply(FleetChange::Reserve { node: decided.node, demand: asked }).unwrap();
        known.nodes = fleet.nodes().map(|node| (node.id, *node)).collect();
    }
}
