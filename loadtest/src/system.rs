//! Where time and chance come from, and how many files may be open.

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use wherry_model::{Clock, Entropy, Timestamp};
/// What is drawn the same for the same seed.
pub(crate) use wherry_trace::Seeded;

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
