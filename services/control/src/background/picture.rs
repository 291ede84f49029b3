//! Looks at the rows of all nodes: the picture that places are proposed from corrects itself, and this replica sees whose
//! heartbeats arrive, at whichever replica.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use super::{Reconciler, Work};
use crate::{Control, Error, FleetEventKind, lock};

pub(super) struct Picture;

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
