//! The verdict on every node, for people. Walks the fleet: it is asked for by a person, and never on the way of a decision.

use std::collections::BTreeMap;
use std::fmt;

use wherry_model::Demand;

use crate::context::Context;
use crate::decision::{Ask, no_room, way_out};
use crate::fleet::Fleet;
use crate::limit::HardLimit;
use crate::score::Score;

/// How many of the best are told.
const BEST: usize = 3;

/// What was found. Prints as a sentence without node names, which tenants may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What was asked.
    pub demand: Box<Demand>,
    /// How many nodes there are.
    pub nodes: u32,
    /// How many take it.
    pub fits: u32,
    /// How many each limit refused; limits that refused none are absent. A node can be refused by several.
    pub refused: BTreeMap<HardLimit, u32>,
    /// The best of those that take it, at most three, the best first. The first is where a decision would put it.
    pub best: Vec<Score>,
    /// Whether some node, whatever its state, would hold it when empty.
    pub fits_an_empty_node: bool,
}

impl Fleet {
    /// Why a decision on `ask` is what it is.
    pub fn explain(&self, ask: &Ask<'_>) -> Explanation {
        let context = Context::of(self, ask);
        let decided = self.decide_for(ask);
        let mut refused = BTreeMap::new();
        let (mut nodes, mut fits) = (0, 0);
        let mut best = Vec::with_capacity(BEST + 1);
        for (at, _) in self.present() {
            nodes += 1;
            let mut takes = true;
            for limit in HardLimit::ALL.into_iter().filter(|limit| context.refuses(*limit, at)) {
                takes = false;
                *refused.entry(limit).or_insert(0) += 1;
            }
            if takes {
                fits += 1;
                best.push(context.score(at));
                best.sort_unstable();
                best.truncate(BEST);
            }
        }
        // Of a wide-spread image not every node that has it is looked at: what was decided is the best that was.
        if let Ok(placement) = &decided {
            best.retain(|score| score.node != placement.node);
            best.insert(0, placement.why.score);
            best.truncate(BEST);
        }
        let fits_an_empty_node = decided.err().is_none_or(|refusal| refusal.fits_an_empty_node);
        Explanation { demand: Box::new(*ask.demand), nodes, fits, refused, best, fits_an_empty_node }
    }
}

impl Explanation {
    /// How many nodes this limit refused.
    pub fn by(&self, limit: HardLimit) -> u32 {
        self.refused.get(&limit).copied().unwrap_or(0)
    }

    /// The same with the names of the best nodes, for who may see the fleet.
    pub const fn for_operators(&self) -> ForOperators<'_> {
        ForOperators(self)
    }

    fn counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} node{}", self.nodes, if self.nodes == 1 { "" } else { "s" })?;
        for (limit, count) in &self.refused {
            let separator = if self.refused.keys().next() == Some(limit) { "" } else { "," };
            write!(f, "{separator} {count} {limit}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(best) = self.best.first() {
            write!(f, "{} of {} nodes would take it; {best}", self.fits, self.nodes)?;
            if !self.refused.is_empty() {
                f.write_str("; ")?;
                self.counts(f)?;
            }
            return Ok(());
        }
        no_room(f, &self.demand)?;
        if self.nodes > 0 {
            f.write_str(": ")?;
            self.counts(f)?;
        }
        way_out(f, self.nodes, self.fits_an_empty_node)
    }
}

/// Prints an [`Explanation`] with the best nodes by name, a line for each.
#[derive(Debug, Clone, Copy)]
pub struct ForOperators<'a>(&'a Explanation);

impl fmt::Display for ForOperators<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut ranked = self.0.best.iter().zip(1..);
        ranked.try_for_each(|(score, rank)| write!(f, "\n{rank}. node {}: {score}", score.node))
    }
}
