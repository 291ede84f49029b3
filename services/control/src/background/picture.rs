//! Looks at the rows of all nodes: the picture that places are proposed from corrects itself, and this replica sees whose
//! heartbeats arrive, at whichever replica.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::{Reconciler, Work};
use crate::{Control, Error, FleetEventKind, lock};

#[derive(Default)]
pub(super) struct Picture {
    /// Activations since the latest look.
    passed: AtomicU32,
}

/// A process that is alone tells itself of all that it writes, so a look finds what a fault in that has missed. Of a large fleet it is
/// every second for so many nodes, and after so many seconds at the latest.
const NODES_A_SECOND: usize = 2_000;
const SECONDS_AT_MOST: u32 = 5;

impl Picture {
    fn is_due(&self, control: &Control) -> bool {
        if !control.inner.config.is_alone {
            return true;
        }
        let nodes = lock(&control.inner.watch).count();
        let distance = u32::try_from(nodes / NODES_A_SECOND).unwrap_or(u32::MAX).min(SECONDS_AT_MOST - 1);
        let is_due = self.passed.load(Ordering::Relaxed) >= distance;
        self.passed.store(if is_due { 0 } else { self.passed.load(Ordering::Relaxed) + 1 }, Ordering::Relaxed);
        is_due
    }
}

#[async_trait]
impl Reconciler for Picture {
    fn name(&self) -> &'static str {
        "fleet picture"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn work(&self) -> Work {
        Work::Own
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        if !self.is_due(control) {
            return Ok(None);
        }
        let looked = control.load_fleet().await;
        if looked.is_err() {
            lock(&control.inner.watch).was_blind();
        }
        looked?;
        let brake = control.brake();
        if control.inner.braked.swap(brake.is_some(), Ordering::Relaxed) == brake.is_some() {
            return Ok(None);
        }
        let said = match &brake {
            Some(brake) => {
                tracing::error!(silent = brake.silent, nodes = brake.nodes, "{brake}");
                (FleetEventKind::BrakeOn, brake.to_string())
            }
            None => (FleetEventKind::BrakeOff, "enough nodes are heard again: lost ones are replaced".to_owned()),
        };
        control.inner.fleet_events.say(said.0, None, said.1.clone(), control.now());
        Ok(Some(said.1))
    }
}
