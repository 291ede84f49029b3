//! Runs that begin by the clock.

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use super::cron::Cron;
use super::{Limits, SpecError};
use crate::time::Timestamp;

/// The database comes with the program: every replica and every machine means the same by a name.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// What becomes of a run for which the time has come while the one before still goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOverlap {
    /// There is none; the one before goes on.
    #[default]
    Skip,
    /// The one before is stopped, and it begins then.
    Replace,
}

impl OnOverlap {
    /// Whether it is the usual one, which stored records leave out.
    pub fn is_skip(&self) -> bool {
        *self == Self::Skip
    }
}

/// Runs that begin by the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Minute, hour, day of month, month, day of week, as in crontab(5).
    pub cron: String,
    /// A name of the IANA time zone database.
    pub time_zone: String,
    /// Seconds after its time at which a run is not begun any more.
    #[serde(default = "Schedule::usual_deadline")]
    pub starting_deadline_seconds: u32,
    /// What becomes of a run for which the time has come while the one before still goes on.
    #[serde(default, skip_serializing_if = "OnOverlap::is_skip")]
    pub on_overlap: OnOverlap,
    /// Whether no run is begun for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

impl Schedule {
    /// Seconds after its time at which a run is not begun any more, unless something else is asked for: an hour.
    pub const USUAL_DEADLINE_SECONDS: u32 = 3600;

    /// Of which nothing else is asked.
    pub fn new(cron: impl Into<String>, time_zone: impl Into<String>) -> Self {
        Self {
            cron: cron.into(),
            time_zone: time_zone.into(),
            starting_deadline_seconds: Self::USUAL_DEADLINE_SECONDS,
            on_overlap: OnOverlap::Skip,
            suspended: false,
        }
    }

    const fn usual_deadline() -> u32 {
        Self::USUAL_DEADLINE_SECONDS
    }

    /// Refuses what means no time; names the field at fault.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        for (field, text) in [("schedule.cron", &self.cron), ("schedule.time_zone", &self.time_zone)] {
            if text.is_empty() || text.len() > Limits::MAX_SCHEDULE_BYTES {
                return Err(SpecError::new(field, format!("give 1 to {} bytes", Limits::MAX_SCHEDULE_BYTES)));
            }
        }
        Cron::parse(&self.cron).map_err(|why| SpecError::new("schedule.cron", why))?;
        if self.zone().is_none() {
            let message =
                format!("{:?} is no time zone: give a name like \"Europe/Berlin\" or \"UTC\"", self.time_zone);
            return Err(SpecError::new("schedule.time_zone", message));
        }
        let (least, most) = (Limits::MIN_STARTING_DEADLINE_SECONDS, Limits::MAX_STARTING_DEADLINE_SECONDS);
        let given = self.starting_deadline_seconds;
        if !(least..=most).contains(&given) {
            let message = format!("{given} is outside {least} to {most}");
            return Err(SpecError::new("schedule.starting_deadline_seconds", message));
        }
        Ok(())
    }

    /// The times after `after`, in order; none of what means no time.
    pub fn times_after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> + use<> {
        let known = Cron::parse(&self.cron).ok().zip(self.zone());
        let mut last = after;
        std::iter::from_fn(move || {
            let (cron, zone) = known.as_ref()?;
            last = cron.next_after(zone, last)?;
            Some(last)
        })
    }

    /// The first time after `after`.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.times_after(after).next()
    }

    fn zone(&self) -> Option<TimeZone> {
        ZONES.get(&self.time_zone).ok()
    }
}
