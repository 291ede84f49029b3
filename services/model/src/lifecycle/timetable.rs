//! Runs that begin by the clock. Between them the instance has ended: it holds nothing and costs nothing.
//!
//! What is due is written into the record, and whoever looks at it computes the same step from it: a start, or that there is
//! none and why. So a step that was not written is simply taken again, by whichever replica, and one that was is not: the
//! record then names a later time.
//!
//! - A run is begun for the latest time that has come, if that is not longer ago than its starting deadline. All earlier ones
//!   that nobody began are missed, and said to be: after an outage there is one run to catch up, never many.
//! - While the run before still goes on it is skipped, or with [`OnOverlap::Replace`] that one is stopped first.
//! - When it cannot be begun it is tried again at growing distances, until its deadline or the next time, whichever is first.
//! - To stop an instance ends its present run. What ends the runs to come is to suspend its schedule.

use std::time::Duration;

use crate::id::NodeId;
use crate::instance::{EventKind, FinishedRun, Instance, InstanceState, Intent, Leaving, Timetable};
use crate::spec::{OnOverlap, Schedule};
use crate::time::Timestamp;

use super::Change;
use super::draft::Draft;
use super::intend::{begin, stop_for};

/// Who asks for what the clock begins, in events.
pub const SCHEDULE_ACTOR: &str = "schedule";

/// The distance of two tries of one run, doubled after each, and at most.
const FIRST_DISTANCE: Duration = Duration::from_secs(1);
const MAX_DISTANCE: Duration = Duration::from_mins(1);

/// How far is looked back for the latest time, one after the other, before all of the starting deadline: what comes often has
/// come lately, and a day of minutes is long to walk.
const LOOKS_BACK: [Duration; 2] = [Duration::from_mins(1), Duration::from_hours(1)];

/// What the schedule of an instance asks for at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// That this is written: a run is skipped, missed, or waits for another to end.
    Step(Box<Change>),
    /// That it is started, by [`run`], on some node; when none has room, [`postpone`] says so.
    Run,
}

/// What is to be done at `now`.
pub fn due(instance: &Instance, now: Timestamp) -> Due {
    use InstanceState as S;
    let Some((schedule, next, of)) = come(instance, now) else { return Due::Nothing };
    let Some(of) = of else { return Due::Step(Box::new(missed(instance, schedule, next, now))) };
    match instance.state {
        S::Stopped | S::Succeeded | S::Failed if !instance.holds_resources => Due::Run,
        S::Stopped | S::Succeeded | S::Failed => {
            Due::Step(Box::new(waits(instance, "what ran before is being cleared away", now)))
        }
        S::Stopping if instance.leaving != Some(Leaving::Move) => {
            Due::Step(Box::new(waits(instance, "the run before is being stopped", now)))
        }
        S::Stopping | S::Pending | S::Scheduled | S::Pulling | S::Starting | S::Running | S::Unknown => {
            let step = match schedule.on_overlap {
                OnOverlap::Skip => skipped(instance, schedule, of, now),
                OnOverlap::Replace => replaced(instance, next, of, now),
            };
            Due::Step(Box::new(step))
        }
        S::Deleting | S::Deleted => Due::Nothing,
    }
}

/// Begins the run that is due, on that node. None when there is none to begin any more.
pub fn run(instance: &Instance, node: NodeId, now: Timestamp) -> Option<Change> {
    if due(instance, now) != Due::Run {
        return None;
    }
    let (schedule, next, of) = come(instance, now)?;
    let of = of?;
    let mut draft = Draft::of(instance, now);
    tell_missed(&mut draft, next, of, now);
    begin(&mut draft, node);
    let later = schedule.next_after(now.max(of));
    let table = draft.instance.timetable.get_or_insert_default();
    table.run_of = Some(of);
    table.expect(later);
    draft.event_by(EventKind::StartRequested, now, format!("started for its time {of}"), Some(SCHEDULE_ACTOR));
    Some(draft.finish())
}

/// Says that the run that is due could not be begun, and looks again later. None when there is none to begin any more.
pub fn postpone(instance: &Instance, why: &str, now: Timestamp) -> Option<Change> {
    (due(instance, now) == Due::Run).then(|| waits(instance, why, now))
}

/// The schedule, the time that it was to act upon next, and the one that it does: the latest that is not too long ago. None
/// before there is anything to do.
fn come(instance: &Instance, now: Timestamp) -> Option<(&Schedule, Timestamp, Option<Timestamp>)> {
    let schedule = instance.spec.schedule.as_ref()?;
    let table = instance.timetable.as_ref()?;
    let next = table.next?;
    table.due_at.filter(|at| *at <= now)?;
    let deadline = Duration::from_secs(u64::from(schedule.starting_deadline_seconds));
    // A step ahead of the first that counts: what comes after it is asked for.
    let first = next.max(now.minus(deadline)).minus(Duration::from_secs(1));
    let nearer = LOOKS_BACK.into_iter().map(|back| now.minus(back)).filter(|before| *before > first);
    let latest =
        nearer.chain([first]).find_map(|before| schedule.times_after(before).take_while(|time| *time <= now).last());
    Some((schedule, next, latest.filter(|time| *time >= next && time.plus(deadline) > now)))
}

/// Until when the run of `of` can be begun.
fn limit(schedule: &Schedule, of: Timestamp) -> Timestamp {
    let deadline = of.plus(Duration::from_secs(u64::from(schedule.starting_deadline_seconds)));
    schedule.next_after(of).map_or(deadline, |next| next.min(deadline))
}

fn tell_missed(draft: &mut Draft, next: Timestamp, of: Timestamp, now: Timestamp) {
    if next < of {
        let why = draft.instance.timetable.as_ref().and_then(|table| table.waits_for.clone());
        let why = why.unwrap_or_else(|| "the service was away".to_owned());
        let message = format!("no run was started for its time {next} and those before {of}: {why}");
        draft.event(EventKind::RunMissed, now, message);
    }
}

fn missed(instance: &Instance, schedule: &Schedule, next: Timestamp, now: Timestamp) -> Change {
    let mut draft = Draft::of(instance, now);
    let table = draft.instance.timetable.get_or_insert_default();
    let why = table.waits_for.take().unwrap_or_else(|| "the service was away".to_owned());
    table.expect(schedule.next_after(now));
    let seconds = schedule.starting_deadline_seconds;
    let message = format!("no run was started for its time {next} within {seconds} seconds: {why}");
    draft.event(EventKind::RunMissed, now, message);
    draft.finish()
}

fn skipped(instance: &Instance, schedule: &Schedule, of: Timestamp, now: Timestamp) -> Change {
    let mut draft = Draft::of(instance, now);
    draft.instance.timetable.get_or_insert_default().expect(schedule.next_after(now.max(of)));
    let why = match instance.state {
        InstanceState::Unknown => "the one before may still go on, its machine is silent",
        _ => "the one before still goes on",
    };
    let message = format!("no run was started for its time {of}: {why}");
    draft.event(EventKind::RunSkipped, now, message);
    draft.finish()
}

fn replaced(instance: &Instance, next: Timestamp, of: Timestamp, now: Timestamp) -> Change {
    let mut draft = Draft::of(instance, now);
    tell_missed(&mut draft, next, of, now);
    stop_for(&mut draft, now, format!("stopped for its run of {of}"), SCHEDULE_ACTOR);
    let table = draft.instance.timetable.get_or_insert_default();
    table.expect(Some(of));
    table.due_at = Some(now.plus(FIRST_DISTANCE));
    table.waits_for = Some("the run before is being stopped".to_owned());
    draft.finish()
}

/// Looks again later. Told once for each run: the distances grow, and the record says why.
fn waits(instance: &Instance, why: &str, now: Timestamp) -> Change {
    let mut draft = Draft::of(instance, now);
    let Some((schedule, next, Some(of))) = come(instance, now) else { return draft.finish() };
    tell_missed(&mut draft, next, of, now);
    let limit = limit(schedule, of);
    let table = draft.instance.timetable.get_or_insert_default();
    if next < of {
        table.expect(Some(of));
    }
    let distance = FIRST_DISTANCE.saturating_mul(1 << table.tries.min(6)).min(MAX_DISTANCE);
    let is_first = table.waits_for.is_none();
    table.tries = table.tries.saturating_add(1);
    // Whoever looks at its limit finds that it is missed, or that the next time has come.
    table.due_at = Some(now.plus(distance).min(limit));
    table.waits_for = Some(why.to_owned());
    if is_first {
        let message = format!("the run for its time {of} waits, until {limit} at the latest: {why}");
        draft.event(EventKind::RunPostponed, now, message);
    }
    draft.finish()
}

impl Timetable {
    /// Nothing is done before that time.
    fn expect(&mut self, next: Option<Timestamp>) {
        self.next = next;
        self.due_at = next;
        self.tries = 0;
        self.waits_for = None;
    }
}

/// What follows for the timetable from another schedule, or from the end of the instance. `before` is the schedule of the record
/// before.
pub(super) fn renew(instance: &mut Instance, before: Option<&Schedule>, now: Timestamp) {
    let Some(schedule) = instance.spec.schedule.as_ref().filter(|_| instance.intent != Intent::Delete) else {
        instance.timetable = None;
        return;
    };
    let is_new = instance.timetable.is_none();
    let table = instance.timetable.get_or_insert_default();
    let times = |one: &Schedule| (!one.suspended).then(|| (one.cron.clone(), one.time_zone.clone()));
    if schedule.suspended {
        table.expect(None);
    } else if is_new || before.and_then(times) != times(schedule) {
        table.expect(schedule.next_after(now));
    }
}

/// The run that has ended, or none of an instance that has not.
pub(super) fn finished(instance: &Instance) -> Option<FinishedRun> {
    let finished_at = instance.finished_at.filter(|_| instance.state.is_settled())?;
    Some(FinishedRun {
        of: instance.timetable.as_ref()?.run_of,
        state: instance.state,
        reason: instance.reason,
        message: instance.message.clone(),
        started_at: instance.started_at,
        finished_at,
    })
}

/// The latest run that has ended: of which the record tells anyway, or which it remembers while another goes on.
pub fn last_run(instance: &Instance) -> Option<FinishedRun> {
    finished(instance).or_else(|| instance.timetable.as_ref()?.last.clone())
}
