//! Stops spot instances whose notice is over.

use std::time::Duration;

use async_trait::async_trait;

use super::{Reconciler, Work};
use crate::{Control, Error};

pub(super) struct Evicting;

#[async_trait]
impl Reconciler for Evicting {
    fn name(&self) -> &'static str {
        "eviction of spot instances"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn work(&self) -> Work {
        Work::Leased
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        let stopped = control.evict_overdue().await?;
        Ok((stopped > 0).then(|| format!("{stopped} spot instances make room")))
    }
}
