//! Takes from lost nodes what may run elsewhere, once its old copy has certainly ended: the agent ends it by itself when its
//! lease is `fence_after` old, and this waits for that and a margin after the last heartbeat that can have renewed the lease.

use std::time::Duration;

use async_trait::async_trait;

use super::failures::Failures;
use super::settled::Settled;
use super::{Reconciler, Work};
use crate::loss::Loss;
use crate::{Control, Error, lock};

#[derive(Default)]
pub(super) struct Fencing {
    settled: Settled,
}

#[async_trait]
impl Reconciler for Fencing {
    fn name(&self) -> &'static str {
        "node fencing"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn work(&self) -> Work {
        Work::Leased
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        if control.brake().is_some() {
            return Ok(None);
        }
        let wait = control.inner.config.fence_wait();
        let (mut taken, mut failures) = (Vec::new(), Failures::default());
        let nodes = control.store().nodes().await?;
        self.settled.keep_only(&nodes);
        for node in nodes {
            control.see_node(&node);
            let Some((unproved_for, heartbeats)) = lock(&control.inner.watch).unproved_for(node.id) else { continue };
            // Never before it is believed silent, also where an installation waits shorter for this than for that.
            if unproved_for <= wait.max(control.inner.config.detection)
                || heartbeats != node.heartbeats
                || self.settled.contains(&node)
            {
                continue;
            }
            match control.lose_node(node.id, heartbeats, false).await {
                Ok(Loss::Nothing | Loss::Taken(0)) => self.settled.add(&node),
                Ok(Loss::Taken(count)) => taken.push(format!("{count} instances of {}", node.name)),
                Ok(Loss::Heard) => {}
                Err(error) => {
                    if !failures.note(control, node.id, error).await {
                        break;
                    }
                }
            }
        }
        failures
            .or((!taken.is_empty()).then(|| format!("{} are run elsewhere: their machine is lost", taken.join(", "))))
    }
}
