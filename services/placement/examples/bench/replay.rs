//! Plays a workload against a policy, and counts.
//!
//! At equal times departures come first. A machine counts while it has an instance. The policy is told of a departure when it has
//! happened, never before.

#![expect(clippy::cast_precision_loss, reason = "amounts below 2^52")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use anyhow::Result;
use serde::Serialize;

use crate::bound::{cost, lower_bound};
use crate::nodes::{Nodes, Shape};
use crate::policies::Policy;
use crate::workload::{Arrival, Lives};

/// Points of a curve.
const POINTS: u64 = 240;

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// What was used over the lower bound of it, both over the whole time.
    pub(crate) ratio: f64,
    /// The same of the first and of the second half of the time.
    pub(crate) ratio_of_halves: [f64; 2],
    /// Machines in use at once, at most. With machines of one shape this is the smallest fleet that rejects nothing, for policies that
    /// take an empty machine only where none in use fits: one machine less would have had none for the arrival that took the
    /// last, after the same decisions.
    pub(crate) most_open: u64,
    /// Used, in machine-hours; machines of several shapes count by their cores, of 96.
    pub(crate) node_hours: f64,
    /// The bound, in the same.
    pub(crate) bound_hours: f64,
    /// Arrivals for which no machine had room.
    pub(crate) rejected: u64,
    /// (hours from the begin, lower bound, machines in use)
    #[serde(skip)]
    pub(crate) curve: Vec<(f64, f64, f64)>,
}

/// What is in use now, and the sums over time.
struct Count<'a> {
    shapes: &'a [Shape],
    began_ms: u64,
    middle_ms: u64,
    ends_ms: u64,
    last_ms: u64,
    next_point_ms: u64,
    cpu_millis: u64,
    memory_mib: u64,
    open: u64,
    open_cost: f64,
    used: [f64; 2],
    bound: [f64; 2],
    curve: Vec<(f64, f64, f64)>,
}

impl Count<'_> {
    fn advance(&mut self, to_ms: u64) {
        if self.last_ms < self.middle_ms && to_ms > self.middle_ms {
            self.pass(self.middle_ms);
        }
        self.pass(to_ms);
    }

    fn pass(&mut self, to_ms: u64) {
        if to_ms <= self.last_ms {
            return;
        }
        let half = usize::from(self.last_ms >= self.middle_ms);
        let hours = (to_ms - self.last_ms) as f64 / 3_600_000.0;
        let bound = lower_bound(self.shapes, self.cpu_millis, self.memory_mib);
        self.used[half] += self.open_cost * hours;
        self.bound[half] += bound * hours;
        self.last_ms = to_ms;
        if to_ms >= self.next_point_ms {
            let hours = (to_ms - self.began_ms) as f64 / 3_600_000.0;
            self.curve.push((hours, bound, self.open_cost));
            self.next_point_ms = to_ms + (self.ends_ms - self.began_ms) / POINTS;
        }
    }

    fn change(&mut self, arrival: &Arrival, comes: bool) {
        let (cpu, memory) = (u64::from(arrival.cpu_millis), u64::from(arrival.memory_mib));
        if comes {
            self.cpu_millis += cpu;
            self.memory_mib += memory;
        } else {
            self.cpu_millis -= cpu;
            self.memory_mib -= memory;
        }
    }
}

/// The fleet of `count` machines of `shapes`, at first empty; `arrivals` as the policy is to see them.
pub(crate) fn replay(
    (shapes, count): (&[Shape], usize),
    (arrivals, lives, ends_ms): (&[Arrival], &Lives, u64),
    policy: &mut dyn Policy,
) -> Result<Outcome> {
    let began_ms = arrivals.first().map_or(0, |arrival| arrival.at_ms);
    let middle_ms = u64::midpoint(began_ms, ends_ms);
    let mut nodes = Nodes::empty(shapes, count);
    let mut at: Vec<Option<usize>> = vec![None; arrivals.len()];
    let mut due: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let (mut most_open, mut rejected) = (0, 0);
    let mut count = Count {
        shapes,
        began_ms,
        middle_ms,
        ends_ms,
        last_ms: began_ms,
        next_point_ms: began_ms,
        cpu_millis: 0,
        memory_mib: 0,
        open: 0,
        open_cost: 0.0,
        used: [0.0; 2],
        bound: [0.0; 2],
        curve: Vec::new(),
    };
    let end = |count: &mut Count<'_>, nodes: &mut Nodes, policy: &mut dyn Policy, now_ms, number: usize, node| {
        count.advance(now_ms);
        let arrival: &Arrival = &arrivals[number];
        nodes.give_back(node, arrival)?;
        count.change(arrival, false);
        if nodes.all()[node].is_empty() {
            count.open -= 1;
            count.open_cost -= cost(nodes.all()[node].shape);
        }
        policy.ended(arrival, node, now_ms)
    };
    for arrival in arrivals {
        while let Some(Reverse((end_ms, number))) = due.peek().copied().filter(|due| due.0.0 <= arrival.at_ms) {
            due.pop();
            if let Some(node) = at[number] {
                end(&mut count, &mut nodes, policy, end_ms, number, node)?;
            }
        }
        count.advance(arrival.at_ms);
        let Some(node) = policy.place(&nodes, arrival)? else {
            rejected += 1;
            continue;
        };
        nodes.take(node, arrival)?;
        count.change(arrival, true);
        if nodes.all()[node].instances == 1 {
            count.open += 1;
            count.open_cost += cost(nodes.all()[node].shape);
            most_open = most_open.max(count.open);
        }
        at[arrival.number] = Some(node);
        due.extend(lives.end_ms(arrival.number).map(|end_ms| Reverse((end_ms, arrival.number))));
    }
    while let Some(Reverse((end_ms, number))) = due.pop() {
        if let Some(node) = at[number] {
            end(&mut count, &mut nodes, policy, end_ms, number, node)?;
        }
    }
    count.advance(ends_ms);
    let (node_hours, bound_hours) = (count.used.iter().sum::<f64>(), count.bound.iter().sum::<f64>());
    Ok(Outcome {
        ratio: node_hours / bound_hours,
        ratio_of_halves: [count.used[0] / count.bound[0], count.used[1] / count.bound[1]],
        most_open,
        node_hours,
        bound_hours,
        rejected,
        curve: count.curve,
    })
}
