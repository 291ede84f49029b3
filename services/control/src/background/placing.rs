//! Gives a place to instances that wait for one: they left a node that was lost or emptied. The longest waiting come first; what
//! finds no room says so, and is tried again at growing distances, so that a full fleet costs little and one large instance
//! does not keep the small ones behind it waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use wherry_model::lifecycle;
use wherry_model::{Instance, InstanceId, InstanceState};

use super::{Reconciler, Work};
use crate::effects::Written;
use crate::{Control, Error, FleetEventKind, lock};

/// Waiting instances that are looked at.
const WINDOW: u32 = 1_000;

/// Instances that one activation tries to place.
const BATCH: usize = 64;

/// Proposals that may be refused for one instance in one activation.
const MAX_PROPOSALS: u32 = 5;

/// The distance of two tries of one instance, doubled after each, and at most.
const FIRST_DISTANCE: Duration = Duration::from_secs(1);
const MAX_DISTANCE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Placing {
    /// Of instances that found no room: when to try again, and the distance after that.
    later: Mutex<BTreeMap<InstanceId, (Instant, Duration)>>,
}

#[async_trait]
impl Reconciler for Placing {
    fn name(&self) -> &'static str {
        "placing"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn work(&self) -> Work {
        Work::Leased
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        let waiting = control.store().pending(WINDOW).await?;
        let known: BTreeSet<InstanceId> = waiting.iter().map(|instance| instance.id).collect();
        lock(&self.later).retain(|id, _| known.contains(id));
        let now = Instant::now();
        let due = |id: &InstanceId| lock(&self.later).get(id).is_none_or(|(at, _)| *at <= now);
        let full_window = waiting.len() >= usize::try_from(WINDOW).unwrap_or(usize::MAX);
        let tried: Vec<Instance> = waiting.into_iter().filter(|one| due(&one.id)).take(BATCH).collect();
        let mut placed = 0_u32;
        for instance in tried {
            let id = instance.id;
            match control.place_pending(instance).await? {
                None => {
                    lock(&self.later).remove(&id);
                    placed += 1;
                }
                Some((instance, why)) => {
                    // More wait than are looked at: telling it again moves it behind the others.
                    let why = if full_window { format!("{why} (looked at {})", control.now()) } else { why };
                    control
                        .change_instance(instance, |instance| Ok(lifecycle::explain(instance, &why, control.now())))
                        .await?;
                    let mut later = lock(&self.later);
                    let distance = later.get(&id).map_or(FIRST_DISTANCE, |(_, distance)| *distance);
                    later.insert(id, (now + distance, distance.saturating_mul(2).min(MAX_DISTANCE)));
                }
            }
        }
        if placed == 0 {
            return Ok(None);
        }
        let said = format!("{placed} instances that had left their machines were placed again");
        control.inner.fleet_events.say(FleetEventKind::Placed, None, said.clone(), control.now());
        Ok(Some(said))
    }
}

impl Control {
    /// Places it, or gives it back with the reason why it waits on. None also when it does not wait any more.
    async fn place_pending(&self, mut instance: Instance) -> Result<Option<(Instance, String)>, Error> {
        for _ in 0..MAX_PROPOSALS {
            let (demand, terms) = (instance.demand(), instance.terms());
            let reservation = match self.propose(instance.id, &demand, &terms) {
                Ok(reservation) => reservation,
                Err(Error::CapacityUnavailable(why)) => {
                    let why = self.make_room(&demand, &terms, why).await?;
                    return Ok(Some((instance, why)));
                }
                Err(error) => return Err(error),
            };
            let node = reservation.node();
            let Some(change) = lifecycle::place(&instance, node, self.now()) else { return Ok(None) };
            match self.write(change, Some(reservation)).await? {
                Written::Yes(_) => return Ok(None),
                Written::LostRace => instance = self.reread(instance.id).await?,
                Written::NodeRefused => self.row_refused(node).await?,
            }
            if instance.state != InstanceState::Pending {
                return Ok(None);
            }
        }
        Ok(Some((instance, "the machines that had room were taken while this was decided".to_owned())))
    }
}
