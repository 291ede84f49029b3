//! The fleet that is replayed on: what is free where. It refuses to be overfilled, whoever asks.

use anyhow::{Result, ensure};

use crate::workload::Arrival;

/// A size of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) cpu_millis: u64,
    pub(crate) memory_mib: u64,
}

impl Shape {
    pub(crate) const fn new(cores: u64, gib: u64) -> Self {
        Self { cpu_millis: cores * 1_000, memory_mib: gib * 1_024 }
    }

    pub(crate) const fn holds(self, arrival: &Arrival) -> bool {
        arrival.cpu_millis as u64 <= self.cpu_millis && arrival.memory_mib as u64 <= self.memory_mib
    }
}

/// One machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) shape: Shape,
    pub(crate) free: Shape,
    pub(crate) instances: u32,
}

impl Node {
    pub(crate) const fn holds(&self, arrival: &Arrival) -> bool {
        self.free.holds(arrival)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.instances == 0
    }
}

/// All machines.
#[derive(Debug, Clone)]
pub(crate) struct Nodes {
    all: Vec<Node>,
    /// Kinds of machines, which take turns.
    shapes: usize,
    /// No node from here on has ever been used.
    unused_from: usize,
}

impl Nodes {
    /// `count` empty ones, of these shapes in turn.
    pub(crate) fn empty(shapes: &[Shape], count: usize) -> Self {
        let node = |shape: &Shape| Node { shape: *shape, free: *shape, instances: 0 };
        Self { all: shapes.iter().cycle().take(count).map(node).collect(), shapes: shapes.len(), unused_from: 0 }
    }

    pub(crate) fn all(&self) -> &[Node] {
        &self.all
    }

    /// All that could be told apart: those that were ever used, and an unused one of each shape.
    pub(crate) fn candidates(&self) -> &[Node] {
        &self.all[..self.all.len().min(self.unused_from + self.shapes)]
    }

    pub(crate) fn take(&mut self, number: usize, arrival: &Arrival) -> Result<()> {
        let node = self.all.get_mut(number);
        let Some(node) = node.filter(|node| node.holds(arrival)) else {
            anyhow::bail!("the policy put arrival {} on node {number}, which cannot hold it", arrival.number)
        };
        node.free.cpu_millis -= u64::from(arrival.cpu_millis);
        node.free.memory_mib -= u64::from(arrival.memory_mib);
        node.instances += 1;
        self.unused_from = self.unused_from.max(number + 1);
        Ok(())
    }

    pub(crate) fn give_back(&mut self, number: usize, arrival: &Arrival) -> Result<()> {
        ensure!(self.all.get(number).is_some_and(|node| !node.is_empty()), "node {number} has nothing to give back");
        let node = &mut self.all[number];
        node.free.cpu_millis += u64::from(arrival.cpu_millis);
        node.free.memory_mib += u64::from(arrival.memory_mib);
        node.instances -= 1;
        Ok(())
    }
}
