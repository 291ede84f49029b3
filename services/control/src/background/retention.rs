//! Forgets what is past its time, and the oldest events of instances that have too many. Metered intervals are never forgotten, and
//! depend on no event.
//!
//! What is past its time is forgotten in small batches, of each kind in turn, until none is left or the activation has taken as long as
//! it may ([`ControlConfig::forgetting`](crate::ControlConfig::forgetting)): others write between two batches, no transaction is long,
//! and a backlog of one kind holds up no other. Rejected: a fixed number of batches, which a busy service outgrows for good.
//!
//! Instances are looked at in turn for their events, ten thousand in an activation: between two looks an instance has more events than
//! it may, as many as it makes in that time. Rejected: counting with each event (every change of every instance would pay for it), and
//! looking at all of them each time (a large service would do little else).

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use wherry_model::InstanceId;

use super::{Reconciler, Work};
use crate::{Control, Error, lock};

/// Rows of one kind that are forgotten at once.
const BATCH: u32 = 500;
/// Batches of instances whose events are counted in one activation.
const LOOKS: u32 = 20;

/// What is forgotten when its time is over.
#[derive(Clone, Copy)]
enum Kind {
    /// Deleted instances with their events, and idempotency keys.
    Deleted,
    Audits,
    Deliveries,
}

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
        let begun = Instant::now();
        let mut rows = 0;
        let mut kinds = vec![Kind::Deleted, Kind::Audits, Kind::Deliveries];
        while !kinds.is_empty() {
            let mut left = Vec::new();
            for kind in kinds {
                let gone = control.forget(kind).await?;
                rows += gone;
                if gone >= u64::from(BATCH) {
                    left.push(kind);
                }
                tokio::task::yield_now().await;
            }
            kinds = left;
            if begun.elapsed() >= control.inner.config.forgetting || !control.leads().await? {
                break;
            }
        }
        rows += self.trim_events(control).await?;
        Ok((rows > 0).then(|| format!("forgot {rows} rows that are past their time")))
    }
}

impl Control {
    /// A batch of one kind. Says how many rows went; less than a batch when there are no more.
    async fn forget(&self, kind: Kind) -> Result<u64, Error> {
        let config = &self.inner.config;
        let before = |time| self.now().minus(time);
        Ok(match kind {
            Kind::Deleted => self.store().purge(before(config.retention), BATCH).await?,
            Kind::Audits => self.store().purge_audits(before(config.audit_retention), BATCH).await?,
            Kind::Deliveries => self.store().purge_deliveries(before(config.webhooks.keep), BATCH).await?,
        })
    }
}

impl Retention {
    async fn trim_events(&self, control: &Control) -> Result<u64, Error> {
        let keep = control.inner.config.events_per_instance;
        let mut events = 0;
        for _ in 0..LOOKS {
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
