//! What is learnt, of all kinds of instances.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::curve::Curve;
use super::expectation::{Basis, Expectation};
use super::grid::{STEPS, departure, seconds_beyond};
use super::traits::{Kind, Traits};

/// How long what was reckoned is used, in seconds.
const RECKON_SECONDS: u64 = 300;
/// Images of a batch that are told apart.
const BATCH_IMAGES: usize = 8;
/// From so many on what is learnt stands on its own.
const ENOUGH: u32 = 10;

/// What is known of lifetimes. Kept with serde; bounded.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Learner {
    curves: BTreeMap<u64, Curve>,
    batches: BTreeMap<u64, Batch>,
    /// Counts what was learnt: what was touched longest ago goes first.
    turn: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Batch {
    started: u32,
    /// What its members are of, and how many.
    images: Vec<(u64, u32)>,
    touched: u64,
}

impl Learner {
    /// Kinds of instances of which something is known at most, about 2 KiB each.
    pub const CURVES: usize = 2_048;
    /// Batches that are remembered at most.
    pub const BATCHES: usize = 4_096;

    /// As what the next of these traits is learnt by.
    pub(super) fn kind_of_next(&self, traits: &Traits) -> Kind {
        let batch = self.batches.get(&traits.batch).filter(|_| traits.batch != 0);
        kind(traits, &batch.cloned().unwrap_or_default().with(traits.image))
    }

    /// The same of one that has begun before.
    pub(super) fn kind_of_known(&self, traits: &Traits) -> Kind {
        match self.batches.get(&traits.batch) {
            Some(batch) => kind(traits, batch),
            None => self.kind_of_next(traits),
        }
    }

    /// As what one that began as `kind` is expected to run: what most of its batch are may have come out since.
    pub(super) fn kind_now(&self, kind: Kind, batch: u64) -> Kind {
        match self.batches.get(&batch).filter(|_| batch != 0).and_then(Batch::most) {
            Some(image) => Kind { image, ..kind },
            None => kind,
        }
    }

    pub(super) fn began(&mut self, traits: &Traits) -> Kind {
        self.turn = self.turn.saturating_add(1);
        let kind = self.kind_of_next(traits);
        if traits.batch != 0 {
            let batch = self.batches.remove(&traits.batch).unwrap_or_default().with(traits.image);
            self.batches.insert(traits.batch, Batch { touched: self.turn, ..batch });
            forget_half(&mut self.batches, Self::BATCHES, |batch| batch.touched);
        }
        for key in kind.keys().into_iter().flatten() {
            let curve = self.curves.entry(key).or_default();
            curve.touched = self.turn;
            curve.reach(0);
        }
        // Those of all are always the newest touched.
        forget_half(&mut self.curves, Self::CURVES, |curve| curve.touched);
        kind
    }

    /// Grows with what is learnt of beginnings and ends.
    pub const fn learnt(&self) -> u64 {
        self.turn
    }

    pub(super) fn reached(&mut self, kind: &Kind, age: usize) {
        self.each(kind, |curve| curve.reach(age));
    }

    pub(super) fn ended(&mut self, kind: &Kind, age: usize) {
        self.turn = self.turn.saturating_add(1);
        self.each(kind, |curve| curve.end(age));
    }

    /// For one of this kind and age, the probabilities that it is still there.
    pub(super) fn survival(&mut self, kind: &Kind, age: usize, now_s: u64) -> [u32; STEPS] {
        let best = self.reckon(kind, now_s);
        self.curves.entry(best).or_default().survival(age)
    }

    pub(super) fn expect(&mut self, kind: &Kind, age: usize, now_s: u64) -> Expectation {
        let survival = self.survival(kind, age, now_s);
        let known = kind.keys().into_iter().zip(Basis::BY_GENERALITY).rev();
        let mut known = known.filter_map(|(key, basis)| Some((self.curves.get(&key?)?.count(), basis)));
        let all = (self.curves.get(&0).map_or(0, Curve::count), Basis::All);
        let (learnt_from, basis) = known.find(|(count, _)| *count >= ENOUGH).unwrap_or(all);
        Expectation { departs: departure(&survival), remaining_s: seconds_beyond(&survival, 0), learnt_from, basis }
    }

    fn each(&mut self, kind: &Kind, mut learn: impl FnMut(&mut Curve)) {
        for key in kind.keys().into_iter().flatten() {
            if let Some(curve) = self.curves.get_mut(&key) {
                learn(curve);
            }
        }
    }

    /// Brings what is known of it up to date, from the general to the particular; the key of the most particular.
    fn reckon(&mut self, kind: &Kind, now_s: u64) -> u64 {
        let at = now_s / RECKON_SECONDS + 1;
        let keys = kind.keys();
        let mut known = keys.iter().rev().flatten().filter(|key| self.curves.contains_key(key));
        let best = known.next().copied().unwrap_or(0);
        if self.curves.get(&best).is_some_and(|curve| curve.reckoned == at) {
            return best;
        }
        let mut general = Curve::beforehand();
        for key in keys.into_iter().flatten() {
            let Some(curve) = self.curves.get_mut(&key) else { continue };
            if curve.reckoned != at {
                curve.reckon(&general, at);
            }
            general = *curve.hazard();
        }
        best
    }
}

impl Batch {
    /// The image of most of its members, and how sure that is (0 to 3: doublings of its lead over all others). Of equals the last number,
    /// so that it is the same for every member.
    fn most(&self) -> Option<(u64, u64)> {
        let (image, votes) = self.images.iter().copied().max_by_key(|(image, count)| (*count, *image))?;
        let others = self.images.iter().map(|(_, count)| *count).sum::<u32>().saturating_sub(votes);
        let lead = votes.saturating_sub(others);
        Some((image, u64::from(u32::BITS - lead.leading_zeros()).min(3)))
    }

    fn with(mut self, image: u64) -> Self {
        self.started = self.started.saturating_add(1);
        if let Some((_, count)) = self.images.iter_mut().find(|(known, _)| *known == image) {
            *count = count.saturating_add(1);
        } else if image != 0 && self.images.len() < BATCH_IMAGES {
            self.images.push((image, 1));
        }
        self
    }
}

fn kind(traits: &Traits, batch: &Batch) -> Kind {
    let place = if traits.batch == 0 { 0 } else { u64::from(batch.started.max(1).ilog2()) + 1 };
    let image = batch.most().unwrap_or((traits.image, 0));
    Kind { tenant: traits.tenant, image, shape: traits.shape, place }
}

/// When there are more than `most`, the half that was touched longest ago goes.
fn forget_half<V>(known: &mut BTreeMap<u64, V>, most: usize, touched: impl Fn(&V) -> u64) {
    if known.len() <= most {
        return;
    }
    let mut turns = known.values().map(&touched).collect::<Vec<_>>();
    let (_, middle, _) = turns.select_nth_unstable(most / 2);
    let middle = *middle;
    known.retain(|_, value| touched(value) > middle);
}
