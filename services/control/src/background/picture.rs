//! Renews the picture of the fleet from the rows, so that a stale one corrects itself.

use std::time::Duration;

use async_trait::async_trait;

use super::Reconciler;
use crate::{Control, Error};

pub(super) struct Picture;

#[async_trait]
impl Reconciler for Picture {
    fn name(&self) -> &'static str {
        "fleet picture"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        control.load_fleet().await?;
        Ok(None)
    }
}
