//! I6: what is billed is what ran, recomputed from the true begin and end of every process.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use wherry_metering::Interval;
use wherry_model::lifecycle::MeterKind;
use wherry_model::{InstanceId, Timestamp};

use super::oracle::Run;

/// Compares the intervals with the runs. `tolerance` is how far the clocks of the world may be from the truth.
pub(super) struct Bill<'w> {
    pub(super) begun: Instant,
    /// What a right clock showed then.
    pub(super) began_at: Timestamp,
    pub(super) tolerance: Duration,
    pub(super) runs: &'w [Run],
}

impl Bill<'_> {
    /// What of the intervals is wrong; `is_whole` says of which instances every second must be billed.
    pub(super) fn wrong(&self, intervals: &[Interval], is_whole: impl Fn(InstanceId) -> bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut by_instance: BTreeMap<InstanceId, Vec<(i64, i64)>> = BTreeMap::new();
        let now = self.at(Instant::now());
        for interval in intervals.iter().filter(|interval| interval.kind == MeterKind::Run) {
            let end = interval.end_second.unwrap_or_else(|| now.min(interval.proved_until).grid_second());
            let billed = by_instance.entry(interval.instance).or_default();
            billed.push((interval.start_second, end.max(interval.start_second)));
        }
        let slack = i64::try_from(self.tolerance.as_secs()).unwrap_or(i64::MAX) + 1;
        let mut ran: BTreeMap<InstanceId, Vec<(i64, i64)>> = BTreeMap::new();
        for run in self.runs {
            let ended = run.ended.unwrap_or_else(Instant::now);
            ran.entry(run.instance).or_default().push((self.at(run.began).grid_second(), self.at(ended).grid_second()));
        }
        for (instance, billed) in &mut by_instance {
            billed.sort_unstable();
            for pair in billed.windows(2) {
                if let [one, two] = pair
                    && one.1 > two.0
                {
                    wrong.push(format!("I6: seconds of {instance} are billed twice: {one:?} and {two:?}"));
                }
            }
            let allowed = widened(ran.get(instance).map(Vec::as_slice).unwrap_or_default(), slack);
            for &(from, to) in billed.iter().filter(|(from, to)| from < to) {
                if !allowed.iter().any(|&(first, last)| first <= from && to <= last) {
                    wrong.push(format!("I6: {instance} is billed for {from} to {to} and ran in {allowed:?}"));
                }
            }
        }
        for (instance, runs) in &ran {
            let seconds = |spans: &[(i64, i64)]| spans.iter().map(|(from, to)| to - from).sum::<i64>();
            let true_seconds = seconds(runs);
            let billed = by_instance.get(instance).map_or(0, |billed| seconds(billed));
            let edges = 2 * slack * i64::try_from(runs.len()).unwrap_or(i64::MAX);
            if is_whole(*instance) && billed + edges < true_seconds {
                wrong.push(format!("I6: {instance} ran for {true_seconds} s and is billed for {billed} s"));
            }
        }
        wrong
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
