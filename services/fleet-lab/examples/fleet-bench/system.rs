//! The clock and the random numbers that fake agents are handed.

use rustix::time::{ClockId, clock_gettime};
use wherry_model::{Clock, Entropy, Timestamp};

/// The machine's wall clock.
pub(crate) struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let now = clock_gettime(ClockId::Realtime);
        Timestamp::from_micros(now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000))
    }
}

/// The kernel's random numbers.
pub(crate) struct KernelEntropy;

impl Entropy for KernelEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        use std::io::Read as _;
        let read = std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(bytes));
        read.unwrap_or_else(|error| panic!("the kernel gives no random numbers: {error}"));
    }
}
