//! Runs that begin by the clock.

use wherry_api_types as wire;
use wherry_model as model;

/// Defaults filled in.
pub(super) fn to_model(schedule: wire::Schedule) -> model::Schedule {
    model::Schedule {
        cron: schedule.cron,
        time_zone: schedule.time_zone.unwrap_or_else(|| "UTC".to_owned()),
        starting_deadline_seconds: schedule
            .starting_deadline_seconds
            .unwrap_or(wire::DEFAULT_STARTING_DEADLINE_SECONDS),
        on_overlap: match schedule.on_overlap.unwrap_or_default() {
            wire::OnOverlap::Skip => model::OnOverlap::Skip,
            wire::OnOverlap::Replace => model::OnOverlap::Replace,
        },
        suspended: schedule.suspended,
    }
}

/// As its tenant reads it back.
pub(super) fn to_wire(schedule: &model::Schedule) -> wire::Schedule {
    wire::Schedule {
        cron: schedule.cron.clone(),
        time_zone: Some(schedule.time_zone.clone()),
        starting_deadline_seconds: Some(schedule.starting_deadline_seconds),
        on_overlap: Some(match schedule.on_overlap {
            model::OnOverlap::Skip => wire::OnOverlap::Skip,
            model::OnOverlap::Replace => wire::OnOverlap::Replace,
        }),
        suspended: schedule.suspended,
    }
}
