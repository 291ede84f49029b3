//! How often the instances of a tenant may be entered: each entry is a row that is kept for months.
//!
//! A bucket for each tenant holds an hour's worth and fills evenly. It is each replica's own and begins full: what is bounded is
//! the disk, to which a factor of the number of replicas does not matter. Rejected: counting rows in the store, which every entry
//! would wait for.

use std::collections::BTreeMap;
use std::time::Duration;

use wherry_model::{TenantId, Timestamp};

/// An entry's worth: a full bucket fills in an hour, so this many microseconds of filling, times the entries of an hour.
const HOUR_MICROS: u64 = 3_600_000_000;

/// Tenants that are remembered; of those whose bucket is full nothing has to be.
const REMEMBERED: usize = 4096;

#[derive(Debug)]
struct Bucket {
    /// Up to an hour; an entry costs an hour by the entries of an hour.
    micros: u64,
    at: Timestamp,
}

impl Bucket {
    /// A clock that was set back fills nothing.
    fn fill(&mut self, now: Timestamp) {
        let passed = u64::try_from(now.as_micros().saturating_sub(self.at.as_micros())).unwrap_or(0);
        self.micros = self.micros.saturating_add(passed).min(HOUR_MICROS);
        self.at = now;
    }
}

/// The buckets of all tenants.
#[derive(Debug, Default)]
pub(crate) struct EntryBudget {
    buckets: BTreeMap<TenantId, Bucket>,
}

impl EntryBudget {
    /// Takes one entry, or says when there is one again.
    pub(crate) fn take(&mut self, tenant: TenantId, per_hour: u32, now: Timestamp) -> Result<(), Duration> {
        self.wait(tenant, per_hour, now).map_or(Ok(()), Err)?;
        if let Some(bucket) = self.buckets.get_mut(&tenant) {
            bucket.micros = bucket.micros.saturating_sub(cost(per_hour));
        }
        Ok(())
    }

    /// How long there is none, if there is none now.
    pub(crate) fn wait(&mut self, tenant: TenantId, per_hour: u32, now: Timestamp) -> Option<Duration> {
        if self.buckets.len() >= REMEMBERED && !self.buckets.contains_key(&tenant) {
            self.buckets.retain(|_, bucket| {
                bucket.fill(now);
                bucket.micros < HOUR_MICROS
            });
        }
        let bucket = self.buckets.entry(tenant).or_insert(Bucket { micros: HOUR_MICROS, at: now });
        bucket.fill(now);
        let missing = cost(per_hour).saturating_sub(bucket.micros);
        (missing > 0).then(|| Duration::from_micros(missing))
    }
}

fn cost(per_hour: u32) -> u64 {
    HOUR_MICROS / u64::from(per_hour.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hours_worth_at_once_and_evenly_from_then_on() {
        let (one, other) = ("aa".repeat(16).parse().unwrap(), "bb".repeat(16).parse().unwrap());
        let mut budget = EntryBudget::default();
        let begin = Timestamp::from_micros(1_000_000);
        for _ in 0..60 {
            assert_eq!(budget.take(one, 60, begin), Ok(()));
        }
        assert_eq!(budget.take(one, 60, begin), Err(Duration::from_mins(1)));
        assert_eq!(budget.take(other, 60, begin), Ok(()), "a tenant has a bucket of its own");
        assert_eq!(budget.wait(one, 60, begin.plus(Duration::from_secs(50))), Some(Duration::from_secs(10)));
        let minute = begin.plus(Duration::from_mins(1));
        assert_eq!(budget.wait(one, 60, minute), None);
        assert_eq!(budget.take(one, 60, minute), Ok(()));
        assert!(budget.take(one, 60, minute).is_err());
        assert!(budget.take(one, 60, begin).is_err(), "a clock that goes back gives nothing");
        let later = begin.plus(Duration::from_hours(100));
        assert_eq!((0..100).filter(|_| budget.take(one, 60, later).is_ok()).count(), 60);
    }

    #[test]
    fn who_came_long_ago_is_forgotten() {
        let mut budget = EntryBudget::default();
        let tenant = |number: usize| format!("{number:032x}").parse::<TenantId>().unwrap();
        let begin = Timestamp::from_micros(1_000_000);
        for number in 0..REMEMBERED {
            budget.take(tenant(number), 60, begin).unwrap();
        }
        budget.take(tenant(REMEMBERED), 60, begin.plus(Duration::from_hours(2))).unwrap();
        assert_eq!(budget.buckets.len(), 1);
    }
}
