//! The time that an instance is kept after it came to its end by itself.

use crate::instance::{EventKind, Instance, InstanceState, Intent};
use crate::time::Timestamp;

use super::Change;
use super::draft::Draft;
use super::observe::delete_record;

/// When the instance is to be deleted. What somebody stopped is kept until somebody deletes it.
pub(super) fn expiry(instance: &Instance) -> Option<Timestamp> {
    let ended = matches!(instance.state, InstanceState::Succeeded | InstanceState::Failed);
    let kept = instance.spec.ttl_seconds.filter(|_| ended)?;
    Some(instance.finished_at?.plus(std::time::Duration::from_secs(u64::from(kept))))
}

/// Deletes it if its time is over, however often and by however many it is asked.
pub fn expire(instance: &Instance, now: Timestamp) -> Option<Change> {
    expiry(instance).filter(|at| *at <= now)?;
    let mut draft = Draft::of(instance, now);
    draft.instance.intent = Intent::Delete;
    let message = "deleted by itself: its ttl_seconds after its end are over";
    if instance.node.is_none() {
        draft.event(EventKind::DeleteRequested, now, message);
        delete_record(&mut draft, now);
        return Some(draft.finish());
    }
    draft.instance.state = InstanceState::Deleting;
    draft.event(EventKind::DeleteRequested, now, message);
    Some(draft.finish())
}
