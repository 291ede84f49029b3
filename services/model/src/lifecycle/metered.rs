//! What the record's runs amount to on the meter of an instance.
//!
//! The ends of several containers are told in no order: the end that is told last is not always the last one, and an agent that
//! was stopped in the middle of a start tells of it before it looks what has ended meanwhile. Silence closes the meter in the
//! middle of them, and what ran on beside what is told of waits for a proof.

use crate::instance::{ContainerStatus, Instance};
use crate::time::Timestamp;

use super::MeterKind;
use super::draft::Draft;

/// From when to when at least one container ran; without an end one still does.
type Span = (Timestamp, Option<Timestamp>);

impl Draft {
    /// Meters what is known to have run since the last interval ended; for when it is known of every run either how it ended or
    /// that it goes on. An open interval goes on or ends with the last run; otherwise each span becomes an interval of its own.
    pub(super) fn meter_runs(&mut self, late: bool) {
        self.meter_gaps();
        let spans = spans(&self.instance);
        let meter = self.instance.run_meter;
        if meter.open_since.is_some() {
            if let Some((_, Some(last))) = spans.last() {
                self.close(MeterKind::Run, *last);
            }
            return;
        }
        let is_new = |(_, to): &Span| to.is_none_or(|to| meter.until.is_none_or(|until| to > until));
        for (from, to) in spans.into_iter().filter(is_new) {
            self.open(MeterKind::Run, from, late);
            if let Some(to) = to {
                self.close(MeterKind::Run, to);
            }
        }
    }

    /// Takes the time out of an open interval in which nothing ran, as an end shows that is told after a start that followed it.
    pub(super) fn meter_gaps(&mut self) {
        let Some(since) = self.instance.run_meter.open_since else { return };
        if self.instance.containers.iter().any(has_untold_end) {
            return;
        }
        let spans = spans(&self.instance);
        for (before, after) in spans.iter().zip(spans.iter().skip(1)) {
            if let Some(to) = before.1.filter(|to| *to >= since) {
                self.close(MeterKind::Run, to);
                self.open(MeterKind::Run, after.0, false);
            }
        }
    }
}

/// Whether another run followed one whose end has not been told.
fn has_untold_end(container: &ContainerStatus) -> bool {
    container.runs.iter().rev().skip(1).any(|run| run.end.is_none())
}

/// When containers of the instance ran in its present generation, in order and apart from each other. A run that another one
/// followed, and whose end has not been told yet, counts for nothing.
fn spans(instance: &Instance) -> Vec<Span> {
    let mut runs = Vec::new();
    for container in &instance.containers {
        let latest = container.latest_run().map(|run| run.number);
        let present = container.runs.iter().filter(|run| run.number >= instance.first_run);
        let counted = present.filter(|run| run.end.is_some() || Some(run.number) == latest);
        runs.extend(counted.map(|run| (run.started_at, run.end.as_ref().map(|end| end.finished_at))));
    }
    runs.sort_unstable_by_key(|(from, _)| *from);
    let mut spans: Vec<Span> = Vec::new();
    for (from, to) in runs {
        match spans.last_mut() {
            Some((_, last)) if last.is_none_or(|last| from <= last) => {
                *last = last.zip(to).map(|(last, to)| last.max(to));
            }
            _ => spans.push((from, to)),
        }
    }
    spans
}
