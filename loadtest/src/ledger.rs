//! What was asked and what was answered, kept by whoever asked: the auditor holds the service to it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use wherry_model::InstanceId;

/// Latencies are kept from a microsecond to two minutes, to three digits.
const LONGEST_MICROS: u64 = 120_000_000;
const DIGITS: u8 = 3;

/// An acknowledged create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) project: String,
    pub(crate) cpu_millis: u64,
    pub(crate) memory_mib: u64,
    /// Whether a delete was asked for: from then on it may be gone.
    pub(crate) delete_asked: bool,
    /// Whether that was acknowledged.
    pub(crate) deleted: bool,
}

/// One second of the run.
#[derive(Debug, Clone)]
pub(crate) struct Second {
    /// Of creates that were scheduled in it, in microseconds from then.
    pub(crate) latency: Histogram<u64>,
    pub(crate) failed: u64,
}

/// The whole run.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) acknowledged: BTreeMap<InstanceId, Acknowledged>,
    /// Creates that were answered with a refusal or not at all, by why.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Deletes that failed, likewise.
    pub(crate) failed_deletes: BTreeMap<String, u64>,
    pub(crate) seconds: Vec<Second>,
    /// From the scheduled time to the acknowledgement, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// From when the request was really sent.
    pub(crate) service: Histogram<u64>,
    /// The same id twice: two creates were told that they made the same instance.
    pub(crate) repeated: Vec<InstanceId>,
}

impl Ledger {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            acknowledged: BTreeMap::new(),
            failures: BTreeMap::new(),
            failed_deletes: BTreeMap::new(),
            seconds: Vec::new(),
            latency: histogram()?,
            service: histogram()?,
            repeated: Vec::new(),
        })
    }

    pub(crate) fn acknowledge(
        &mut self,
        id: InstanceId,
        entry: Acknowledged,
        scheduled: Duration,
        (late, service): (Duration, Duration),
    ) -> Result<()> {
        if self.acknowledged.insert(id, entry).is_some() {
            self.repeated.push(id);
        }
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros(late));
        self.service.saturating_record(micros(service));
        self.second(scheduled)?.latency.saturating_record(micros(late));
        Ok(())
    }

    pub(crate) fn fail(&mut self, scheduled: Duration, why: String) -> Result<()> {
        *self.failures.entry(why).or_default() += 1;
        self.second(scheduled)?.failed += 1;
        Ok(())
    }

    fn second(&mut self, scheduled: Duration) -> Result<&mut Second> {
        let number = usize::try_from(scheduled.as_secs())?;
        while self.seconds.len() <= number {
            self.seconds.push(Second { latency: histogram()?, failed: 0 });
        }
        self.seconds.get_mut(number).ok_or_else(|| anyhow!("second {number} is not there"))
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS)?)
}
