//! A clock that moves when the test says so.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use wherry_model::{Clock, Timestamp};

/// Where every test begins: 2026-01-01T00:00:00Z.
const BEGINNING_SECOND: i64 = 1_767_225_600;

/// A wall clock turned by hand, forward and back.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl Default for ManualClock {
    fn default() -> Self {
        Self(AtomicI64::new(Timestamp::from_seconds(BEGINNING_SECOND).as_micros()))
    }
}

impl ManualClock {
    /// Turns it forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }

    /// Turns it back, as an operator or a time server may.
    pub fn turn_back(&self, by: Duration) {
        self.set(self.now().minus(by));
    }

    /// Sets it.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}
