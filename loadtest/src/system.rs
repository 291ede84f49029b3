//! Where time and randomness come from, and how many files may be open.

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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

/// Numbers that are the same for the same seed: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// In [0, 1).
    pub(crate) fn fraction(&mut self) -> f64 {
        let high = u32::try_from(self.next() >> 32).unwrap_or(u32::MAX);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }

    /// True in `permille` of a thousand cases.
    pub(crate) const fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }
}

/// Raises the limit of open files to what the kernel lets this process have. Says what is wrong when that is too few: each
/// node is a connection, each request that is under way is one.
pub(crate) fn allow_open_files(wanted: u64) -> Result<()> {
    let present = getrlimit(Resource::Nofile);
    let most = present.maximum.unwrap_or(u64::MAX);
    if present.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted.min(most)), maximum: present.maximum };
        setrlimit(Resource::Nofile, raised).context("the limit of open files cannot be raised")?;
    }
    anyhow::ensure!(
        most >= wanted,
        "{wanted} open files are needed and {most} allowed: raise the hard limit (ulimit -Hn), also for wherry"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_fractions_are_spread() {
        let draw = |seed| -> Vec<u64> {
            let mut random = Seeded::new(seed);
            (0..4).map(|_| random.next()).collect()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let mut random = Seeded::new(1);
        let drawn: Vec<f64> = (0..1_000).map(|_| random.fraction()).collect();
        assert!(drawn.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        let low = drawn.iter().filter(|fraction| **fraction < 0.25).count();
        assert!((200..300).contains(&low), "{low} of 1000 in the first quarter");
    }
}
