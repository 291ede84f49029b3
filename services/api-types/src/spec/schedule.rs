//! Runs that begin by the clock.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::number;

/// Seconds after its time at which a run is not begun any more, unless something else is asked for.
pub const DEFAULT_STARTING_DEADLINE_SECONDS: u32 = 3600;

/// What becomes of a run for which the time has come while the one before still goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnOverlap {
    /// There is none, and an event says so; the one before goes on.
    #[default]
    Skip,
    /// The one before is stopped, and it begins then.
    Replace,
}

/// When the instance is started, each time anew: for instances that come to their end by themselves, with a `restart_policy` of
/// `never` or `on_failure`. Between its runs it has ended, holds no machine and costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"cron": "*/5 * * * *", "time_zone": "Europe/Berlin"})))]
pub struct Schedule {
    /// Minute, hour, day of month, month and day of week as in crontab(5), or one of `@hourly`, `@daily`, `@weekly`, `@monthly`,
    /// `@yearly`. One that names its hours and minutes runs once for each: at a time that the clocks skip, it runs that much
    /// later; at one that they show twice, the first time. One with `*` in its hours or minutes follows the clocks.
    #[serde(default)]
    #[schema(required = true, min_length = 1, max_length = 128, example = "*/5 * * * *")]
    pub cron: String,
    /// A name of the IANA time zone database; `UTC` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128, example = "Europe/Berlin")]
    pub time_zone: Option<String>,
    /// Seconds after its time at which a run is not begun any more, because no machine had room or the service was away; 3600
    /// when absent. The time after it ends that wait too. Of several that were missed the latest is caught up with, if at all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 10, maximum = 86_400, example = 300)]
    pub starting_deadline_seconds: Option<u32>,
    /// What becomes of a run for which the time has come while the one before still goes on; `skip` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_overlap: Option<OnOverlap>,
    /// Whether no run is begun for now. What runs is not touched by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}
