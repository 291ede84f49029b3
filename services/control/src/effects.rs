//! What follows from a committed change: the projections in memory are told. Never before the commit, and losing it to
//! a crash loses nothing: all of it is read again at start.
//!
//! A caller may go away at any moment (a client hangs up, an agent's patience ends), and with it the future that it was
//! polling. So a write and what follows from it run in a task of their own: a commit that nobody waits for any more is
//! told to the projections all the same. Rejected: telling them in the caller's future, which left a stopped instance in
//! DNS when its owner pressed Ctrl-C in the right millisecond.

use std::collections::BTreeSet;

use wherry_model::lifecycle::Change;
use wherry_model::{EventKind, Instance, InstanceId, JournalId, NodeId, Observation};
use wherry_store::{Applied, CreateOutcome, FenceOutcome, Placed, ReportOutcome};

use crate::fleet::Reservation;
use crate::{Control, Error, lock};

/// What became of a change.
pub(crate) enum Written {
    /// It is stored; this is the record now.
    Yes(Box<Instance>),
    /// The record had changed before.
    LostRace,
    /// The node's row refused.
    NodeRefused,
}

impl Control {
    /// Stores a new instance; the reservation of its place, if it has one, is kept if it is.
    pub(crate) async fn write_new(
        &self,
        mut placed: Placed,
        reservation: Option<Reservation>,
    ) -> Result<CreateOutcome, Error> {
        if let Some(reservation) = &reservation {
            placed.change.after.gpus = reservation.gpus();
        }
        let control = self.clone();
        carry_through(async move {
            let outcome = control.store().place_and_create(&placed).await?;
            if matches!(outcome, CreateOutcome::Created(_)) {
                if let Some(reservation) = reservation {
                    reservation.keep();
                }
                control.after_commit(&placed.change);
            }
            Ok(outcome)
        })
        .await
    }

    /// Stores a change; the reservation of what it takes is kept if it is.
    pub(crate) async fn write(&self, mut change: Change, reservation: Option<Reservation>) -> Result<Written, Error> {
        if let Some(reservation) = &reservation {
            change.after.gpus = reservation.gpus();
        }
        let control = self.clone();
        // Boxed: callers hold the future of a change on their stacks.
        let work = Box::pin(async move {
            Ok(match control.store().apply(&change).await? {
                Applied::Yes => {
                    if let Some(reservation) = reservation {
                        reservation.keep();
                    }
                    control.after_commit(&change);
                    Written::Yes(Box::new(change.after))
                }
                Applied::LostRace => Written::LostRace,
                Applied::NodeRefused => Written::NodeRefused,
            })
        });
        carry_through(work).await
    }

    /// Stores what a report changes, and what of it is put off.
    pub(crate) async fn write_report(
        &self,
        (node, journal): (NodeId, JournalId),
        (after, through): (u64, u64),
        changes: Vec<Change>,
        deferred: Vec<Observation>,
    ) -> Result<ReportOutcome, Error> {
        let control = self.clone();
        carry_through(async move {
            let outcome = control.store().apply_report(node, journal, after, through, &changes, &deferred).await?;
            if matches!(outcome, ReportOutcome::Applied(_)) {
                for change in &changes {
                    control.after_commit(change);
                }
            }
            Ok(outcome)
        })
        .await
    }

    /// Stores what facts change that were put off.
    pub(crate) async fn write_deferred(
        &self,
        instance: InstanceId,
        numbers: Vec<u64>,
        changes: Vec<Change>,
    ) -> Result<Applied, Error> {
        let control = self.clone();
        carry_through(async move {
            let outcome = control.store().apply_deferred(instance, &numbers, &changes).await?;
            if outcome == Applied::Yes {
                for change in &changes {
                    control.after_commit(change);
                }
            }
            Ok(outcome)
        })
        .await
    }

    /// Fences a node with what that changes.
    pub(crate) async fn write_fence(
        &self,
        node: NodeId,
        heartbeats: u64,
        changes: Vec<Change>,
    ) -> Result<FenceOutcome, Error> {
        let control = self.clone();
        carry_through(async move {
            let outcome = control.store().fence(node, heartbeats, &changes).await?;
            if matches!(outcome, FenceOutcome::Fenced(_)) {
                for change in &changes {
                    control.after_commit(change);
                }
                // Its epoch is news to the node also when nothing else is.
                control.inner.bells.ring(node);
            }
            Ok(outcome)
        })
        .await
    }

    fn after_commit(&self, change: &Change) {
        let instance = &change.after;
        // One that takes another amount of the same node is seen by a look at the row.
        if let Some(node) = change.releases.filter(|node| change.takes != Some(*node)) {
            lock(&self.inner.fleet).release(node, instance.demand_held());
        }
        // Labels may change where it is.
        let moves = change.takes.is_some() || change.releases.is_some() || change.from.0 == 0;
        if moves
            || change
                .events
                .iter()
                .any(|event| matches!(event.kind, EventKind::Updated | EventKind::Leaving | EventKind::Pulled))
        {
            lock(&self.inner.fleet).observe(instance);
        }
        if moves || instance.state.is_settled() {
            self.learn_lives([instance]);
        }
        let nodes: BTreeSet<NodeId> = [instance.node, change.takes, change.releases].into_iter().flatten().collect();
        for node in nodes {
            self.inner.bells.ring(node);
        }
        self.inner.zone.observe(instance, || self.inner.config.fqdn(instance));
    }
}

/// Runs `work` to its end, also when the caller does not wait for that.
pub(crate) async fn carry_through<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::unavailable("the service is stopping")),
    }
}
