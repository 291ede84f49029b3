//! What is known of one kind of instance: how many reached each age, and how many ended there.

use serde::{Deserialize, Serialize};

use super::grid::{AGE_FLOORS, AGES, AHEAD, LAST_AGE_END, ONE, STEPS, age_end, age_middle};

/// Of those that reach an age, what part ends in it, before anything is learnt: survival falls as (age + 5 min)^-0.7. What has
/// run long runs longer.
const BEFOREHAND: [u32; AGES] = [
    25_194, 8_076, 9_259, 10_300, 11_156, 11_897, 12_473, 12_912, 13_245, 13_487, 13_668, 13_794, 13_890, 13_955,
    14_002, 14_036, 14_059, 14_077, 14_088, 14_097,
];

/// So many instances does the more general knowledge count for.
const LEANING: u64 = 10;

/// Counts are halved when one passes this: old news fades, and nothing overflows.
const MOST_COUNTED: u32 = 1 << 20;

/// Nothing is certain: the least and the greatest part of those of an age that end in it.
const CERTAIN: (u32, u32) = (33, 64_225);

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Curve {
    reached: [u32; AGES],
    ended: [u32; AGES],
    passed: [u32; AGES],
    /// As of `reckoned`: what part of those that reach each age ends in it.
    #[serde(skip, default = "Curve::beforehand")]
    hazard: [u32; AGES],
    #[serde(skip)]
    pub(super) reckoned: u64,
    pub(super) touched: u64,
    /// Follows from `hazard`: for each age, who is still there at each moment.
    #[serde(skip)]
    survival: Vec<[u32; STEPS]>,
}

impl Default for Curve {
    fn default() -> Self {
        let none = [0; AGES];
        Self {
            reached: none,
            ended: none,
            passed: none,
            hazard: BEFOREHAND,
            reckoned: 0,
            touched: 0,
            survival: Vec::new(),
        }
    }
}

impl Curve {
    pub(super) const fn beforehand() -> [u32; AGES] {
        BEFOREHAND
    }

    pub(super) const fn hazard(&self) -> &[u32; AGES] {
        &self.hazard
    }

    /// How many it was learnt from.
    pub(super) const fn count(&self) -> u32 {
        self.reached[0]
    }

    /// One has reached this age.
    pub(super) fn reach(&mut self, age: usize) {
        self.reached[age] = self.reached[age].saturating_add(1);
        if let Some(before) = age.checked_sub(1) {
            self.passed[before] = self.passed[before].saturating_add(1);
        }
        if self.reached[age] > MOST_COUNTED {
            for count in [&mut self.reached, &mut self.ended, &mut self.passed].into_iter().flatten() {
                *count /= 2;
            }
        }
    }

    /// One has ended at this age.
    pub(super) fn end(&mut self, age: usize) {
        self.ended[age] = self.ended[age].saturating_add(1);
    }

    /// Reckons anew what was counted, leaning on what is known more generally.
    pub(super) fn reckon(&mut self, general: &[u32; AGES], at: u64) {
        for (age, general) in general.iter().enumerate() {
            // Of those on their way through an age, half are taken as having been at risk (actuarial estimate).
            let ended = u64::from(self.ended[age]);
            let known = ended + u64::from(self.passed[age]);
            let under_way = u64::from(self.reached[age]).saturating_sub(known);
            let halves = known * 2 + under_way;
            let parts = ended * 2 * u64::from(ONE) + 2 * LEANING * u64::from(*general);
            let hazard = u32::try_from(parts / (halves + 2 * LEANING)).unwrap_or(ONE);
            self.hazard[age] = hazard.clamp(CERTAIN.0, CERTAIN.1);
        }
        self.reckoned = at;
        self.survival.clear();
    }

    /// For one of this age, the probabilities that it is still there.
    pub(super) fn survival(&mut self, age: usize) -> [u32; STEPS] {
        if self.survival.is_empty() {
            self.survival = self.table();
        }
        self.survival.get(age).copied().unwrap_or([ONE; STEPS])
    }

    fn table(&self) -> Vec<[u32; STEPS]> {
        // In 2^40ths: what part reaches each age.
        let mut reach = [1_u64 << 40; AGES + 1];
        for age in 0..AGES {
            reach[age + 1] = (reach[age] * u64::from(ONE - self.hazard[age])) >> 16;
        }
        let at = |seconds: u64| {
            if seconds >= LAST_AGE_END {
                return reach[AGES] * LAST_AGE_END / seconds;
            }
            let age = super::grid::age_of(seconds);
            let (from, to) = (AGE_FLOORS[age], age_end(age));
            reach[age] - (reach[age] - reach[age + 1]) * (seconds - from) / (to - from)
        };
        let of_age = |age| {
            let (since, there) = (age_middle(age), at(age_middle(age)).max(1));
            AHEAD.map(|ahead| u32::try_from((at(since + ahead) << 16) / there).unwrap_or(ONE).min(ONE))
        };
        (0..AGES).map(of_age).collect()
    }
}
