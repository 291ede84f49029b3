//! Forgets what was deleted long enough ago, and the oldest events of instances that have too many, a bounded piece at a time. Metered
//! intervals are never forgotten, and depend on no event.
//!
//! Instances are looked at in turn, some thousand in an activation: between two looks an instance has more events than it may, as many
//! as it makes in that time. Rejected: counting with each event (every change of every instance would pay for it).

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use wherry_model::InstanceId;

use super::{Reconciler, Work};
use crate::{Control, Error, lock};

/// Rows of each kind that are forgotten at once.
const BATCH: u32 = 500;
/// As often as that in one activation: more than anybody can make in its period, and yet no transaction is long.
const BATCHES: u32 = 20;

/// The next instance to look at comes after this one.
#[derive(Default)]
pub(super) struct Retention(Mutex<Option<InstanceId>>);

#[async_trait]
impl Reconciler for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn period(&self) -> Duration {
        Duration::from_mins(1)
    }

    fn work(&self) -> Work {
        Work::Leased
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        let mut rows = 0;
        let before = control.now().minus(control.inner.config.retention);
        for _ in 0..BATCHES {
            let gone = control.store().purge(before, BATCH).await?;
            rows += gone;
            if gone < u64::from(BATCH) {
                break;
            }
        }
        let audits_before = control.now().minus(control.inner.config.audit_retention);
        for _ in 0..BATCHES {
            let gone = control.store().purge_audits(audits_before, BATCH).await?;
            rows += gone;
            if gone < u64::from(BATCH) {
                break;
            }
        }
        let deliveries_before = control.now().minus(control.inner.config.webhooks.keep);
        for _ in 0..BATCHES {
            let gone = control.store().purge_deliveries(deliveries_before, BATCH).await?;
            rows += gone;
            if gone < u64::from(BATCH) {
                break;
            }
        }
        rows += self.trim_events(control).await?;
        Ok((rows > 0).then(|| format!("forgot {rows} rows that are past their time")))
    }
}

impl Retention {
    async fn trim_events(&self, control: &Control) -> Result<u64, Error> {
        let keep = control.inner.config.events_per_instance;
        let mut events = 0;
        for _ in 0..BATCHES {
            let after = *lock(&self.0);
            let trimmed = control.store().trim_events(after, keep, BATCH, BATCH).await?;
            *lock(&self.0) = trimmed.next;
            events += trimmed.events;
            if trimmed.is_end {
                break;
            }
        }
        Ok(events)
    }
}
