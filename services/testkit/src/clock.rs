//! A clock that moves when the test says so.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use wherry_model::{Clock, Timestamp};

/// Where every test begins: 2026-01-01T00:00:00Z.
const BEGINNING_SECOND: i64 = 1_767_225_600;

/// A wall clock turned by hand, forward and back. It stands still unless it was let run.
#[derive(Debug)]
pub struct ManualClock {
    /// What it shows, less the time that it has run.
    micros: AtomicI64,
    runs_since: OnceLock<Instant>,
}

impl Default for ManualClock {
    fn default() -> Self {
        let beginning = Timestamp::from_seconds(BEGINNING_SECOND);
        Self { micros: AtomicI64::new(beginning.as_micros()), runs_since: OnceLock::new() }
    }
}

impl ManualClock {
    /// Lets it run with tokio's clock from now on; it can be turned all the same.
    pub fn run(&self) {
        self.runs_since.get_or_init(Instant::now);
    }

    /// Whether it runs by itself.
    pub fn runs(&self) -> bool {
        self.runs_since.get().is_some()
    }

    /// Turns it forward.
    pub fn advance(&self, by: Duration) {
        self.turn(Timestamp::plus, by);
    }

    /// Turns it back, as an operator or a time server may.
    pub fn turn_back(&self, by: Duration) {
        self.turn(Timestamp::minus, by);
    }

    fn turn(&self, turn: fn(Timestamp, Duration) -> Timestamp, by: Duration) {
        let turned = |micros| Some(turn(Timestamp::from_micros(micros), by).as_micros());
        self.micros.fetch_update(Ordering::SeqCst, Ordering::SeqCst, turned).ok();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let shown = Timestamp::from_micros(self.micros.load(Ordering::SeqCst));
        self.runs_since.get().map_or(shown, |since| shown.plus(since.elapsed()))
    }
}
