//! Applies facts that were put off because the record that they are about could not be read, as soon as it can.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use wherry_model::InstanceId;

use super::failures::Failures;
use super::{Reconciler, Work};
use crate::{Control, Error, lock};

/// Instances that one activation looks at; the next goes on behind them.
const BATCH: u32 = 100;

/// The next instance to look at comes after this one.
#[derive(Default)]
pub(super) struct Deferred(Mutex<Option<InstanceId>>);

#[async_trait]
impl Reconciler for Deferred {
    fn name(&self) -> &'static str {
        "facts that were put off"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn work(&self) -> Work {
        Work::Leased
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        let after = *lock(&self.0);
        let instances = control.store().deferred_instances(after, BATCH).await?;
        let is_whole = u32::try_from(instances.len()) == Ok(BATCH);
        *lock(&self.0) = instances.last().copied().filter(|_| is_whole);
        let (mut applied, mut failures) = (0, Failures::default());
        for id in instances {
            match control.apply_deferred(id).await {
                Ok(facts) => applied += facts.unwrap_or(0),
                Err(error) => {
                    if !failures.note_instance(control, id, error).await {
                        break;
                    }
                }
            }
        }
        failures.or((applied > 0).then(|| format!("{applied} facts that were put off are applied")))
    }
}
