//! This process as one of several: who it is, which others there are, and where agents reach them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use wherry_model::ReplicaId;
use wherry_store::ReplicaRecord;

use crate::{Control, Error, lock};

/// How often a replica says that it lives.
pub(crate) const PRESENCE_PERIOD: Duration = Duration::from_secs(3);

/// A replica that has not said so for this long is not named to agents any more.
const PRESENCE_PATIENCE: Duration = Duration::from_secs(10);

/// One of an older form of records that has not said so for this long will not write any more.
const OLDER_PATIENCE: Duration = Duration::from_secs(30);

/// After this long it is forgotten.
const PRESENCE_KEPT: Duration = Duration::from_mins(5);

impl Control {
    /// Who this process is.
    pub fn replica_id(&self) -> ReplicaId {
        self.inner.replica
    }

    /// Notes that this replica lives, unless it has just done so.
    pub(crate) async fn note_presence(&self) -> Result<(), Error> {
        let asked = Instant::now();
        if lock(&self.inner.present).is_some_and(|at| at.elapsed() < PRESENCE_PERIOD / 2) {
            return Ok(());
        }
        let now = self.now();
        let agents_url = self.inner.config.agents_url.clone();
        let record = ReplicaRecord { id: self.inner.replica, agents_url, seen_at: now, form: ReplicaRecord::FORM };
        self.store().note_replica(&record, now.minus(PRESENCE_KEPT)).await?;
        *lock(&self.inner.present) = Some(asked);
        Ok(())
    }

    /// Looks at the replicas that were seen lately: whether some are of a release before, and which share of the machines this one
    /// prefers. Two that see different ones may prefer the same share for a while, which costs a refusal now and then.
    pub(crate) async fn look_at_replicas(&self) -> Result<(), Error> {
        let (now, own) = (self.now(), self.inner.replica);
        let replicas = self.store().replicas().await?;
        let is_older = |one: &ReplicaRecord| one.form < ReplicaRecord::FORM && one.seen_at >= now.minus(OLDER_PATIENCE);
        self.inner.older_replicas.store(replicas.iter().any(is_older), Ordering::Relaxed);
        let since = now.minus(PRESENCE_PATIENCE);
        let mut live: Vec<ReplicaId> =
            replicas.iter().filter(|one| one.seen_at >= since || one.id == own).map(|one| one.id).collect();
        live.sort_unstable();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let index = live.iter().position(|one| *one == own);
        let (index, of) = index.map_or((0, 1), |index| (count(index), count(live.len())));
        lock(&self.inner.fleet).prefer_share(index, of);
        Ok(())
    }

    /// Refuses `what` while replicas of a release before answer too: they would drop it with their next write of the record, or
    /// could not read the record any more. At the last look there were some; who comes meanwhile is seen within seconds.
    pub(crate) fn refuse_while_mixed(&self, what: &str) -> Result<(), Error> {
        if !self.inner.older_replicas.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message =
            format!("the service is being upgraded, and does not take {what} until that is done: ask again then");
        Err(Error::conflict("upgrade_under_way", message))
    }

    /// The replicas that were seen lately, in order of id.
    pub(crate) async fn live_replicas(&self) -> Result<Vec<ReplicaRecord>, Error> {
        let since = self.now().minus(PRESENCE_PATIENCE);
        let mut replicas = self.store().replicas().await?;
        replicas.retain(|replica| replica.seen_at >= since);
        Ok(replicas)
    }

    /// Where agents reach the control plane: this replica first, then the others in a fixed order that begins after it, so
    /// that the agents of one that dies spread over the rest.
    pub(crate) async fn agent_endpoints(&self) -> Result<Vec<String>, Error> {
        let Some(own) = &self.inner.config.agents_url else { return Ok(Vec::new()) };
        let mut endpoints = vec![own.clone()];
        let replicas = self.live_replicas().await?;
        let (later, earlier): (Vec<_>, Vec<_>) = replicas.into_iter().partition(|one| one.id > self.inner.replica);
        for url in later.into_iter().chain(earlier).filter_map(|replica| replica.agents_url) {
            if !endpoints.contains(&url) {
                endpoints.push(url);
            }
        }
        Ok(endpoints)
    }

    /// Leaves in order: its leases are free at once, and agents are not sent to it any more. The background work must have been
    /// stopped.
    pub async fn close(&self) -> Result<(), Error> {
        self.end_entries().await;
        if let Err(error) = self.keep_lifetimes().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "what was learnt of lifetimes is not kept");
        }
        self.give_up_lease().await?;
        Ok(self.store().forget_replica(self.inner.replica).await?)
    }
}
