//! I6: what is billed is what ran, recomputed from the true begin and end of every process.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use wherry_metering::Interval;
use wherry_model::lifecycle::MeterKind;
use wherry_model::{InstanceId, Timestamp};

use super::oracle::Run;

/// Spans of grid seconds of each instance.
type Spans = BTreeMap<InstanceId, Vec<(i64, i64)>>;

/// Compares the intervals with the runs. `tolerance` is how far the clocks of the world may be from the truth.
pub(super) struct Bill {
    pub(super) begun: Instant,
    /// What a right clock showed then.
    pub(super) began_at: Timestamp,
    pub(super) tolerance: Duration,
    pub(super) runs: Vec<Run>,
}

impl Bill {
    /// What is billed twice, or without a run.
    pub(super) fn overcharged(&self, intervals: &[Interval]) -> Vec<String> {
        let mut wrong = Vec::new();
        let ran = self.ran();
        for (instance, mut billed) in self.billed(intervals) {
            billed.sort_unstable();
            for pair in billed.windows(2) {
                if let [one, two] = pair
                    && one.1 > two.0
                {
                    wrong.push(format!("I6: seconds of {instance} are billed twice: {one:?} and {two:?}"));
                }
            }
            let allowed = widened(ran.get(&instance).map(Vec::as_slice).unwrap_or_default(), self.slack());
            for (from, to) in billed.into_iter().filter(|(from, to)| from < to) {
                if !allowed.iter().any(|&(first, last)| first <= from && to <= last) {
                    wrong.push(format!("I6: {instance} is billed for {from} to {to} and ran in {allowed:?}"));
                }
            }
        }
        wrong
    }

    /// The first instance that ran longer than is billed, of those of which every second must be. A second in which several
    /// containers of it ran is one.
    pub(super) fn undercharged(&self, intervals: &[Interval], whole: impl Fn(InstanceId) -> bool) -> Option<String> {
        let billed = self.billed(intervals);
        let seconds = |spans: &[(i64, i64)]| spans.iter().map(|(from, to)| to - from).sum::<i64>();
        self.ran().into_iter().find_map(|(instance, runs)| {
            let (true_seconds, paid) =
                (seconds(&widened(&runs, 0)), billed.get(&instance).map_or(0, |spans| seconds(spans)));
            let edges = 2 * self.slack() * i64::try_from(runs.len()).unwrap_or(i64::MAX);
            let too_little = whole(instance) && paid + edges < true_seconds;
            too_little.then(|| format!("I6: {instance} ran for {true_seconds} s and is billed for {paid} s"))
        })
    }

    fn slack(&self) -> i64 {
        i64::try_from(self.tolerance.as_secs()).unwrap_or(i64::MAX) + 1
    }

    fn billed(&self, intervals: &[Interval]) -> Spans {
        let now = self.at(Instant::now());
        let mut billed = Spans::new();
        for interval in intervals.iter().filter(|interval| interval.kind == MeterKind::Run) {
            let end = interval.end_second.unwrap_or_else(|| now.min(interval.proved_until).grid_second());
            let spans = billed.entry(interval.instance).or_default();
            spans.push((interval.start_second, end.max(interval.start_second)));
        }
        billed
    }

    fn ran(&self) -> Spans {
        let mut ran = Spans::new();
        for run in &self.runs {
            let ended = run.ended.unwrap_or_else(Instant::now);
            let span = (self.at(run.began).grid_second(), self.at(ended).grid_second());
            ran.entry(run.instance).or_default().push(span);
        }
        ran
    }

    fn at(&self, moment: Instant) -> Timestamp {
        self.began_at.plus(moment.duration_since(self.begun))
    }
}

/// Spans made wider at both ends, and those that then touch made one.
fn widened(spans: &[(i64, i64)], slack: i64) -> Vec<(i64, i64)> {
    let mut wide: Vec<(i64, i64)> = spans.iter().map(|(from, to)| (from - slack, to + slack)).collect();
    wide.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for span in wide {
        match merged.last_mut() {
            Some(last) if span.0 <= last.1 => last.1 = last.1.max(span.1),
            _ => merged.push(span),
        }
    }
    merged
}
