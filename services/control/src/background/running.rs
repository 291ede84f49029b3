//! Begins the runs for which the time of a schedule has come. What is to be done is a pure function of the record
//! (`lifecycle::due`) and is written under its revision: whichever replica finds it, and however often one dies in between, a run
//! begins once. The longest due come first; what cannot be begun is looked at again at a later time that stands in the record,
//! so a full fleet does not keep others from their turn.

use std::time::Duration;

use async_trait::async_trait;
use wherry_model::lifecycle::{self, Due};
use wherry_model::{Instance, InstanceId};

use super::failures::Failures;
use super::{Reconciler, Work};
use crate::effects::Written;
use crate::{Control, Error};

/// Instances that are read at once, and how often one activation goes on after as many: whole hours come for many at once.
const BATCH: u32 = 100;
const MAX_BATCHES: u32 = 10;

/// Lost races and refused places that one instance survives in one activation. The next looks again.
const MAX_ATTEMPTS: u32 = 8;

pub(super) struct Running;

#[async_trait]
impl Reconciler for Running {
    fn name(&self) -> &'static str {
        "schedules"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn work(&self) -> Work {
        Work::Leased
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        let (mut begun, mut failures) = (0_u32, Failures::default());
        for _ in 0..MAX_BATCHES {
            let due = control.store().due(control.now(), BATCH).await?;
            let is_full = u32::try_from(due.len()).is_ok_and(|count| count >= BATCH);
            for instance in due {
                let id = instance.id;
                match control.act_on_schedule(instance).await {
                    Ok(is_begun) => begun += u32::from(is_begun),
                    Err(error) => {
                        if !failures.note_instance(control, id, error).await {
                            return failures.or(None);
                        }
                    }
                }
            }
            // What could not be written is due still, and would be read again at once.
            if !is_full || !failures.is_empty() || !control.leads().await? {
                break;
            }
        }
        failures.or((begun > 0).then(|| format!("{begun} instances were started for the time of their schedule")))
    }
}

impl Control {
    /// Takes the step that the schedule asks for; whether that was the start of a run.
    async fn act_on_schedule(&self, mut instance: Instance) -> Result<bool, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let id = instance.id;
            let (change, reservation) = match lifecycle::due(&instance, self.now()) {
                Due::Nothing => return Ok(false),
                Due::Step(change) => (Some(*change), None),
                Due::Run => match self.propose(id, &instance.demand(), &instance.terms()) {
                    Ok(reservation) => (lifecycle::run(&instance, reservation.node(), self.now()), Some(reservation)),
                    Err(Error::CapacityUnavailable(why)) => (lifecycle::postpone(&instance, &why, self.now()), None),
                    Err(error) => return Err(error),
                },
            };
            let Some(change) = change else { return Ok(false) };
            let node = reservation.as_ref().map(crate::fleet::Reservation::node);
            match self.write(change, reservation).await? {
                Written::Yes(_) => return Ok(node.is_some()),
                Written::LostRace => match self.known(id).await? {
                    Some(now) => instance = now,
                    // Deleted and forgotten meanwhile.
                    None => return Ok(false),
                },
                Written::NodeRefused => {
                    if let Some(node) = node {
                        self.row_refused(node).await?;
                    }
                }
            }
        }
        Ok(false)
    }

    async fn known(&self, id: InstanceId) -> Result<Option<Instance>, Error> {
        Ok(self.store().instance_of_any_tenant(id).await?)
    }
}
