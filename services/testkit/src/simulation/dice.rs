//! Every choice of a simulated world comes from one seed. The world runs on one thread, so the choices are asked for in
//! the same order every time.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Clones share one sequence.
#[derive(Debug, Clone)]
pub(super) struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    pub(super) fn below(&self, end: u64) -> u64 {
        self.random().random_range(0..end.max(1))
    }

    pub(super) fn index(&self, len: usize) -> usize {
        self.random().random_range(0..len.max(1))
    }

    /// True in so many of a thousand cases.
    pub(super) fn happens(&self, in_thousand: u32) -> bool {
        self.random().random_range(0..1_000) < in_thousand
    }

    pub(super) fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.random().random_range(range))
    }

    pub(super) fn pick<'v, T>(&self, values: &'v [T]) -> Option<&'v T> {
        if values.is_empty() { None } else { values.get(self.index(values.len())) }
    }

    fn random(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
