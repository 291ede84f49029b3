//! Lets what is expected of instances grow older with them, and keeps what was learnt of their lives.

use std::time::Duration;

use async_trait::async_trait;

use super::{Reconciler, Work};
use crate::{Control, Error};

/// Ages are told apart by minutes.
pub(super) struct Aging;

#[async_trait]
impl Reconciler for Aging {
    fn name(&self) -> &'static str {
        "ages"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn work(&self) -> Work {
        Work::Own
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        control.age_lives();
        Ok(None)
    }
}

/// What is lost with a process that dies is learnt again within as much time.
pub(super) struct Keeping;

#[async_trait]
impl Reconciler for Keeping {
    fn name(&self) -> &'static str {
        "what is learnt"
    }

    fn period(&self) -> Duration {
        Duration::from_mins(1)
    }

    fn work(&self) -> Work {
        Work::Leased
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        control.keep_lifetimes().await?;
        Ok(None)
    }
}
