//! Deletes what ended by itself and whose time to be kept is over. Every replica may find the same instance: the record's
//! revision lets one of them delete it, once.

use std::time::Duration;

use async_trait::async_trait;
use wherry_model::lifecycle;

use super::failures::Failures;
use super::{Reconciler, Work};
use crate::{Control, Error};

/// Instances that one activation deletes.
const BATCH: u32 = 100;

pub(super) struct Expiring;

#[async_trait]
impl Reconciler for Expiring {
    fn name(&self) -> &'static str {
        "expiry"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn work(&self) -> Work {
        Work::Leased
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        let (mut deleted, mut failures) = (0_u32, Failures::default());
        for instance in control.store().expired(control.now(), BATCH).await? {
            let id = instance.id;
            let after =
                control.change_instance(instance, |instance| Ok(lifecycle::expire(instance, control.now()))).await;
            match after {
                Ok(_) => deleted += 1,
                // Somebody deleted it, and it was forgotten, in the meantime.
                Err(Error::NotFound(_)) => {}
                Err(error) => {
                    if !failures.note_instance(control, id, error).await {
                        break;
                    }
                }
            }
        }
        failures.or((deleted > 0).then(|| format!("{deleted} instances whose time was over are deleted")))
    }
}
