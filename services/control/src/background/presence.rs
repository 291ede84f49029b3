//! Says that this replica lives, so that agents are sent to it, and looks which others do.

use std::time::Duration;

use async_trait::async_trait;

use super::{Reconciler, Work};
use crate::replica::PRESENCE_PERIOD;
use crate::{Control, Error};

pub(super) struct Presence;

#[async_trait]
impl Reconciler for Presence {
    fn name(&self) -> &'static str {
        "replica presence"
    }

    fn period(&self) -> Duration {
        PRESENCE_PERIOD
    }

    fn work(&self) -> Work {
        Work::Own
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        control.note_presence().await?;
        control.look_at_replicas().await?;
        Ok(None)
    }
}
