//! Stops spot instances whose notice is over.

use std::time::Duration;

use async_trait::async_trait;

use super::failures::Failures;
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
        let (mut stopped, mut failures) = (0_u32, Failures::default());
        for id in control.overdue() {
            match control.evict(id).await {
                Ok(wrote) => stopped += u32::from(wrote),
                Err(error) => {
                    if !failures.note_instance(control, id, error).await {
                        break;
                    }
                }
            }
        }
        failures.or((stopped > 0).then(|| format!("{stopped} spot instances make room")))
    }
}
