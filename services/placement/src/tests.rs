//! The engine against a scan of every node, under random fleets, demands and churn.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use wherry_model::{Architecture, Capacity, CpuMillis, Demand, Isolation, IsolationSet, MemoryMib, NodeId, NodeState};

use crate::{Fleet, FleetChange, HardLimit, NodeSnapshot, Placement, Refusal, Score, Unapplied};

fn id(number: u128) -> NodeId {
    format!("{number:032x}").parse().unwrap()
}

fn demand(cpu: u32, memory: u32) -> Demand {
    Demand::new(CpuMillis::new(cpu), MemoryMib::new(memory))
}

fn capacity(cpu_millis: u64, memory_mib: u64, instances: u32) -> Capacity {
    Capacity { cpu_millis, memory_mib, instances }
}

/// A ready amd64 node of 16 cores, 64 GiB and 100 instances.
fn node(number: u128, used: Capacity) -> NodeSnapshot {
    NodeSnapshot {
        id: id(number),
        architecture: Architecture::Amd64,
        state: NodeState::Ready,
        capacity: capacity(16_000, 65_536, 100),
        used,
        fences: true,
        protocol: 3,
        isolation: IsolationSet::default(),
        offer: wherry_model::NodeOffer::default(),
    }
}

/// What is left is enough and nothing else speaks against it, written down a second time on purpose.
fn may_take(node: &NodeSnapshot, demand: &Demand) -> bool {
    node.state == NodeState::Ready
        && node.used.instances < node.capacity.instances
        && node.used.cpu_millis + u64::from(demand.cpu.get()) <= node.capacity.cpu_millis
        && node.used.memory_mib + u64::from(demand.memory.get()) <= node.capacity.memory_mib
        && (!demand.fenced || node.fences)
        && demand.protocol <= node.protocol
        && node.isolation.iter().any(|class| class == demand.isolation)
        && (demand.architecture.is_none() || demand.architecture == Some(node.architecture))
}

/// The decision of someone who looks at every node.
fn scan(fleet: &Fleet, demand: &Demand, excluded: &[NodeId]) -> Option<Score> {
    let rate = fleet.exchange_rate();
    let fit = fleet.nodes().filter(|node| may_take(node, demand) && !excluded.contains(&node.id));
    fit.map(|node| Score::of(node, demand, rate)).min()
}

#[derive(Debug, Clone)]
enum Step {
    Change(FleetChange),
    /// Decide, and reserve what was decided.
    Place(Demand),
    /// Release the placement of this number, if there are so many.
    Leave(usize),
}

const IDS: u128 = 24;

fn any_demand() -> impl Strategy<Value = Demand> {
    let cpu = prop_oneof![select(vec![250_u32, 500, 1_000, 2_000, 4_000]), 10_u32..20_000];
    let memory = prop_oneof![select(vec![256_u32, 1_024, 4_096, 16_384]), 4_u32..70_000];
    let architecture = option::weighted(0.3, select(vec![Architecture::Amd64, Architecture::Arm64]));
    let protocol = select(vec![0_u32, 0, 3]);
    let isolation = select(vec![Isolation::Shared, Isolation::Shared, Isolation::Sandboxed]);
    let asked = (cpu, memory, architecture, any::<bool>(), protocol, isolation);
    asked.prop_map(|(cpu, memory, architecture, fenced, protocol, isolation)| Demand {
        architecture,
        fenced,
        protocol,
        isolation,
        ..demand(cpu, memory)
    })
}

fn any_node() -> impl Strategy<Value = NodeSnapshot> {
    let size =
        prop_oneof![Just((16_000_u64, 65_536_u64)), Just((64_000, 131_072)), (500_u64..70_000, 512_u64..140_000)];
    let state =
        select(vec![NodeState::Ready, NodeState::Ready, NodeState::Ready, NodeState::Cordoned, NodeState::Silent]);
    let architecture = select(vec![Architecture::Amd64, Architecture::Amd64, Architecture::Arm64]);
    // Sometimes more is used than there is: the node came back smaller.
    let used = option::of((0_u64..70_000, 0_u64..140_000, 0_u32..8));
    let spoken = select(vec![(true, 3_u32), (true, 2), (false, 1), (false, 3)]);
    let isolation = select(vec![Isolation::Shared, Isolation::Sandboxed, Isolation::VirtualMachine]);
    (0..IDS, size, 0_u32..8, state, architecture, used, spoken, isolation).prop_map(
        |(number, size, instances, state, architecture, used, (fences, protocol), isolation)| {
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
                offer: wherry_model::NodeOffer::default(),
            }
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any_node().prop_map(|node| Step::Change(FleetChange::Node(node))),
        1 => (0..IDS).prop_map(|number| Step::Change(FleetChange::Gone(id(number)))),
        1 => (0..IDS, any_demand()).prop_map(|(number, demand)| Step::Change(FleetChange::Reserve { node: id(number), demand })),
        1 => (0..IDS, any_demand()).prop_map(|(number, demand)| Step::Change(FleetChange::Release { node: id(number), demand })),
        8 => any_demand().prop_map(Step::Place),
        3 => (0_usize..64).prop_map(Step::Leave),
    ]
}

fn check_decision(fleet: &Fleet, demand: &Demand, excluded: &[NodeId]) -> Result<Option<Placement>, TestCaseError> {
    let decided = fleet.decide_excluding(demand, excluded);
    prop_assert_eq!(&decided, &fleet.clone().decide_excluding(demand, excluded), "the same again");
    match (decided, scan(fleet, demand, excluded)) {
        (Ok(placement), Some(best)) => {
            prop_assert_eq!(placement.why.score, best);
            prop_assert_eq!(placement.node, best.node);
            prop_assert!(may_take(fleet.node(placement.node).unwrap(), demand));
            Ok(Some(placement))
        }
        (Err(refusal), None) => {
            check_refusal(fleet, &refusal, excluded)?;
            Ok(None)
        }
        (decided, best) => Err(TestCaseError::fail(format!("decided {decided:?}, a scan finds {best:?}"))),
    }
}

fn check_refusal(fleet: &Fleet, refusal: &Refusal, excluded: &[NodeId]) -> Result<(), TestCaseError> {
    let nodes = u32::try_from(fleet.nodes().count()).unwrap();
    let named: u32 = refusal.refused.values().sum();
    prop_assert_eq!(refusal.nodes, nodes);
    prop_assert!(named >= nodes, "every node is refused by something");
    prop_assert!(refusal.refused.values().all(|count| (1..=nodes).contains(count)));
    let known = excluded.iter().filter(|id| fleet.node(**id).is_some()).count();
    prop_assert_eq!(refusal.by(HardLimit::Excluded), u32::try_from(known).unwrap());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn decides_as_a_scan_would_and_changes_add_up_to_a_rebuild(steps in vec(any_step(), 1..120), left_out in vec(0..IDS, 0..3)) {
        let mut fleet = Fleet::default();
        let mut placed = Vec::new();
        let excluded = std::collections::BTreeSet::from_iter(left_out).into_iter().map(id).collect::<Vec<_>>();
        for step in steps {
            match step {
                Step::Change(change) => {
                    let known = match change {
                        FleetChange::Node(_) => true,
                        FleetChange::Gone(node) | FleetChange::Reserve { node, .. } | FleetChange::Release { node, .. } => {
                            fleet.node(node).is_some()
                        }
                    };
                    let unknown = matches!(fleet.apply(change), Err(Unapplied::NoSuchNode(_)));
                    prop_assert_eq!(known, !unknown);
                }
                Step::Place(demand) => {
                    check_decision(&fleet, &demand, &excluded)?;
                    if let Some(Placement { node, .. }) = check_decision(&fleet, &demand, &[])? {
                        fleet.apply(FleetChange::Reserve { node, demand }).unwrap();
                        placed.push((node, demand));
                    }
                }
                Step::Leave(number) if number < placed.len() => {
                    let (node, demand) = placed.swap_remove(number);
                    // The node may be gone or replaced meanwhile: the error says so and nothing breaks.
                    let _ = fleet.apply(FleetChange::Release { node, demand });
                }
                Step::Leave(_) => {}
            }
            let mut backwards = fleet.nodes().copied().collect::<Vec<_>>();
            backwards.reverse();
            prop_assert_eq!(fleet.shape(), Fleet::from_iter(backwards).shape());
        }
    }

    /// Nothing is ever oversubscribed by deciding and reserving, and giving everything back leads to the first state.
    #[test]
    fn filling_and_emptying_ends_where_it_began(sizes in vec((1_000_u64..64_000, 1_024_u64..262_144, 1_u32..20), 1..20), demands in vec(any_demand(), 1..150)) {
        let nodes = sizes.iter().zip(0..).map(|((cpu, memory, instances), number)| NodeSnapshot {
            capacity: capacity(*cpu, *memory, *instances),
            ..node(number, Capacity::default())
        });
        let mut fleet = nodes.collect::<Fleet>();
        let first = fleet.shape();
        let mut placed = Vec::new();
        for demand in demands {
            if let Ok(Placement { node, .. }) = fleet.decide(&demand) {
                fleet.apply(FleetChange::Reserve { node, demand }).unwrap();
                placed.push((node, demand));
            }
        }
        for node in fleet.nodes() {
            prop_assert!(node.used.cpu_millis <= node.capacity.cpu_millis);
            prop_assert!(node.used.memory_mib <= node.capacity.memory_mib);
            prop_assert!(node.used.instances <= node.capacity.instances);
        }
        for (node, demand) in placed {
            fleet.apply(FleetChange::Release { node, demand }).unwrap();
        }
        prop_assert_eq!(fleet.shape(), first);
    }
}

#[test]
fn an_empty_node_stays_empty_while_another_fits() {
    let fleet = Fleet::from_iter([node(1, Capacity::default()), node(2, capacity(1_000, 1_024, 1))]);
    assert_eq!(fleet.decide(&demand(1_000, 1_024)).unwrap().node, id(2));
    assert_eq!(fleet.decide(&demand(16_000, 1_024)).unwrap().node, id(1));
}

#[test]
fn the_fullest_node_that_fits_is_best() {
    let fleet = Fleet::from_iter([
        node(1, capacity(4_000, 16_384, 1)),
        node(2, capacity(12_000, 49_152, 1)),
        node(3, capacity(15_500, 64_512, 1)),
    ]);
    assert_eq!(fleet.decide(&demand(1_000, 4_096)).unwrap().node, id(2));
}

#[test]
fn cpu_and_memory_are_used_up_together() {
    // Either has room. The first would keep five cores without any memory, the second a piece of both.
    let fleet = Fleet::from_iter([node(1, capacity(8_000, 57_344, 1)), node(2, capacity(12_000, 49_152, 1))]);
    let placement = fleet.decide(&demand(3_000, 8_192)).unwrap();
    assert_eq!(placement.node, id(2));
    // Its 4 free cores count as 3.84, their size class; 0.84 cores are worth 3440 MiB at 4096 MiB a core.
    assert_eq!((placement.why.score.residue_mib, placement.why.score.imbalance_mib), (8_192, 8_192 - 3_440));
}

#[test]
fn equals_are_told_apart_by_id() {
    let fleet = [3, 1, 2].map(|number| node(number, Capacity::default())).into_iter().collect::<Fleet>();
    assert_eq!(fleet.decide(&demand(10, 4)).unwrap().node, id(1));
    assert_eq!(fleet.decide_excluding(&demand(10, 4), &[id(1)]).unwrap().node, id(2));
}

#[test]
fn a_shelf_further_up_can_tie_and_win_by_balance() {
    // Both leave 2097 MiB of the larger part; only the second leaves as much of both.
    let fleet = Fleet::from_iter([
        node(1, capacity(16_000 - 512, 65_536 - 2_101, 1)),
        node(2, capacity(16_000 - 768, 65_536 - 2_101, 1)),
    ]);
    let placement = fleet.decide(&demand(256, 4)).unwrap();
    assert_eq!(placement.node, id(2));
    assert_eq!((placement.why.score.residue_mib, placement.why.score.imbalance_mib), (2_097, 0));
}

/// Knuth's MMIX generator: the fleet is the same every time.
fn draws() -> impl FnMut(u64) -> u64 {
    let mut seed = 7_u64;
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    }
}

#[test]
fn a_decision_costs_the_same_in_a_large_fleet() {
    const NODES: u128 = 20_000;
    let mut draw = draws();
    let mixed = (0..NODES).map(|number| node(number, capacity(draw(16_000), draw(65_536), 1))).collect::<Fleet>();
    // All of these stand in the demand's own size class, and none but one has enough CPU.
    let crowded = (0..NODES).map(|number| node(number, capacity(12_000 + draw(100), draw(32_768), 1)));
    let crowded = crowded.chain([node(NODES, capacity(11_900, 0, 1))]).collect::<Fleet>();
    let asked = [(250, 64), (250, 60_000), (15_000, 64), (1_000, 4_096), (8_000, 32_768)];
    for (fleet, cpu, memory) in
        asked.map(|(cpu, memory)| (&mixed, cpu, memory)).into_iter().chain([(&crowded, 4_050, 4)])
    {
        let before = fleet.visits();
        let placement = fleet.decide(&demand(cpu, memory)).unwrap();
        assert!(placement.why.candidates <= 48, "one for each size class up to 16 cores: {}", placement.why);
        let visits = fleet.visits() - before;
        assert!(visits <= 2_000, "{visits} entries were touched for {cpu}m, {memory} MiB");
    }
}

#[test]
fn a_refusal_counts_by_limit_and_names_no_node() {
    assert_eq!(
        Fleet::default().decide(&demand(1_000, 1_024)).unwrap_err().to_string(),
        "no room for 1 CPU and 1Gi memory: there are no nodes, join one"
    );
    let fleet = Fleet::from_iter([
        NodeSnapshot { state: NodeState::Cordoned, ..node(1, Capacity::default()) },
        node(2, capacity(15_500, 65_000, 1)),
        node(3, capacity(0, 65_000, 1)),
        node(4, capacity(1_000, 1_000, 100)),
        NodeSnapshot { architecture: Architecture::Arm64, ..node(5, Capacity::default()) },
    ]);
    let asked = Demand { architecture: Some(Architecture::Amd64), ..demand(1_000, 1_024) };
    let refusal = fleet.decide(&asked).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "no room for 1 CPU and 1Gi memory on amd64: of 5 nodes 1 cordoned, draining or silent, 1 of another architecture, \
         1 at their number of instances, 1 with too little CPU left, 2 with too little memory left; stop something, ask \
         for less, or try again later"
    );
    assert!(!fleet.decide(&demand(16_001, 4)).unwrap_err().fits_an_empty_node);
    let old = Fleet::from_iter([NodeSnapshot { fences: false, ..node(1, Capacity::default()) }]);
    assert_eq!(
        old.decide(&Demand { fenced: true, ..demand(1_000, 1_024) }).unwrap_err().to_string(),
        "no room for 1 CPU and 1Gi memory: of 1 node 1 with an agent too old for on_node_loss replace; stop something, ask \
         for less, or try again later"
    );
    assert!(old.decide(&demand(1_000, 1_024)).is_ok());
    let former = Fleet::from_iter([NodeSnapshot { protocol: 2, ..node(1, Capacity::default()) }]);
    assert_eq!(
        former.decide(&Demand { protocol: 3, ..demand(1_000, 1_024) }).unwrap_err().to_string(),
        "no room for 1 CPU and 1Gi memory: of 1 node 1 with an agent too old for what is asked; stop something, ask for \
         less, or try again later"
    );
    assert!(former.decide(&demand(1_000, 1_024)).is_ok());
}

#[test]
fn a_change_that_does_not_match_says_so() {
    let mut fleet = Fleet::from_iter([node(1, capacity(1_000, 1_024, 1))]);
    let (asked, ghost) = (demand(2_000, 1_024), id(9));
    assert_eq!(fleet.apply(FleetChange::Gone(ghost)), Err(Unapplied::NoSuchNode(ghost)));
    let release = FleetChange::Release { node: id(1), demand: asked };
    assert_eq!(fleet.apply(release), Err(Unapplied::MoreThanUsed(id(1))));
    assert!(fleet.node(id(1)).unwrap().is_empty());
}
