//! The result: as a table for a person, as JSON for a program, as a page with plots.

mod page;
mod plot;
mod table;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::audit::Verdict;
use crate::ledger::Ledger;
use crate::samples::Sample;

pub(crate) use page::page;
pub(crate) use table::table;

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Never left out: nothing here ran a container.
    pub(crate) simulated_nodes: u32,
    pub(crate) machine: String,
    pub(crate) date: String,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    /// What was asked for, in words.
    pub(crate) asked: String,
    pub(crate) notes: Vec<String>,
    pub(crate) seconds: f64,
    pub(crate) creates: Creates,
    pub(crate) processors: Processors,
    pub(crate) memory: Memory,
    pub(crate) audit: Audit,
    pub(crate) by_second: Vec<Second>,
    pub(crate) samples: Vec<Sample>,
    /// (percent of creates, they took at most so many milliseconds).
    pub(crate) latency_curve: Vec<(f64, f64)>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Creates {
    pub(crate) scheduled: u64,
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) failed_deletes: BTreeMap<String, u64>,
    pub(crate) per_second: f64,
    /// From the scheduled time.
    pub(crate) latency_ms: Percentiles,
    /// From when the generator got to it: less than the above where the generator itself was late.
    pub(crate) service_ms: Percentiles,
    /// Acknowledged and never run by a simulated node, of those that were not deleted and whose node lived.
    pub(crate) never_started: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// Cores, on average over the run.
#[derive(Debug, Serialize)]
pub(crate) struct Processors {
    pub(crate) wherry_cores: Option<f64>,
    pub(crate) generator_cores: f64,
    /// Processor time of Wherry for each acknowledged create, heartbeats and reports of all nodes included.
    pub(crate) wherry_micros_per_create: Option<f64>,
    /// The same less what it used at rest with all nodes connected.
    pub(crate) wherry_cores_at_rest: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) wherry_kib_at_rest: Option<u64>,
    pub(crate) wherry_kib_after: Option<u64>,
    /// What it grew by for each acknowledged instance.
    pub(crate) wherry_bytes_per_instance: Option<u64>,
    pub(crate) generator_kib: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    pub(crate) passed: bool,
    pub(crate) creates: usize,
    pub(crate) runs: usize,
    pub(crate) metered_seconds: i64,
    pub(crate) findings: usize,
    pub(crate) shown: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Second {
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl From<&Verdict> for Audit {
    fn from(verdict: &Verdict) -> Self {
        Self {
            passed: verdict.findings.is_empty(),
            creates: verdict.creates,
            runs: verdict.runs,
            metered_seconds: verdict.metered_seconds,
            findings: verdict.findings.len(),
            shown: verdict.shown(),
        }
    }
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: millis(histogram.max()) }
    }
}

/// The seconds of the ledger.
pub(crate) fn by_second(ledger: &Ledger) -> Vec<Second> {
    let seconds = ledger.seconds.iter().map(|second| Second {
        acknowledged: second.latency.len(),
        failed: second.failed,
        p50_ms: millis(second.latency.value_at_quantile(0.5)),
        p99_ms: millis(second.latency.value_at_quantile(0.99)),
    });
    seconds.collect()
}

/// Percentiles with more of them near the end.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let steps = histogram.iter_quantiles(4);
    steps.map(|step| (step.quantile_iterated_to() * 100.0, millis(step.value_iterated_to()))).collect()
}

/// Microseconds as milliseconds.
pub(crate) fn millis(micros: u64) -> f64 {
    number(micros) / 1_000.0
}

/// As a number with a fraction; exact to 2^53.
pub(crate) fn number(count: u64) -> f64 {
    let [high, low] = [count >> 32, count & u64::from(u32::MAX)].map(|half| u32::try_from(half).unwrap_or(u32::MAX));
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_stay_what_they_are() {
        assert!((super::number(5_000_000_000) - 5e9).abs() < f64::EPSILON);
        assert!((super::millis(1_500) - 1.5).abs() < f64::EPSILON);
    }
}
