//! The times that matter, and what follows from a distribution over them. Probabilities are in 65,536ths.

use wherry_model::Departure;

/// One, as a probability.
pub(super) const ONE: u32 = 1 << 16;

/// How many ages are told apart.
pub(super) const AGES: usize = 20;

/// From which age on (seconds) each is: five minutes, then two for each doubling.
pub(super) const AGE_FLOORS: [u64; AGES] = [
    0, 300, 424, 600, 849, 1_200, 1_697, 2_400, 3_394, 4_800, 6_788, 9_600, 13_576, 19_200, 27_153, 38_400, 54_306,
    76_800, 108_612, 153_600,
];

/// Where the last age would end.
pub(super) const LAST_AGE_END: u64 = 217_223;

/// How many moments in the future are looked at.
pub(super) const STEPS: usize = 20;

/// These, in seconds from now: five minutes to a day, each about a third later. Looking three days ahead instead of one made no
/// placement better.
pub(super) const AHEAD: [u64; STEPS] = [
    300, 405, 547, 738, 996, 1_345, 1_816, 2_452, 3_310, 4_468, 6_032, 8_143, 10_993, 14_841, 20_035, 27_048, 36_514,
    49_294, 66_547, 89_839,
];

/// The middle of each departure class, in seconds from now: a quarter of an hour, then two for each doubling.
const CLASS_SECONDS: [u64; Departure::CLASSES] =
    [0, 900, 1_273, 1_800, 2_546, 3_600, 5_091, 7_200, 10_182, 14_400, 20_365, 28_800, 40_729, 57_600, 81_459, 115_200];

/// A machine kept this much longer than it would be is one step worse, in seconds. Below it the fit decides.
const STEP_SECONDS: u64 = 1_200;

/// So many seconds that a machine outlives what is put on it are as bad as one that it is kept longer.
const OUTLIVED_PER_KEPT: u64 = 100;

/// The age that begins latest of those that are not above `seconds`.
pub(super) fn age_of(seconds: u64) -> usize {
    AGE_FLOORS.partition_point(|floor| *floor <= seconds).saturating_sub(1)
}

/// Where an age ends.
pub(super) fn age_end(age: usize) -> u64 {
    AGE_FLOORS.get(age + 1).copied().unwrap_or(LAST_AGE_END)
}

/// What is taken as the age of all those of one.
pub(super) fn age_middle(age: usize) -> u64 {
    if age == 0 { 0 } else { u64::midpoint(AGE_FLOORS[age.min(AGES - 1)], age_end(age)) }
}

/// Expected seconds beyond `from_s`, of one that is still there at each moment with these probabilities, up to the last moment.
pub(super) fn seconds_beyond(survival: &[u32; STEPS], from_s: u64) -> u64 {
    let mut before = 0;
    let mut sum = 0;
    for (moment, probability) in AHEAD.into_iter().zip(survival) {
        let from = from_s.max(before);
        sum += moment.saturating_sub(from) * u64::from(*probability);
        before = moment;
    }
    sum / u64::from(ONE)
}

/// How badly one with these probabilities suits a machine of each class.
pub(super) fn departure(survival: &[u32; STEPS]) -> Departure {
    let lives_s = seconds_beyond(survival, 0);
    Departure(CLASS_SECONDS.map(|stays_s| {
        let kept_s = seconds_beyond(survival, stays_s);
        let outlived_s = (stays_s + kept_s).saturating_sub(lives_s);
        let steps = (kept_s + outlived_s / OUTLIVED_PER_KEPT) / STEP_SECONDS;
        u8::try_from(steps).unwrap_or(u8::MAX)
    }))
}

/// When a machine is expected to be empty: at each moment the probability that all are gone, in 2^32nds.
#[derive(Debug, Clone)]
pub(super) struct Outlook([u64; STEPS]);

/// Of an empty one.
impl Default for Outlook {
    fn default() -> Self {
        Self([1 << 32; STEPS])
    }
}

impl Outlook {
    /// One more that is still there with these probabilities, whatever the others do.
    pub(super) fn add(&mut self, survival: &[u32; STEPS]) {
        for (gone, probability) in self.0.iter_mut().zip(survival) {
            *gone = (*gone * u64::from(ONE.saturating_sub(*probability))) >> 16;
        }
    }

    /// The departure class: never 0, which is for empty machines.
    pub(super) fn class(&self) -> u8 {
        let mut before = 0;
        let mut sum = 0_u64;
        for (moment, gone) in AHEAD.into_iter().zip(self.0) {
            sum += (moment - before) * (((1 << 32) - gone) >> 16);
            before = moment;
        }
        let seconds = sum / u64::from(ONE);
        // The border of two classes is their geometric mean.
        let class = (1..Departure::CLASSES - 1)
            .find(|class| seconds * seconds <= CLASS_SECONDS[*class] * CLASS_SECONDS[*class + 1]);
        u8::try_from(class.unwrap_or(Departure::CLASSES - 1)).unwrap_or(u8::MAX)
    }
}
