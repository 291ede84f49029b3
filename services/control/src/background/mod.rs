//! What the application does by itself. Reconcilers take no input: a timer wakes them, they read state, do a bounded
//! amount of idempotent work, never retry inside, and say what they did. The next activation is the retry.
//!
//! Some of it every replica does for itself, some is done by one of them: see [`lease`].

mod deferred;
mod draining;
mod evicting;
mod expiring;
mod failures;
mod fencing;
mod following;
pub(crate) mod lease;
mod lifetimes;
mod picture;
mod placing;
mod presence;
mod retention;
mod running;
mod serials;
mod settled;
mod silence;
mod telling;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Control, Error, lock};

/// Who does a kind of background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Every replica, for itself.
    Own,
    /// The one that holds the lease.
    Leased,
}

/// One kind of background work.
#[async_trait]
trait Reconciler: Send + Sync {
    fn name(&self) -> &'static str;
    /// The time between two activations.
    fn period(&self) -> Duration;
    fn work(&self) -> Work;
    /// Does what there is to do; a sentence if that was anything.
    async fn activate(&self, control: &Control) -> Result<Option<String>, Error>;
}

/// What a reconciler did last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconcilerStatus {
    /// Which one.
    pub name: &'static str,
    /// Activations since the start, also those in which another replica held the lease.
    pub activations: u64,
    /// Failed ones among them.
    pub failures: u64,
    /// What the latest that did something did, or why the latest failed.
    pub latest: Option<String>,
}

type Statuses = Arc<Mutex<Vec<ReconcilerStatus>>>;

/// The running background work.
pub struct Background {
    statuses: Statuses,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    /// Starts all reconcilers.
    pub fn start(control: &Control) -> Self {
        // Silence before fencing, emptying before placing: on one activation of all, each finds what the one before did.
        let reconcilers: [Arc<dyn Reconciler>; 14] = [
            Arc::new(picture::Picture::default()),
            Arc::new(presence::Presence),
            Arc::new(deferred::Deferred::default()),
            Arc::new(silence::Silent::default()),
            Arc::new(fencing::Fencing::default()),
            Arc::new(draining::Draining),
            Arc::new(evicting::Evicting),
            Arc::new(placing::Placing::default()),
            Arc::new(expiring::Expiring),
            Arc::new(running::Running),
            Arc::new(retention::Retention::default()),
            Arc::new(serials::Serials),
            Arc::new(lifetimes::Aging),
            Arc::new(lifetimes::Keeping),
        ];
        let background = Self { statuses: Arc::default(), tasks: TaskTracker::new(), stop: CancellationToken::new() };
        let index = background.status(following::NAME);
        let (statuses, stop) = (Arc::clone(&background.statuses), background.stop.clone());
        background.tasks.spawn(following::follow(control.clone(), index, statuses, stop));
        let (zone, stop) = (control.clone(), background.stop.clone());
        background.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = zone.inner.zone.publish_large() => {}
            }
        });
        let index = background.status(telling::NAME);
        let (statuses, stop) = (Arc::clone(&background.statuses), background.stop.clone());
        background.tasks.spawn(telling::tell(control.clone(), index, statuses, stop));
        for reconciler in reconcilers {
            let index = background.status(reconciler.name());
            let (statuses, stop) = (Arc::clone(&background.statuses), background.stop.clone());
            background.tasks.spawn(run(control.clone(), reconciler, index, statuses, stop));
        }
        background
    }

    fn status(&self, name: &'static str) -> usize {
        let mut statuses = lock(&self.statuses);
        statuses.push(ReconcilerStatus { name, activations: 0, failures: 0, latest: None });
        statuses.len() - 1
    }

    /// What each reconciler did last.
    pub fn statuses(&self) -> Vec<ReconcilerStatus> {
        lock(&self.statuses).clone()
    }

    /// Ends the work between two activations.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn run(
    control: Control,
    reconciler: Arc<dyn Reconciler>,
    index: usize,
    statuses: Statuses,
    stop: CancellationToken,
) {
    let mut timer = tokio::time::interval(reconciler.period());
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticked: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        // This process was stopped, or its work took very long: nobody could be heard meanwhile.
        let late = reconciler.period().saturating_add(control.inner.config.detection);
        if ticked.replace(Instant::now()).is_some_and(|at| at.elapsed() > late) {
            lock(&control.inner.watch).was_blind();
        }
        let done = activate(&control, reconciler.as_ref()).await;
        told(&statuses, index, done);
    }
}

async fn activate(control: &Control, reconciler: &dyn Reconciler) -> Result<Option<String>, Error> {
    if reconciler.work() == Work::Leased {
        match control.leads().await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            // A store that takes no writes takes no heartbeats either.
            Err(error) => {
                lock(&control.inner.watch).was_blind();
                return Err(error);
            }
        }
    }
    reconciler.activate(control).await
}

fn told(statuses: &Statuses, index: usize, done: Result<Option<String>, Error>) {
    let mut statuses = lock(statuses);
    let Some(status) = statuses.get_mut(index) else { return };
    status.activations += 1;
    match done {
        Ok(None) => {}
        Ok(Some(sentence)) => {
            tracing::info!(reconciler = status.name, "{sentence}");
            status.latest = Some(sentence);
        }
        Err(error) => {
            tracing::error!(
                reconciler = status.name,
                error = &error as &dyn std::error::Error,
                "background work failed, it is tried again"
            );
            status.failures += 1;
            status.latest = Some(error.to_string());
        }
    }
}
