//! What the application does by itself. Reconcilers take no input: a timer wakes them, they read state, do a bounded
//! amount of idempotent work, never retry inside, and say what they did. The next activation is the retry.

mod picture;
mod retention;
mod serials;
mod silence;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Control, Error, lock};

/// One kind of background work.
#[async_trait]
trait Reconciler: Send + Sync {
    fn name(&self) -> &'static str;
    /// The time between two activations.
    fn period(&self) -> Duration;
    /// Does what there is to do; a sentence if that was anything.
    async fn activate(&self, control: &Control) -> Result<Option<String>, Error>;
}

/// What a reconciler did last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconcilerStatus {
    /// Which one.
    pub name: &'static str,
    /// Activations since the start.
    pub activations: u64,
    /// Failed ones among them.
    pub failures: u64,
    /// What the latest that did something did, or why the latest failed.
    pub latest: Option<String>,
}

/// The running background work.
pub struct Background {
    statuses: Arc<Mutex<Vec<ReconcilerStatus>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    /// Starts all reconcilers.
    pub fn start(control: &Control) -> Self {
        let reconcilers: [Arc<dyn Reconciler>; 4] = [
            Arc::new(silence::Silent),
            Arc::new(picture::Picture),
            Arc::new(retention::Retention),
            Arc::new(serials::Serials),
        ];
        let background = Self { statuses: Arc::default(), tasks: TaskTracker::new(), stop: CancellationToken::new() };
        for (index, reconciler) in reconcilers.into_iter().enumerate() {
            lock(&background.statuses).push(ReconcilerStatus {
                name: reconciler.name(),
                activations: 0,
                failures: 0,
                latest: None,
            });
            let (statuses, stop) = (Arc::clone(&background.statuses), background.stop.clone());
            background.tasks.spawn(run(control.clone(), reconciler, index, statuses, stop));
        }
        background
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
    statuses: Arc<Mutex<Vec<ReconcilerStatus>>>,
    stop: CancellationToken,
) {
    let mut timer = tokio::time::interval(reconciler.period());
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        let done = reconciler.activate(&control).await;
        let mut statuses = lock(&statuses);
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
}
