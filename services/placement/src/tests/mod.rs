//! The engine against a scan of every node, under random fleets, demands and churn; and by example.

mod evictions;
mod properties;
mod scan;

use wherry_model::{Architecture, Capacity, CpuMillis, Demand, IsolationSet, MemoryMib, NodeId, NodeOffer, NodeState};

use crate::shelf::VISITS;
use crate::{Ask, Fleet, FleetChange, NodeSnapshot, Unapplied};

pub(super) fn id(number: u128) -> NodeId {
    format!("{number:032x}").parse().unwrap()
}

pub(super) fn demand(cpu: u32, memory: u32) -> Demand {
    Demand::new(CpuMillis::new(cpu), MemoryMib::new(memory))
}

pub(super) fn capacity(cpu_millis: u64, memory_mib: u64, instances: u32) -> Capacity {
    Capacity { cpu_millis, memory_mib, instances }
}

/// A ready amd64 node of 16 cores, 64 GiB and 100 instances.
pub(super) fn node(number: u128, used: Capacity) -> NodeSnapshot {
    NodeSnapshot {
        id: id(number),
        architecture: Architecture::Amd64,
        state: NodeState::Ready,
        capacity: capacity(16_000, 65_536, 100),
        used,
        fences: true,
        protocol: 3,
        isolation: IsolationSet::default(),
        offer: NodeOffer::default(),
    }
}

fn visits() -> u64 {
    VISITS.with(std::cell::Cell::get)
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
        let before = visits();
        let placement = fleet.decide(&demand(cpu, memory)).unwrap();
        assert!(placement.why.candidates <= 48, "one for each size class up to 16 cores: {}", placement.why);
        let visits = visits() - before;
        assert!(visits <= 2_000, "{visits} entries were touched for {cpu}m, {memory} MiB");
    }
}

#[test]
fn an_explanation_counts_by_limit_and_names_no_node() {
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
    let refusal = fleet.explain(&Ask::of(&asked));
    assert_eq!(
        refusal.to_string(),
        "no room for 1 CPU and 1Gi memory on amd64: of 5 nodes 1 cordoned, draining or silent, 1 of another architecture, \
         1 at their number of instances, 1 with too little CPU left, 2 with too little memory left; stop something, ask \
         for less, or try again later"
    );
    assert_eq!(
        fleet.decide(&asked).unwrap_err().to_string(),
        "no room for 1 CPU and 1Gi memory on amd64; stop something, ask for less, or try again later"
    );
    assert!(!fleet.decide(&demand(16_001, 4)).unwrap_err().fits_an_empty_node);
    let old = Fleet::from_iter([NodeSnapshot { fences: false, ..node(1, Capacity::default()) }]);
    assert_eq!(
        old.explain(&Ask::of(&Demand { fenced: true, ..demand(1_000, 1_024) })).to_string(),
        "no room for 1 CPU and 1Gi memory: of 1 node 1 with an agent too old for on_node_loss replace; stop something, ask \
         for less, or try again later"
    );
    assert!(old.decide(&demand(1_000, 1_024)).is_ok());
    let former = Fleet::from_iter([NodeSnapshot { protocol: 2, ..node(1, Capacity::default()) }]);
    assert_eq!(
        former.explain(&Ask::of(&Demand { protocol: 3, ..demand(1_000, 1_024) })).to_string(),
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
