//! The record while a change is being made: collects what has to be written with it.

use crate::fact::ContainerExit;
use crate::id::NodeId;
use crate::instance::{EndReason, Event, EventKind, Instance, InstanceState, Intent, Revision};
use crate::spec::Schedule;
use crate::time::Timestamp;

use super::{Change, MeterEdge, MeterKind};

pub(super) struct Draft {
    from: Revision,
    pub(super) instance: Instance,
    now: Timestamp,
    meter: Vec<MeterEdge>,
    events: Vec<Event>,
    /// The node whose row the record held something of.
    held: Option<NodeId>,
    /// It holds another amount of the same node's row.
    holds_anew: bool,
    /// The schedule of the record before.
    schedule: Option<Schedule>,
}

impl Draft {
    pub(super) fn of(instance: &Instance, now: Timestamp) -> Self {
        Self {
            from: instance.revision,
            instance: instance.clone(),
            now,
            meter: Vec::new(),
            events: Vec::new(),
            held: if instance.holds_resources { instance.node } else { None },
            holds_anew: false,
            schedule: instance.spec.schedule.clone(),
        }
    }

    pub(super) fn event(&mut self, kind: EventKind, at: Timestamp, message: impl Into<String>) {
        self.event_by(kind, at, message, None);
    }

    pub(super) fn event_by(&mut self, kind: EventKind, at: Timestamp, message: impl Into<String>, actor: Option<&str>) {
        // Who changes a label of what somebody stops has not asked for the stop.
        let is_about_its_life =
            matches!(kind, EventKind::StopRequested | EventKind::StartRequested | EventKind::DeleteRequested);
        if let Some(actor) = actor.filter(|_| is_about_its_life || self.instance.intent == Intent::Run) {
            self.instance.asked_by = Some(actor.to_owned());
        }
        self.events.push(Event {
            kind,
            at,
            state: self.instance.state,
            generation: self.instance.version(),
            message: message.into(),
            actor: actor.map(str::to_owned),
        });
    }

    /// Opens a meter at `at`, or where its last interval ended if a clock says that this was later. No-op when open.
    pub(super) fn open(&mut self, kind: MeterKind, at: Timestamp, late: bool) {
        let meter = self.meter_of(kind);
        if meter.open_since.is_some() {
            return;
        }
        let at = meter.until.map_or(at, |until| until.max(at));
        meter.open_since = Some(at);
        self.meter.push(MeterEdge::Open { kind, at, late });
    }

    /// Closes a meter at `at`, never before it was opened. No-op when closed.
    pub(super) fn close(&mut self, kind: MeterKind, at: Timestamp) {
        let meter = self.meter_of(kind);
        let Some(since) = meter.open_since.take() else { return };
        let at = at.max(since);
        meter.until = Some(at);
        self.meter.push(MeterEdge::Close { kind, at });
    }

    fn meter_of(&mut self, kind: MeterKind) -> &mut crate::instance::Meter {
        match kind {
            MeterKind::Run => &mut self.instance.run_meter,
            MeterKind::Pull => &mut self.instance.pull_meter,
        }
    }

    /// What the record holds of its node's row is another amount from `at` on: given back and taken under the condition that it
    /// fits. Open intervals end and others begin, each with the amounts of its time.
    pub(super) fn hold_anew(&mut self, at: Timestamp) {
        self.holds_anew = self.held.is_some();
        for kind in [MeterKind::Run, MeterKind::Pull] {
            if self.meter_of(kind).open_since.is_some() {
                self.close(kind, at);
                self.open(kind, at, false);
            }
        }
    }

    /// Ends every run that is still open in the record: its sandbox is gone, how it ended was not seen.
    pub(super) fn end_open_runs(&mut self, at: Timestamp, reason: EndReason) {
        for run in self.instance.containers.iter_mut().flat_map(|c| &mut c.runs).filter(|run| run.end.is_none()) {
            run.end = Some(ContainerExit {
                finished_at: at.max(run.started_at),
                exit_code: 255,
                signal: None,
                reason,
                message: Some("its end was not seen".to_owned()),
            });
        }
        self.close(MeterKind::Run, at);
    }

    /// It is stopped because somebody wanted that; says who.
    pub(super) fn settle_stopped(&mut self, at: Timestamp) {
        let message = self.instance.asked_by.as_ref().map(|who| format!("the stop was asked for by {who}"));
        let event = message.as_ref().map_or_else(|| "stopped".to_owned(), |message| format!("stopped: {message}"));
        self.settle(InstanceState::Stopped, EndReason::StoppedByUser, message, at);
        self.event(EventKind::Stopped, at, event);
    }

    pub(super) fn settle(&mut self, state: InstanceState, reason: EndReason, message: Option<String>, at: Timestamp) {
        self.close(MeterKind::Pull, at);
        self.instance.state = state;
        self.instance.reason = Some(reason);
        self.instance.message = message;
        self.instance.finished_at = Some(at);
        self.instance.unknown_since = None;
        self.instance.leaving = None;
        self.instance.evict_at = None;
        for container in &mut self.instance.containers {
            container.restart_at = None;
            container.is_due = false;
        }
    }

    /// The instance has left its node, which runs nothing of it any more, and waits for a place. Facts of the generation
    /// that it had there mean nothing from now on.
    pub(super) fn displace(&mut self, at: Timestamp, reason: EndReason, message: &str) {
        self.end_open_runs(at, reason);
        self.close(MeterKind::Pull, at);
        self.begin_generation();
        let after = &mut self.instance;
        after.node = None;
        after.holds_resources = false;
        after.leaving = None;
        after.evict_at = None;
        after.state = InstanceState::Pending;
        after.message = Some(message.to_owned());
        after.address = None;
        after.unknown_since = None;
        self.event(EventKind::Displaced, at, message);
    }

    /// Everything begins anew. Revisions count within a generation, from 0: an agent of a contract without revisions makes
    /// containers that say none, and its successor takes them for those of revision 0.
    pub(super) fn begin_generation(&mut self) {
        let after = &mut self.instance;
        let latest = after.containers.iter().filter_map(|c| c.latest_run()).map(|run| run.number).max();
        after.first_run = after.first_run.max(latest.unwrap_or(0).saturating_add(1));
        after.generation = after.generation.next();
        let finished = super::timetable::finished(after);
        if let Some(table) = &mut after.timetable {
            table.last = finished.or(table.last.take());
        }
        after.reason = None;
        after.message = None;
        after.started_at = None;
        after.finished_at = None;
        for container in &mut after.containers {
            container.restart_at = None;
            container.is_due = false;
            container.revision = 0;
        }
    }

    /// The change; resources are given back when the record no longer holds them, taken when it newly does.
    pub(super) fn finish(mut self) -> Change {
        self.instance.revision = Revision(self.from.0 + 1);
        self.instance.updated_at = self.now.max(self.instance.updated_at);
        if self.instance.intent != Intent::Run {
            self.instance.containers.iter_mut().for_each(|container| container.is_due = false);
        }
        self.instance.expires_at = super::expire::expiry(&self.instance);
        super::timetable::renew(&mut self.instance, self.schedule.as_ref(), self.now);
        let holds = if self.instance.holds_resources { self.instance.node } else { None };
        let anew = self.holds_anew;
        Change {
            from: self.from,
            releases: self.held.filter(|held| anew || holds != Some(*held)),
            takes: holds.filter(|holds| anew || self.held != Some(*holds)),
            after: self.instance,
            meter: self.meter,
            events: self.events,
        }
    }
}
