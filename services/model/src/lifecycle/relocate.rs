//! Leaving a node: because it is emptied, or because it is lost. What left waits as `Pending` until [`place`] gives it a
//! node again. Nothing is placed anew before its old node is known to run nothing of it: it said so, its lease ended, or a
//! person confirmed that it is off.

use crate::id::NodeId;
use crate::instance::{EndReason, EventKind, Instance, InstanceState, Intent, Leaving};
use crate::spec::{OnNodeLoss, Priority};
use crate::time::Timestamp;

use super::draft::Draft;
use super::observe::delete_record;
use super::{Change, MeterKind};

/// The node of the instance is being emptied, and its grace is over. None when it is leaving or ended already.
pub fn leave(instance: &Instance, how: Leaving, now: Timestamp) -> Option<Change> {
    use InstanceState as S;
    if instance.leaving.is_some() || instance.intent != Intent::Run {
        return None;
    }
    match instance.state {
        S::Scheduled | S::Pulling | S::Starting | S::Running | S::Unknown => {}
        S::Pending | S::Stopping | S::Stopped | S::Succeeded | S::Failed | S::Deleting | S::Deleted => return None,
    }
    let mut draft = Draft::of(instance, now);
    let message = match how {
        Leaving::Move => "its machine is being emptied; it is stopped and then placed elsewhere",
        Leaving::Evict if instance.evict_at.is_some() => "its room is needed for regular instances; it is stopped",
        Leaving::Evict => "its machine is being emptied; it is stopped",
    };
    if how == Leaving::Evict {
        draft.instance.intent = Intent::Stop;
    }
    draft.instance.leaving = Some(how);
    draft.instance.state = S::Stopping;
    draft.instance.message = Some(message.to_owned());
    draft.close(MeterKind::Pull, now);
    draft.event(EventKind::Leaving, now, message);
    Some(draft.finish())
}

/// The room of the instance, which is a spot one, is needed for regular ones: it is stopped at `until`, by [`leave`]. None when it
/// knows that already, or makes room anyway.
pub fn notice(instance: &Instance, until: Timestamp, now: Timestamp) -> Option<Change> {
    use InstanceState as S;
    let stays = instance.leaving.is_none() && instance.evict_at.is_none() && instance.intent == Intent::Run;
    let is_there = matches!(instance.state, S::Scheduled | S::Pulling | S::Starting | S::Running | S::Unknown);
    if !stays || !is_there || instance.spec.priority != Priority::Spot {
        return None;
    }
    let mut draft = Draft::of(instance, now);
    let message = format!("its room is needed for regular instances; it is stopped at {until}");
    draft.instance.evict_at = Some(until);
    draft.instance.message = Some(message.clone());
    draft.event(EventKind::Leaving, now, message);
    Some(draft.finish())
}

/// The node of the instance runs nothing any more: its lease has ended, or somebody confirmed that it is off.
///
/// By its lease only an instance of `on_node_loss: replace` has ended; others change only when `confirmed_off`.
pub fn lose(instance: &Instance, proof_at: Timestamp, confirmed_off: bool, now: Timestamp) -> Option<Change> {
    use InstanceState as S;
    let replaced = instance.spec.on_node_loss == OnNodeLoss::Replace;
    if !(replaced || confirmed_off) || instance.node.is_none() {
        return None;
    }
    let at = proof_at.min(now);
    let mut draft = Draft::of(instance, now);
    match (instance.state, instance.intent) {
        (S::Deleted | S::Pending, _) => return None,
        (_, Intent::Delete) => delete_record(&mut draft, at),
        (S::Stopped | S::Succeeded | S::Failed, _) => {
            if !instance.holds_resources && instance.address.is_none() {
                return None;
            }
            draft.instance.address = None;
            draft.instance.holds_resources = false;
        }
        (_, Intent::Stop) => {
            draft.end_open_runs(at, EndReason::NodeLost);
            let reason = if instance.leaving.is_some() { EndReason::Evicted } else { EndReason::StoppedByUser };
            let message = "its machine was lost while it was being stopped; start it again to run it elsewhere";
            draft.settle(S::Stopped, reason, Some(message.to_owned()), at);
            draft.instance.address = None;
            draft.instance.holds_resources = false;
            draft.event(EventKind::Stopped, at, "stopped: its machine was lost");
        }
        (_, Intent::Run) if replaced || instance.leaving == Some(Leaving::Move) => {
            draft.displace(at, EndReason::NodeLost, "its machine was lost; it waits for another place");
        }
        (_, Intent::Run) => {
            let message = "its machine was lost; start it again to run it elsewhere";
            draft.end_open_runs(at, EndReason::NodeLost);
            draft.settle(S::Failed, EndReason::NodeLost, Some(message.to_owned()), at);
            draft.instance.address = None;
            draft.instance.holds_resources = false;
            draft.event(EventKind::Failed, at, message);
        }
    }
    Some(draft.finish())
}

/// The machine of the instance is gone for good, or is about to be: what has ended on it keeps its name and its story, but has
/// no place any more, so that nobody waits for that machine to remove it. None when there is still something to end.
pub fn forsake(instance: &Instance, now: Timestamp) -> Option<Change> {
    use InstanceState as S;
    let ended = matches!(instance.state, S::Stopped | S::Succeeded | S::Failed);
    if !ended || instance.holds_resources || instance.node.is_none() {
        return None;
    }
    let mut draft = Draft::of(instance, now);
    draft.instance.node = None;
    draft.instance.address = None;
    Some(draft.finish())
}

/// Says why a waiting instance still waits. None when it does not, or when that is said already.
pub fn explain(instance: &Instance, why: &str, now: Timestamp) -> Option<Change> {
    let message = format!("it waits for a place: {why}");
    if instance.state != InstanceState::Pending || instance.message.as_ref() == Some(&message) {
        return None;
    }
    let mut draft = Draft::of(instance, now);
    draft.instance.message = Some(message);
    Some(draft.finish())
}

/// Gives a waiting instance a place. None when it does not wait for one.
pub fn place(instance: &Instance, node: NodeId, now: Timestamp) -> Option<Change> {
    if instance.state != InstanceState::Pending {
        return None;
    }
    let mut draft = Draft::of(instance, now);
    draft.instance.node = Some(node);
    draft.instance.holds_resources = true;
    draft.instance.state = InstanceState::Scheduled;
    draft.instance.message = None;
    draft.event(EventKind::Scheduled, now, "placed again");
    Some(draft.finish())
}
