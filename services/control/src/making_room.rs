//! Room for regular instances that spot ones have. Who is refused a place is refused now: spot instances that have what is missing are
//! told to make room, are stopped when their notice is over, and whoever asks again finds the place.
//!
//! Rejected: a request that waits for the notice and the grace of a stop, which no client's patience is made for.

use std::time::Duration;

use tokio::time::Instant;
use wherry_model::lifecycle;
use wherry_model::{Demand, InstanceId, Leaving, Terms};

use crate::fleet::{MakingRoom, Reservation};
use crate::{Control, Error, lock};

/// Who makes room is looked for as often as this at most, by each replica: it walks a part of the fleet.
const DISTANCE: Duration = Duration::from_millis(200);

impl Control {
    /// Proposes a place for `who`. Where there is none spot instances are asked to make room.
    pub(crate) async fn placed(&self, who: InstanceId, demand: &Demand, terms: &Terms) -> Result<Reservation, Error> {
        match self.propose(who, demand, terms) {
            Ok(reservation) => Ok(reservation),
            Err(refusal) => Err(self.made_room(demand, terms, refusal).await?),
        }
    }

    /// The refusal, with room made where that was what was missing.
    pub(crate) async fn made_room(&self, demand: &Demand, terms: &Terms, refusal: Error) -> Result<Error, Error> {
        match refusal {
            Error::CapacityUnavailable(why) => self.make_room(demand, terms, why).await.map(Error::CapacityUnavailable),
            other => Ok(other),
        }
    }

    /// Tells spot instances to make room for who was refused; gives back why it was, and what is done about it.
    pub(crate) async fn make_room(&self, demand: &Demand, terms: &Terms, why: String) -> Result<String, Error> {
        {
            let mut last = lock(&self.inner.made_room);
            if demand.spot || last.is_some_and(|last| last.elapsed() < DISTANCE) {
                return Ok(why);
            }
            *last = Some(Instant::now());
        }
        let making = lock(&self.inner.fleet).victims(demand, terms);
        match making {
            MakingRoom::No => return Ok(why),
            MakingRoom::UnderWay => {}
            MakingRoom::By(victims) => {
                for id in victims {
                    if let Err(error) = self.give_notice(id).await {
                        // The others go all the same, and the next who is refused looks again.
                        tracing::error!(
                            instance = %id,
                            error = &error as &dyn std::error::Error,
                            "a spot instance cannot be told to make room"
                        );
                    }
                }
            }
        }
        Ok(format!(
            "{why}. Spot instances make room for it: try again in {} seconds",
            self.inner.config.spot_notice.as_secs()
        ))
    }

    async fn give_notice(&self, id: InstanceId) -> Result<(), Error> {
        let Some(instance) = self.store().instance_of_any_tenant(id).await? else { return Ok(()) };
        let until = self.now().plus(self.inner.config.spot_notice);
        let told = self.change_instance(instance, |instance| Ok(lifecycle::notice(instance, until, self.now()))).await;
        gone_or(told.map(drop))
    }

    /// The spot instances whose notice is over, as far as this replica knows.
    pub(crate) fn overdue(&self) -> Vec<InstanceId> {
        lock(&self.inner.fleet).overdue(self.now())
    }

    /// Stops a spot instance if its notice is over. Whether that was written now.
    pub(crate) async fn evict(&self, id: InstanceId) -> Result<bool, Error> {
        let Some(instance) = self.store().instance_of_any_tenant(id).await? else { return Ok(false) };
        let (now, mut wrote) = (self.now(), false);
        let stopped = self
            .change_instance(instance, |instance| {
                let is_due = instance.evict_at.is_some_and(|at| at <= now);
                let change = is_due.then(|| lifecycle::leave(instance, Leaving::Evict, now)).flatten();
                wrote = change.is_some();
                Ok(change)
            })
            .await;
        let is_there = stopped.is_ok();
        gone_or(stopped.map(drop))?;
        Ok(wrote && is_there)
    }
}

/// An instance that was forgotten meanwhile needs nothing.
fn gone_or(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::NotFound(_)) => Ok(()),
        done => done,
    }
}
