//! The same at a rate that this machine's disk does not do: the engine that decides, rows in memory that referee, and between them the
//! delays that were measured, at whatever rate.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use wherry_model::{
    Architecture, Capacity, CpuMillis, Demand, IsolationSet, MemoryMib, NodeId, NodeOffer, NodeRecord, NodeState,
};
use wherry_placement::{Fleet, FleetChange, NodeSnapshot};

use crate::machines::{MACHINES, ROOM, ballast};
use crate::{Measured, REPLICAS, percentile, rate, size};

const PER_SECOND: u64 = 2_000;
const SECONDS: u64 = 30;
/// As control does.
const MAX_PROPOSALS: u32 = 5;

/// In order of time; the number tells apart what happens at the same time.
type Due = Reverse<(u64, u64, Event)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A create reaches this replica.
    Create(usize),
    /// The row is asked.
    Asked { replica: usize, node: NodeId, cpu: u32, memory: u32, tries: u32, decided: u64 },
    /// The replica learns what the row says.
    Known(usize, NodeId),
}

struct World {
    rows: BTreeMap<NodeId, NodeSnapshot>,
    replicas: Vec<Fleet>,
    /// What each has proposed and not heard of, by node.
    proposed: Vec<BTreeMap<NodeId, Capacity>>,
    due: BinaryHeap<Due>,
    number: u64,
    random: StdRng,
    proposals: u64,
    refused: u64,
    no_room: u64,
}

/// What came of it, with the delays of `measured` and with ones that are much longer.
pub(crate) fn report(measured: &Measured) -> String {
    let mut text = format!(
        "In virtual time, {PER_SECOND} creates a second for {SECONDS} s on {REPLICAS} replicas, {MACHINES} machines of 96 cores and 256 GiB:\n\n\
         | delay of the row's answer and until others know | proposals | refused by the row | conflicts | no room |\n|---|---:|---:|---:|---:|\n"
    );
    for (times, shares) in [(1, true), (1, false), (4, true), (16, true)] {
        let longer = |samples: &[Duration]| samples.iter().map(|delay| *delay * times).collect::<Vec<_>>();
        let (answers, delays) = (longer(&measured.answers), longer(&measured.delays));
        let mut world = World::new(shares);
        world.run(&answers, &delays);
        let World { proposals, refused, no_room, .. } = world;
        let note = if shares { "" } else { ", without shares of the fleet" };
        let (p50, p99) = (percentile(&delays, 50), percentile(&delays, 99));
        let conflicts = rate(refused, proposals);
        writeln!(
            text,
            "| measured × {times} (known elsewhere p50 {p50} ms, p99 {p99} ms){note} | {proposals} | {refused} | {conflicts} | {no_room} |"
        )
        .unwrap();
    }
    text
}

fn demand(cpu: u32, memory: u32) -> Demand {
    Demand::new(CpuMillis::new(cpu), MemoryMib::new(memory))
}

fn amount(cpu: u32, memory: u32) -> Capacity {
    Capacity { cpu_millis: cpu.into(), memory_mib: memory.into(), instances: 1 }
}

const fn plus(a: Capacity, b: Capacity) -> Capacity {
    Capacity {
        cpu_millis: a.cpu_millis + b.cpu_millis,
        memory_mib: a.memory_mib + b.memory_mib,
        instances: a.instances + b.instances,
    }
}

impl World {
    fn new(shares: bool) -> Self {
        let mut random = StdRng::seed_from_u64(2);
        let sizes = ballast(&mut random, PER_SECOND * SECONDS);
        let rows: BTreeMap<NodeId, NodeSnapshot> = sizes
            .into_iter()
            .map(|(cpu, memory)| {
                let id = NodeId::from_uuid(uuid::Uuid::from_u128(random.random()));
                let node = NodeSnapshot {
                    id,
                    architecture: Architecture::Amd64,
                    state: NodeState::Ready,
                    capacity: ROOM,
                    used: amount(cpu, memory),
                    fences: true,
                    protocol: NodeRecord::PROTOCOL_OF_REVISIONS,
                    isolation: IsolationSet::default(),
                    offer: NodeOffer::default(),
                };
                (id, node)
            })
            .collect();
        let of = u32::try_from(REPLICAS).unwrap();
        let replicas = (0..of).map(|index| {
            let mut fleet: Fleet = rows.values().copied().collect();
            if shares {
                fleet.prefer_share(index, of);
            }
            fleet
        });
        let mut world = Self {
            replicas: replicas.collect(),
            rows,
            proposed: vec![BTreeMap::new(); REPLICAS],
            due: BinaryHeap::new(),
            number: 0,
            random,
            proposals: 0,
            refused: 0,
            no_room: 0,
        };
        for number in 0..PER_SECOND * SECONDS {
            world.later(number * 1_000_000 / PER_SECOND, Event::Create(usize::try_from(number).unwrap() % REPLICAS));
        }
        world
    }

    fn later(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.due.push(Reverse((at, self.number, event)));
    }

    fn run(&mut self, answers: &[Duration], delays: &[Duration]) {
        while let Some(Reverse((now, _, event))) = self.due.pop() {
            match event {
                Event::Create(replica) => {
                    let (cpu, memory) = size(&mut self.random);
                    self.propose(now, replica, (cpu, memory), 1, answers);
                }
                Event::Asked { replica, node, cpu, memory, tries, decided } => {
                    self.answer((replica, node), (cpu, memory));
                    let row = self.rows.get_mut(&node).unwrap();
                    let fits = row.capacity.minus(row.used).holds(demand(cpu, memory));
                    if fits {
                        row.used = plus(row.used, amount(cpu, memory));
                    }
                    self.learn(replica, node);
                    if fits {
                        for other in (0..REPLICAS).filter(|other| *other != replica) {
                            let at = now.max(decided + self.sample(delays));
                            self.later(at, Event::Known(other, node));
                        }
                    } else {
                        self.refused += 1;
                        if tries < MAX_PROPOSALS {
                            self.propose(now, replica, (cpu, memory), tries + 1, answers);
                        } else {
                            self.no_room += 1;
                        }
                    }
                }
                Event::Known(replica, node) => self.learn(replica, node),
            }
        }
    }

    fn propose(&mut self, now: u64, replica: usize, (cpu, memory): (u32, u32), tries: u32, answers: &[Duration]) {
        let Ok(placement) = self.replicas[replica].decide(&demand(cpu, memory)) else {
            self.no_room += 1;
            return;
        };
        self.proposals += 1;
        let node = placement.node;
        self.replicas[replica].apply(FleetChange::Reserve { node, demand: demand(cpu, memory) }).unwrap();
        let proposed = self.proposed[replica].entry(node).or_default();
        *proposed = plus(*proposed, amount(cpu, memory));
        let at = now + self.sample(answers);
        self.later(at, Event::Asked { replica, node, cpu, memory, tries, decided: now });
    }

    /// The proposal is decided, one way or the other.
    fn answer(&mut self, (replica, node): (usize, NodeId), (cpu, memory): (u32, u32)) {
        let proposed = self.proposed[replica].get_mut(&node).unwrap();
        *proposed = proposed.minus(amount(cpu, memory));
        if *proposed == Capacity::default() {
            self.proposed[replica].remove(&node);
        }
    }

    fn learn(&mut self, replica: usize, node: NodeId) {
        let mut snapshot = self.rows[&node];
        if let Some(proposed) = self.proposed[replica].get(&node) {
            snapshot.used = plus(snapshot.used, *proposed);
        }
        self.replicas[replica].apply(FleetChange::Node(snapshot)).unwrap();
    }

    fn sample(&mut self, delays: &[Duration]) -> u64 {
        let index = self.random.random_range(0..delays.len().max(1));
        delays.get(index).map_or(0, |delay| u64::try_from(delay.as_micros()).unwrap())
    }
}
