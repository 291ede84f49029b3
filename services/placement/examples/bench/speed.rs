//! How fast the engine decides, one core, nothing else in the process.
//!
//! Three sizes of fleet, filled to 85 % of their CPU by deciding, then churn: one instance leaves (its amounts are released, it departs),
//! one is decided, reserved and settled. Nothing but demands that the fleet was filled with: what is asked of whom stands in
//! [`MIX`]. The rate of pairs is taken over a run without a clock in it, latencies in a second run with one. Beside it a linear best
//! fit over a flat array with the amounts and the kind alone, which is less than the engine looks at.

#![expect(clippy::cast_precision_loss, reason = "rates and means of less than 2^52 things")]

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;
use wherry_model::{
    Architecture, Capacity, CpuMillis, Demand, DeviceSet, GpuAmount, GpuDemand, Gpus, Group, HostPort, ImageKey,
    InstanceId, Isolation, IsolationSet, MemoryMib, NodeId, NodeOffer, NodeState, Protocol, Spread, SpreadOver, Stock,
    TenantId, Terms, ZoneName,
};
use wherry_placement::{Ask, Fleet, FleetChange, NodeSnapshot};

/// What is asked, in words.
pub(crate) const MIX: &str = "1 to 32 cores at 2 to 4 GiB a core; every instance carries a label (20 to a group on average) and a tenant; \
    50 % ask for disk, 30 % for an image, 30 % for an architecture, 10 % for a zone, 5 % for a sandbox, 15 % are spot, 15 % spread \
    their group over nodes, 5 % over zones, 10 % apart from their group, 5 % near it, 5 % a public port, 2 % GPUs, 0.5 % a node \
    alone; nodes of 96 cores and 256 GiB in 3 zones, 10 % of them arm64, 5 % with 8 GPUs, 20 % with sandboxes, 10 of 200 images on each";

const SIZES: [u64; 3] = [1_000, 10_000, 100_000];
const CPU_MILLIS: u64 = 96_000;
const MEMORY_MIB: u64 = 262_144;
const FULL_PERCENT: u64 = 85;
const PAIRS: usize = 300_000;
const LINEAR: usize = 300;
const IMAGES: u64 = 200;

/// One size of fleet.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// How many nodes.
    pub(crate) nodes: u64,
    /// How many instances were on them.
    pub(crate) instances: u64,
    /// Decisions a second, of the time that decisions alone take.
    pub(crate) decisions_per_s: f64,
    /// Decide, reserve, settle, release, depart: so many such rounds a second.
    pub(crate) pairs_per_s: f64,
    /// Of a decision.
    pub(crate) mean_us: f64,
    /// Of a decision.
    pub(crate) p50_us: f64,
    /// Of a decision.
    pub(crate) p99_us: f64,
    /// Of a decision.
    pub(crate) p999_us: f64,
    /// How many nodes were scored for a decision, on average.
    pub(crate) candidates: f64,
    /// Demands that no node could take.
    pub(crate) refused_percent: f64,
    /// A linear best fit, of a decision.
    pub(crate) linear_mean_us: f64,
    /// A linear best fit, of a decision.
    pub(crate) linear_p99_us: f64,
    /// Of the time, what part this thread had a core: less than about 99 means that something else ran on this machine, and that all
    /// the times are too long.
    pub(crate) had_core_percent: f64,
    /// The mean by what is asked, in microseconds, the slowest first. A demand that asks for several counts for each.
    pub(crate) by_wish: Vec<(&'static str, f64)>,
    /// Of the engine's picture.
    pub(crate) bytes_per_node: u64,
    /// Of the engine's picture.
    pub(crate) bytes_per_instance: u64,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Speed {
    /// Decisions a second in the largest fleet.
    pub(crate) decisions_per_s: f64,
    /// Rounds a second in the largest fleet.
    pub(crate) pairs_per_s: f64,
    /// Of a decision in the largest fleet.
    pub(crate) p99_us: f64,
    /// How many times longer a decision takes in the largest fleet than in the smallest.
    pub(crate) growth: f64,
    /// What was asked.
    pub(crate) mix: &'static str,
    /// By size of fleet.
    pub(crate) rows: Vec<Row>,
}

/// Knuth's MMIX generator: the run is the same every time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn in_thousand(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        from[usize::try_from(self.below(N as u64)).unwrap_or(0)]
    }
}

fn id(number: u64) -> uuid::Uuid {
    // In no order that means anything, as ids are.
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    uuid::Uuid::from_u64_pair(mixed ^ (mixed >> 29), number)
}

fn zone(number: u64) -> Option<ZoneName> {
    ["a", "b", "c"][usize::try_from(number % 3).unwrap_or(0)].parse().ok()
}

fn node(number: u64, draw: &mut Draw) -> NodeSnapshot {
    let arm = draw.in_thousand(100);
    let gpus = if draw.in_thousand(50) { Gpus { count: 8, ..Gpus::default() } } else { Gpus::default() };
    let isolation = if draw.in_thousand(200) { vec![Isolation::Sandboxed] } else { Vec::new() };
    NodeSnapshot {
        id: NodeId::from_uuid(id(number)),
        architecture: if arm { Architecture::Arm64 } else { Architecture::Amd64 },
        state: NodeState::Ready,
        capacity: Capacity { cpu_millis: CPU_MILLIS, memory_mib: MEMORY_MIB, instances: 500 },
        used: Capacity::default(),
        fences: true,
        protocol: 3,
        isolation: isolation.into_iter().collect::<IsolationSet>(),
        offer: NodeOffer {
            zone: zone(number),
            disk: Some(Stock { total_mib: 4 << 20, used_mib: 0 }),
            gpus,
            ..NodeOffer::default()
        },
    }
}

/// An instance that wants a place. `groups` is how many groups there are.
fn wish(draw: &mut Draw, groups: u64) -> (Demand, Terms) {
    let cores = draw.pick([1_u32, 2, 2, 4, 4, 8, 16, 32]);
    let memory = cores * draw.pick([2_048_u32, 2_048, 2_730, 4_096]);
    let number = draw.below(groups);
    let tenant = TenantId::from_uuid(id(number / 10));
    let group = Group { tenant, label: number };
    let gpu = draw.in_thousand(20).then(|| GpuDemand {
        amount: draw.pick([GpuAmount::Whole(1), GpuAmount::Whole(2), GpuAmount::Share(250), GpuAmount::Share(500)]),
        model: None,
        devices: DeviceSet::default(),
    });
    let demand = Demand {
        architecture: draw.in_thousand(300).then(|| draw.pick([Architecture::Amd64; 10])),
        isolation: if draw.in_thousand(50) { Isolation::Sandboxed } else { Isolation::Shared },
        disk: MemoryMib::new(if draw.in_thousand(500) { draw.pick([1_024, 10_240, 102_400]) } else { 0 }),
        gpu,
        zone: if draw.in_thousand(100) { zone(draw.below(3)) } else { None },
        tenant: Some(tenant),
        dedicated: draw.in_thousand(5),
        spot: draw.in_thousand(150),
        ..Demand::new(CpuMillis::new(cores * 1_000), MemoryMib::new(memory))
    };
    let mut terms = Terms { groups: vec![group], ..Terms::default() };
    match draw.below(1_000) {
        0..150 => terms.spread.push(Spread { group, over: SpreadOver::Nodes, max_skew: 2 }),
        150..200 => terms.spread.push(Spread { group, over: SpreadOver::Zones, max_skew: 5 }),
        200..300 => terms.apart.push(group),
        300..350 => terms.near.push(group),
        350..400 => {
            terms.ports.push(HostPort { protocol: Protocol::Tcp, port: draw.pick([80, 443, 5_432, 8_080, 9_000]) });
        }
        _ => {}
    }
    if draw.in_thousand(300) {
        // Some images are everywhere, most are rare.
        terms.images.push(ImageKey(draw.below(IMAGES).min(draw.below(IMAGES))));
    }
    (demand, terms)
}

struct Placed {
    instance: InstanceId,
    node: NodeId,
    demand: Demand,
}

struct World {
    fleet: Fleet,
    placed: Vec<Placed>,
    draw: Draw,
    groups: u64,
    next: u64,
    refused: u64,
    candidates: u64,
    decided: u64,
}

impl World {
    fn full(nodes: u64) -> Self {
        let mut draw = Draw(42);
        let fleet = (0..nodes).map(|number| node(number, &mut draw)).collect::<Fleet>();
        let instances = nodes * CPU_MILLIS * FULL_PERCENT / 100 / 8_625;
        let groups = (instances / 20).max(1);
        let mut world =
            Self { fleet, placed: Vec::new(), draw, groups, next: 0, refused: 0, candidates: 0, decided: 0 };
        for number in 0..nodes {
            let images =
                (0..10).map(|_| ImageKey(world.draw.below(IMAGES).min(world.draw.below(IMAGES)))).collect::<Vec<_>>();
            let _ = world.fleet.images(NodeId::from_uuid(id(number)), &images);
        }
        let mut used = 0;
        while used < nodes * CPU_MILLIS * FULL_PERCENT / 100 {
            let (demand, terms) = wish(&mut world.draw, world.groups);
            if world.place(&demand, &terms).is_some() {
                used += u64::from(demand.cpu.get());
            }
        }
        (world.refused, world.candidates, world.decided) = (0, 0, 0);
        world
    }

    /// Decides and takes; how long the decision took is for the caller to measure.
    fn place(&mut self, demand: &Demand, terms: &Terms) -> Option<()> {
        let decided = self.fleet.decide_for(&Ask { demand, terms, excluded: &[] });
        self.decided += 1;
        let Ok(placement) = decided else {
            self.refused += 1;
            return None;
        };
        self.candidates += u64::from(placement.why.candidates);
        self.take(placement.node, placement.devices, demand, terms);
        Some(())
    }

    fn take(&mut self, node: NodeId, devices: DeviceSet, demand: &Demand, terms: &Terms) {
        let demand = Demand { gpu: demand.gpu.map(|gpu| GpuDemand { devices, ..gpu }), ..*demand };
        let instance = InstanceId::from_uuid(id(self.next));
        self.next += 1;
        let _ = self.fleet.apply(FleetChange::Reserve { node, demand });
        let _ = self.fleet.settle(instance, node, &demand, terms);
        self.placed.push(Placed { instance, node, demand });
    }

    fn leave(&mut self) {
        let count = self.placed.len() as u64;
        let leaver = usize::try_from(self.draw.below(count)).unwrap_or(0);
        let Placed { instance, node, demand } = self.placed.swap_remove(leaver);
        let _ = self.fleet.apply(FleetChange::Release { node, demand });
        self.fleet.depart(instance);
    }
}

/// All sizes of fleet.
pub(crate) fn run() -> Speed {
    let rows = SIZES.map(measure).to_vec();
    let (first, last) = (&rows[0], &rows[SIZES.len() - 1]);
    Speed {
        decisions_per_s: last.decisions_per_s,
        pairs_per_s: last.pairs_per_s,
        p99_us: last.p99_us,
        growth: last.mean_us / first.mean_us,
        mix: MIX,
        rows: rows.clone(),
    }
}

fn measure(nodes: u64) -> Row {
    let mut world = World::full(nodes);
    let instances = world.placed.len() as u64;
    // What the fleet has had of churn since it was filled is part of how full nodes look.
    round(&mut world, PAIRS / 3);
    let wishes = (0..PAIRS).map(|_| wish(&mut world.draw, world.groups)).collect::<Vec<_>>();
    let began = Instant::now();
    for (demand, terms) in &wishes {
        world.leave();
        world.place(demand, terms);
    }
    let pairs = began.elapsed();
    (world.refused, world.candidates, world.decided) = (0, 0, 0);
    let mut deciding = Vec::with_capacity(PAIRS);
    let (began_all, cpu_before) = (Instant::now(), cpu_time());
    for (demand, terms) in &wishes {
        world.leave();
        let began = Instant::now();
        let decided = world.fleet.decide_for(&Ask { demand, terms, excluded: &[] });
        deciding.push(began.elapsed());
        world.decided += 1;
        match decided {
            Ok(placement) => {
                world.candidates += u64::from(placement.why.candidates);
                world.take(placement.node, placement.devices, demand, terms);
            }
            Err(_) => world.refused += 1,
        }
    }
    let had_core_percent =
        cpu_time().saturating_sub(cpu_before).as_secs_f64() * 100.0 / began_all.elapsed().as_secs_f64();
    let linear = linear(&world, &wishes);
    let (node_bytes, instance_bytes) = world.fleet.bytes();
    let by_wish = by_wish(&wishes, &deciding);
    deciding.sort_unstable();
    let mean_us = mean(&deciding);
    Row {
        nodes,
        instances,
        decisions_per_s: 1e6 / mean_us,
        pairs_per_s: PAIRS as f64 / pairs.as_secs_f64(),
        mean_us,
        p50_us: percentile(&deciding, 500),
        p99_us: percentile(&deciding, 990),
        p999_us: percentile(&deciding, 999),
        candidates: world.candidates as f64 / world.decided as f64,
        refused_percent: world.refused as f64 * 100.0 / world.decided as f64,
        linear_mean_us: mean(&linear),
        linear_p99_us: percentile(&linear, 990),
        had_core_percent,
        by_wish,
        bytes_per_node: node_bytes as u64 / nodes,
        bytes_per_instance: instance_bytes as u64 / instances,
    }
}

/// What this thread has had of a core so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

fn round(world: &mut World, pairs: usize) {
    for _ in 0..pairs {
        let (demand, terms) = wish(&mut world.draw, world.groups);
        world.leave();
        world.place(&demand, &terms);
    }
}

/// The same fleet as a flat array, and a best fit that looks at all of it.
fn linear(world: &World, wishes: &[(Demand, Terms)]) -> Vec<Duration> {
    struct Flat {
        cpu: u64,
        memory: u64,
        architecture: Architecture,
        zone: Option<ZoneName>,
        id: NodeId,
    }
    let flat = world.fleet.nodes().map(|node| {
        let free = node.free();
        Flat {
            cpu: free.cpu_millis,
            memory: free.memory_mib,
            architecture: node.architecture,
            zone: node.offer.zone,
            id: node.id,
        }
    });
    let flat = flat.collect::<Vec<_>>();
    let rate = world.fleet.exchange_rate();
    let mut times = Vec::with_capacity(LINEAR);
    for (demand, _) in wishes.iter().take(LINEAR) {
        let began = Instant::now();
        let (cpu, memory) = (u64::from(demand.cpu.get()), u64::from(demand.memory.get()));
        let fit = flat.iter().filter(|node| {
            node.cpu >= cpu
                && node.memory >= memory
                && demand.architecture.is_none_or(|wanted| wanted == node.architecture)
                && (demand.zone.is_none() || demand.zone == node.zone)
        });
        let best = fit.map(|node| (rate.as_mib(node.cpu - cpu).max(node.memory - memory), node.id)).min();
        times.push(began.elapsed());
        std::hint::black_box(best);
    }
    times.sort_unstable();
    times
}

fn by_wish(wishes: &[(Demand, Terms)], times: &[Duration]) -> Vec<(&'static str, f64)> {
    let over = |terms: &Terms, over: SpreadOver| terms.spread.iter().any(|spread| spread.over == over);
    let asks = |name: &'static str, asks: &dyn Fn(&Demand, &Terms) -> bool| {
        let times = wishes.iter().zip(times).filter(|((demand, terms), _)| asks(demand, terms));
        let times = times.map(|(_, time)| *time).collect::<Vec<_>>();
        (name, mean(&times))
    };
    let mut means = vec![
        asks("disk", &|demand, _| demand.disk.get() > 0),
        asks("image", &|_, terms| !terms.images.is_empty()),
        asks("architecture", &|demand, _| demand.architecture.is_some()),
        asks("zone", &|demand, _| demand.zone.is_some()),
        asks("sandbox", &|demand, _| demand.isolation == Isolation::Sandboxed),
        asks("spread over nodes", &|_, terms| over(terms, SpreadOver::Nodes)),
        asks("spread over zones", &|_, terms| over(terms, SpreadOver::Zones)),
        asks("apart", &|_, terms| !terms.apart.is_empty()),
        asks("near", &|_, terms| !terms.near.is_empty()),
        asks("port", &|_, terms| !terms.ports.is_empty()),
        asks("GPU", &|demand, _| demand.gpu.is_some()),
        asks("a node alone", &|demand, _| demand.dedicated),
        asks("32 cores", &|demand, _| demand.cpu.get() == 32_000),
    ];
    means.sort_by(|a, b| b.1.total_cmp(&a.1));
    means
}

fn mean(times: &[Duration]) -> f64 {
    times.iter().sum::<Duration>().as_secs_f64() * 1e6 / times.len() as f64
}

fn percentile(sorted: &[Duration], permille: usize) -> f64 {
    sorted.get(sorted.len() * permille / 1_000).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "fleet {FULL_PERCENT} % full; {MIX}\n")?;
        writeln!(
            f,
            "  nodes instances decisions/s  pairs/s  mean us   p50 us   p99 us p99.9 us candidates refused % linear us  p99 us  B/node B/instance core %"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:>7} {:>9} {:>11.0} {:>8.0} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>10.1} {:>9.2} {:>9.1} {:>7.1} {:>7} {:>10} {:>6.0}",
                row.nodes,
                row.instances,
                row.decisions_per_s,
                row.pairs_per_s,
                row.mean_us,
                row.p50_us,
                row.p99_us,
                row.p999_us,
                row.candidates,
                row.refused_percent,
                row.linear_mean_us,
                row.linear_p99_us,
                row.bytes_per_node,
                row.bytes_per_instance,
                row.had_core_percent
            )?;
        }
        for row in &self.rows {
            let means = row.by_wish.iter().map(|(wish, mean)| format!("{wish} {mean:.2}")).collect::<Vec<_>>();
            writeln!(f, "{} nodes, mean us of those who ask for: {}", row.nodes, means.join(", "))?;
        }
        write!(f, "from {} to {} nodes a decision takes {:.2} times as long", SIZES[0], SIZES[2], self.growth)
    }
}
