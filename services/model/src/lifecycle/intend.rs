//! What a user asks of an instance that exists.

use thiserror::Error;

use crate::id::NodeId;
use crate::instance::{EventKind, Instance, InstanceState, Intent, Leaving};
use crate::time::Timestamp;

use super::draft::Draft;
use super::observe::delete_record;
use super::{Change, MeterKind};

/// What a user asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Stop it, keep name and logs.
    Stop,
    /// Run it again, on this node.
    Start(NodeId),
    /// Remove it.
    Delete,
}

/// Why the ask cannot be met now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is deleted, or a delete is under way.
    #[error("the instance is deleted")]
    Gone,
    /// A stop is under way; it can be asked again once that is done.
    #[error("the instance is still being stopped")]
    StillStopping,
    /// Nothing of it is there to run.
    #[error("the instance has ended")]
    Ended,
    /// The container runs at the beginning of an instance only.
    #[error("the container runs at the beginning only")]
    Beginning,
    /// Nobody knows what runs of it.
    #[error("the machine of the instance is silent")]
    Silent,
}

/// The change that `ask` makes, or none when what is asked is so already.
pub fn intend(instance: &Instance, ask: Ask, actor: &str, now: Timestamp) -> Result<Option<Change>, Refusal> {
    match ask {
        Ask::Stop => stop(instance, actor, now),
        Ask::Start(node) => start(instance, node, actor, now),
        Ask::Delete => Ok(delete(instance, actor, now)),
    }
}

fn stop(instance: &Instance, actor: &str, now: Timestamp) -> Result<Option<Change>, Refusal> {
    use InstanceState as S;
    match instance.state {
        S::Deleting | S::Deleted => Err(Refusal::Gone),
        S::Stopping if instance.leaving != Some(Leaving::Move) => Ok(None),
        S::Stopped | S::Succeeded | S::Failed => Ok(None),
        S::Stopping | S::Pending | S::Scheduled | S::Pulling | S::Starting | S::Running | S::Unknown => {
            let mut draft = Draft::of(instance, now);
            let next = instance.timetable.as_ref().and_then(|table| table.next);
            let message = match next {
                Some(next) => {
                    format!("stop requested; its schedule starts it again at {next}, unless that is suspended")
                }
                None => "stop requested".to_owned(),
            };
            stop_for(&mut draft, now, message, actor);
            Ok(Some(draft.finish()))
        }
    }
}

/// Stops what is there to run.
pub(super) fn stop_for(draft: &mut Draft, now: Timestamp, message: String, actor: &str) {
    use InstanceState as S;
    let state = draft.instance.state;
    draft.instance.intent = Intent::Stop;
    draft.instance.leaving = None;
    if state == S::Pending {
        draft.event_by(EventKind::StopRequested, now, message, Some(actor));
        draft.settle_stopped(now);
        return;
    }
    draft.instance.state = S::Stopping;
    draft.instance.message = None;
    draft.close(MeterKind::Pull, now);
    draft.event_by(EventKind::StopRequested, now, message, Some(actor));
}

/// Begins anew on the node that is asked for.
pub(super) fn begin(draft: &mut Draft, node: NodeId) {
    draft.begin_generation();
    let after = &mut draft.instance;
    after.intent = Intent::Run;
    after.node = Some(node);
    after.holds_resources = true;
    after.state = InstanceState::Scheduled;
}

fn start(instance: &Instance, node: NodeId, actor: &str, now: Timestamp) -> Result<Option<Change>, Refusal> {
    use InstanceState as S;
    match instance.state {
        S::Deleting | S::Deleted => Err(Refusal::Gone),
        S::Stopping if instance.leaving == Some(Leaving::Move) => Ok(None),
        S::Stopping => Err(Refusal::StillStopping),
        S::Pending | S::Scheduled | S::Pulling | S::Starting | S::Running | S::Unknown => Ok(None),
        S::Stopped | S::Succeeded | S::Failed if instance.holds_resources => Err(Refusal::StillStopping),
        S::Stopped | S::Succeeded | S::Failed => {
            let mut draft = Draft::of(instance, now);
            begin(&mut draft, node);
            if let Some(table) = &mut draft.instance.timetable {
                table.run_of = None;
            }
            draft.event_by(EventKind::StartRequested, now, "start requested", Some(actor));
            Ok(Some(draft.finish()))
        }
    }
}

fn delete(instance: &Instance, actor: &str, now: Timestamp) -> Option<Change> {
    use InstanceState as S;
    if matches!(instance.state, S::Deleting | S::Deleted) {
        return None;
    }
    let mut draft = Draft::of(instance, now);
    draft.instance.intent = Intent::Delete;
    draft.instance.leaving = None;
    // Without a node there is nobody who would have to remove anything.
    if instance.node.is_none() {
        draft.event_by(EventKind::DeleteRequested, now, "delete requested", Some(actor));
        delete_record(&mut draft, now);
        return Some(draft.finish());
    }
    draft.instance.state = S::Deleting;
    draft.close(MeterKind::Pull, now);
    draft.event_by(EventKind::DeleteRequested, now, "delete requested", Some(actor));
    Some(draft.finish())
}
