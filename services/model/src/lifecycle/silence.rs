//! A node that says nothing, and its return. Unproved time is never billed: the meter is closed at the last proof.

use crate::instance::{EventKind, Instance, InstanceState};
use crate::name::ContainerName;
use crate::time::Timestamp;

use super::draft::Draft;
use super::{Change, MeterKind};

/// The node of the instance has been silent since `proof_at`, for longer than the detection time.
pub fn silence(instance: &Instance, proof_at: Timestamp, now: Timestamp) -> Option<Change> {
    use InstanceState as S;
    if instance.unknown_since.is_some() || instance.state.is_settled() || instance.state == S::Pending {
        return None;
    }
    let mut draft = Draft::of(instance, now);
    draft.instance.unknown_since = Some(proof_at);
    draft.close(MeterKind::Run, proof_at);
    draft.close(MeterKind::Pull, proof_at);
    if !matches!(instance.state, S::Stopping | S::Deleting) {
        draft.instance.state = S::Unknown;
        draft.instance.message = Some(format!("nothing has been heard of it since {proof_at}; it may still run"));
    }
    draft.event(EventKind::Unknown, now, format!("nothing has been heard of it since {proof_at}"));
    Some(draft.finish())
}

/// The node is back and proves that `running` (container, run number) run at `now`.
///
/// What it proves to have run through the silence is metered from where silence closed the meter, flagged as late.
///
/// None for an instance of which a run is neither shown nor known to have ended: the proof may be older than that run, and
/// then nothing else would ever say that it runs. It stays in doubt until a later proof shows it, or its end is told.
pub fn recover(instance: &Instance, running: &[(ContainerName, u32)], now: Timestamp) -> Option<Change> {
    instance.unknown_since?;
    let mut ran_on = false;
    for container in &instance.containers {
        let Some(run) = container.latest_run().filter(|run| run.end.is_none()) else { continue };
        if !running.iter().any(|(name, number)| name == &container.name && *number == run.number) {
            return None;
        }
        ran_on = true;
    }
    let mut draft = Draft::of(instance, now);
    draft.instance.unknown_since = None;
    if ran_on {
        draft.meter_runs(true);
    }
    if instance.state == InstanceState::Unknown {
        draft.instance.state = if ran_on { InstanceState::Running } else { InstanceState::Starting };
        draft.instance.message = None;
    }
    draft.event(EventKind::Recovered, now, "heard of again");
    Some(draft.finish())
}
