//! How fast the engine decides: `cargo run --release -p wherry-placement --example decisions`.
//!
//! Three fleet sizes, nodes of 96 cores and 256 GiB filled to about 85 % of their CPU with instances of many sizes, then
//! churn: one leaves, one is decided and reserved. Prints nanoseconds for each decision alone and for the change that
//! follows it, one core, nothing else in the process. A second table has half of the nodes without CPU and half without
//! memory, the worst shape for an index that looks at one of them first.

use std::time::{Duration, Instant};

use wherry_model::{Architecture, Capacity, CpuMillis, Demand, IsolationSet, MemoryMib, NodeId, NodeState};
use wherry_placement::{Fleet, FleetChange, NodeSnapshot};

const CPU_MILLIS: u64 = 96_000;
const MEMORY_MIB: u64 = 262_144;
const DECISIONS: usize = 200_000;

/// Knuth's MMIX generator: the run is the same every time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn demand(&mut self) -> Demand {
        const CPU: [u32; 8] = [250, 500, 500, 1_000, 1_000, 2_000, 4_000, 8_000];
        const MIB_PER_CORE: [u32; 4] = [1_024, 2_048, 2_048, 4_096];
        let mut pick = |from: &[u32]| from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)];
        let cpu = pick(&CPU);
        let memory = cpu * pick(&MIB_PER_CORE) / 1_000;
        Demand::new(CpuMillis::new(cpu), MemoryMib::new(memory))
    }
}

fn node(number: u64, used: Capacity) -> Result<NodeSnapshot, Box<dyn std::error::Error>> {
    Ok(NodeSnapshot {
        id: format!("{number:032x}").parse::<NodeId>()?,
        architecture: Architecture::Amd64,
        state: NodeState::Ready,
        capacity: Capacity { cpu_millis: CPU_MILLIS, memory_mib: MEMORY_MIB, instances: 1_000 },
        used,
        fences: true,
        protocol: 3,
        isolation: IsolationSet::default(),
        offer: wherry_model::NodeOffer::default(),
    })
}

fn percentile(sorted: &[Duration], percent: usize) -> u128 {
    sorted.get(sorted.len() * percent / 100).map_or(0, Duration::as_nanos)
}

fn report(nodes: u64, mut deciding: Vec<Duration>, changing: Duration, candidates: u64) {
    let count = deciding.len() as u128;
    deciding.sort_unstable();
    let total: u128 = deciding.iter().map(Duration::as_nanos).sum();
    println!(
        "{nodes:>9} {:>12} {:>9} {:>9} {:>13} {:>11} {:>11}",
        total / count,
        percentile(&deciding, 50),
        percentile(&deciding, 99),
        count * 1_000_000_000 / total.max(1),
        changing.as_nanos() / count,
        u128::from(candidates) / count
    );
}

fn churn(nodes: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut draw = Draw(42);
    let mut fleet = (0..nodes).map(|number| node(number, Capacity::default())).collect::<Result<Fleet, _>>()?;
    let mut placed = Vec::new();
    let mut used = 0;
    while used < nodes * CPU_MILLIS * 85 / 100 {
        let demand = draw.demand();
        let node = fleet.decide(&demand)?.node;
        fleet.apply(FleetChange::Reserve { node, demand })?;
        used += u64::from(demand.cpu.get());
        placed.push((node, demand));
    }
    let mut deciding = Vec::with_capacity(DECISIONS);
    let (mut changing, mut candidates) = (Duration::ZERO, 0);
    for _ in 0..DECISIONS {
        let leaver = usize::try_from(draw.below(placed.len() as u64))?;
        let (node, demand) = placed.swap_remove(leaver);
        fleet.apply(FleetChange::Release { node, demand })?;
        let demand = draw.demand();
        let start = Instant::now();
        let decided = fleet.decide(&demand);
        deciding.push(start.elapsed());
        let placement = decided?;
        let start = Instant::now();
        fleet.apply(FleetChange::Reserve { node: placement.node, demand })?;
        changing += start.elapsed();
        candidates += u64::from(placement.why.candidates);
        placed.push((placement.node, demand));
    }
    report(nodes, deciding, changing, candidates);
    Ok(())
}

fn lopsided(nodes: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut draw = Draw(42);
    let mut fleet = Fleet::default();
    for number in 0..nodes {
        let (cpu_left, memory_left) = if number % 2 == 0 {
            (draw.below(1_000), draw.below(MEMORY_MIB))
        } else {
            (draw.below(CPU_MILLIS), draw.below(512))
        };
        let used = Capacity { cpu_millis: CPU_MILLIS - cpu_left, memory_mib: MEMORY_MIB - memory_left, instances: 9 };
        fleet.apply(FleetChange::Node(node(number, used)?))?;
    }
    // One that fits, so that it is the search that is measured and not the counting of a refusal.
    let used = Capacity { cpu_millis: 1_000, memory_mib: 1_024, instances: 1 };
    fleet.apply(FleetChange::Node(node(nodes, used)?))?;
    let mut deciding = Vec::with_capacity(DECISIONS);
    let mut candidates = 0;
    for _ in 0..DECISIONS {
        let demand = Demand::new(CpuMillis::new(1_000), MemoryMib::new(1_024));
        let start = Instant::now();
        let decided = fleet.decide(&demand);
        deciding.push(start.elapsed());
        candidates += u64::from(decided?.why.candidates);
    }
    report(nodes, deciding, Duration::ZERO, candidates);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let head = "    nodes  decision ns       p50       p99   decisions/s  reserve ns  candidates";
    println!("churn at 85 % of the CPU\n{head}");
    [1_000, 10_000, 100_000].into_iter().try_for_each(churn)?;
    println!("\nhalf without CPU, half without memory\n{head}");
    [1_000, 10_000, 100_000].into_iter().try_for_each(lopsided)
}
