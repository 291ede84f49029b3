//! Keeps the zone's serial numbers ahead of what was served.

use std::time::Duration;

use async_trait::async_trait;

use super::{Reconciler, Work};
use crate::{Control, Error};

pub(super) struct Serials;

#[async_trait]
impl Reconciler for Serials {
    fn name(&self) -> &'static str {
        "zone serials"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn work(&self) -> Work {
        Work::Own
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        control.renew_serials().await?;
        Ok(None)
    }
}
