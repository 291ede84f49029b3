//! Durations and what is said of them.

use std::fs;
use std::time::Duration;

/// Sorted durations.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples {
    sorted: Vec<Duration>,
}

impl Samples {
    pub(crate) fn add(&mut self, sample: Duration) {
        let position = self.sorted.partition_point(|other| *other < sample);
        self.sorted.insert(position, sample);
    }

    /// Nearest rank: the smallest sample that at least `percent` of all do not exceed. Zero without samples.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// `median 1.2 s, 0.9 to 1.8 s`
    pub(crate) fn in_seconds(&self) -> String {
        let [least, half, most] = [0, 50, 100].map(|percent| self.percentile(percent).as_secs_f64());
        format!("median {half:.2} s, {least:.2} to {most:.2} s")
    }
}

impl Extend<Duration> for Samples {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, samples: I) {
        self.sorted.extend(samples);
        self.sorted.sort_unstable();
    }
}

/// Milliseconds with one digit.
pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1_000.0)
}

/// The middle one; the lower of two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// The machine's load now: 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
