//! Forgets what was deleted long enough ago, a bounded piece at a time. Metered intervals are never forgotten.

use std::time::Duration;

use async_trait::async_trait;

use super::{Reconciler, Work};
use crate::{Control, Error};

/// Rows of each kind that are forgotten at once.
const BATCH: u32 = 500;
/// As often as that in one activation: more than anybody can make in its period, and yet no transaction is long.
const BATCHES: u32 = 20;

pub(super) struct Retention;

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
        Ok((rows > 0).then(|| format!("forgot {rows} rows that are past their time")))
    }
}
