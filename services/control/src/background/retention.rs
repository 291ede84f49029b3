//! Forgets what was deleted long enough ago, a bounded piece at a time. Metered intervals are never forgotten.

use std::time::Duration;

use async_trait::async_trait;

use super::{Reconciler, Work};
use crate::{Control, Error};

/// Rows of each kind that one activation forgets.
const BATCH: u32 = 500;

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
        let before = control.now().minus(control.inner.config.retention);
        let rows = control.store().purge(before, BATCH).await?;
        let audits_before = control.now().minus(control.inner.config.audit_retention);
        let rows = rows + control.store().purge_audits(audits_before, BATCH).await?;
        Ok((rows > 0).then(|| format!("forgot {rows} rows that are past their time")))
    }
}
