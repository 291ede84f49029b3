//! A heuristic that knows when each ends. No bound: a better use of that knowledge may exist.

#![expect(clippy::cast_precision_loss, reason = "times below 2^52")]

use anyhow::Result;

use super::Policy;
use super::scan::left;
use crate::nodes::Nodes;
use crate::workload::{Arrival, Lives};

/// An hour that a machine is kept longer is worth so many machines that stay free.
const KEPT_PER_HOUR: f64 = 2.0;

/// Prefers the machine that is kept least longer and the best fit, weighed.
#[derive(Debug)]
pub(crate) struct Oracle {
    lives: Lives,
    ends_ms: u64,
    /// What an hour is worth that a machine outlives what is put on it: with some, what is short takes no room among what is long.
    outlived_per_hour: f64,
    /// Of each machine, who is there and when it ends.
    there: Vec<Vec<(usize, u64)>>,
    last_end_ms: Vec<u64>,
}

impl Oracle {
    pub(crate) const fn new(lives: Lives, ends_ms: u64, outlived_per_hour: f64) -> Self {
        Self { lives, ends_ms, outlived_per_hour, there: Vec::new(), last_end_ms: Vec::new() }
    }
}

impl Policy for Oracle {
    fn place(&mut self, nodes: &Nodes, arrival: &Arrival) -> Result<Option<usize>> {
        let count = nodes.all().len();
        self.there.resize(count, Vec::new());
        self.last_end_ms.resize(count, 0);
        let end_ms = self.lives.end_ms(arrival.number).unwrap_or(self.ends_ms);
        let hours = |later: u64, sooner: u64| later.saturating_sub(sooner) as f64 / 3_600_000.0;
        let mut best: Option<(bool, f64, usize)> = None;
        for (number, node) in nodes.candidates().iter().enumerate().filter(|(_, node)| node.holds(arrival)) {
            let (cpu, memory) = left(node, arrival);
            let last_ms = self.last_end_ms[number].max(arrival.at_ms);
            let (kept, outlived) = (hours(end_ms, last_ms), hours(last_ms, end_ms));
            let score = kept * KEPT_PER_HOUR + outlived * self.outlived_per_hour + cpu + memory;
            let score = (node.is_empty(), score, number);
            if best.is_none_or(|best| score < best) {
                best = Some(score);
            }
        }
        let Some((_, _, number)) = best else { return Ok(None) };
        self.there[number].push((arrival.number, end_ms));
        self.last_end_ms[number] = self.last_end_ms[number].max(end_ms);
        Ok(Some(number))
    }

    fn ended(&mut self, arrival: &Arrival, node: usize, _now_ms: u64) -> Result<()> {
        self.there[node].retain(|(number, _)| *number != arrival.number);
        self.last_end_ms[node] = self.there[node].iter().map(|(_, end_ms)| *end_ms).max().unwrap_or(0);
        Ok(())
    }
}
