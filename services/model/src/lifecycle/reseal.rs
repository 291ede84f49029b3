//! Secrets are sealed with another key: the same secrets, so nothing restarts, nobody is told, and it is no version of its own.

use crate::instance::Instance;
use crate::spec::Sealed;
use crate::time::Timestamp;

use super::Change;
use super::draft::Draft;

/// Gives each secret of the instance as `reseal` seals it. None when that changes none, and for a deleted instance, which needs none.
pub fn reseal(instance: &Instance, reseal: impl FnMut(&Sealed) -> Option<Sealed>, now: Timestamp) -> Option<Change> {
    if instance.deleted_at.is_some() {
        return None;
    }
    let spec = instance.spec.clone().resealed(reseal);
    if spec == instance.spec {
        return None;
    }
    let mut draft = Draft::of(instance, now);
    draft.instance.spec = spec;
    Some(draft.finish())
}
