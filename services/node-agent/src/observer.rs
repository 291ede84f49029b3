//! What the engine shows: one listing of sandboxes and containers, shared by everybody who needs it.
//!
//! A listing is made when somebody asks for a fresh one, when the engine sends an event, and from time to time while
//! anything runs (events can be lost). Rounds are numbered at their beginning, so whoever changed something asks for a round that
//! began after the change and is never shown an older picture. A round that fails is an answer too: nothing is believed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, watch};
use wherry_model::{Clock, InstanceId, NodeId, Timestamp};
use wherry_runtime::{ContainerRuntime, ContainerState, RuntimeError, SandboxState};

use crate::exit::run_key;
use crate::labels;
use crate::plan::{Seen, SeenContainer, SeenSandbox};
use crate::proof::Proofs;
use crate::status::Board;

/// Without sandboxes there is nothing to watch; a look from time to time finds what should not be there.
const IDLE_POLL: Duration = Duration::from_secs(30);

/// What the engine showed at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Before the engine was asked.
    pub(crate) at: Timestamp,
    pub(crate) instances: BTreeMap<InstanceId, Seen>,
    /// With how old a lease those have to end that may run elsewhere, by what their labels say.
    pub(crate) fence_after_seconds: BTreeMap<InstanceId, u32>,
}

impl Snapshot {
    /// Every container that ran.
    pub(crate) fn running(&self) -> impl Iterator<Item = (InstanceId, &SeenContainer)> {
        let all = self.instances.iter().flat_map(|(id, seen)| seen.containers.iter().map(|c| (*id, c)));
        all.filter(|(_, container)| container.state == ContainerState::Running)
    }
}

#[derive(Debug, Clone)]
struct Round {
    number: u64,
    outcome: Result<Arc<Snapshot>, RuntimeError>,
}

/// Asks the engine what there is.
pub(crate) struct Observer {
    runtime: Arc<dyn ContainerRuntime>,
    clock: Arc<dyn Clock>,
    node: NodeId,
    proofs: Arc<Proofs>,
    board: Arc<Board>,
    poll_every: Duration,
    begun: AtomicU64,
    asked: Notify,
    latest: watch::Sender<Option<Round>>,
    /// The latest picture that there was.
    shown: Mutex<Option<Arc<Snapshot>>>,
}

impl Observer {
    pub(crate) fn new(
        runtime: Arc<dyn ContainerRuntime>,
        clock: Arc<dyn Clock>,
        node: NodeId,
        proofs: Arc<Proofs>,
        board: Arc<Board>,
        poll_every: Duration,
    ) -> Self {
        let (begun, asked, latest) = (AtomicU64::new(0), Notify::new(), watch::channel(None).0);
        let shown = Mutex::default();
        Self { runtime, clock, node, proofs, board, poll_every, begun, asked, latest, shown }
    }

    /// The number of the latest round that has begun: what a later one shows is after now.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// A picture from a round that began after round `round`; the latest if it did, else a new one.
    pub(crate) async fn seen_after(&self, round: u64) -> Result<Arc<Snapshot>, RuntimeError> {
        let mut latest = self.latest.subscribe();
        loop {
            if let Some(found) = latest.borrow_and_update().as_ref().filter(|found| found.number > round) {
                return found.outcome.clone();
            }
            // A round that answers may be under way already.
            if self.begun() <= round {
                self.asked.notify_one();
            }
            if latest.changed().await.is_err() {
                return Err(RuntimeError::Unavailable { message: "the agent is stopping".to_owned() });
            }
        }
    }

    /// A picture from a round that begins after this call.
    pub(crate) async fn fresh(&self) -> Result<Arc<Snapshot>, RuntimeError> {
        self.seen_after(self.begun()).await
    }

    pub(crate) fn watcher(&self) -> Watcher {
        Watcher(self.latest.subscribe())
    }

    /// The latest picture, if the latest round succeeded.
    pub(crate) fn latest(&self) -> Option<Arc<Snapshot>> {
        self.latest.borrow().as_ref().and_then(|round| round.outcome.clone().ok())
    }

    /// The latest picture that there was, however many rounds have failed since.
    pub(crate) fn shown(&self) -> Option<Arc<Snapshot>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes rounds for ever.
    pub(crate) async fn observe(self: Arc<Self>) {
        let mut events = self.runtime.events();
        loop {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let outcome = self.round().await.map(Arc::new);
            let trouble = outcome.as_ref().err().map(ToString::to_string);
            if let Some(trouble) = &trouble
                && self.board.subscribe().borrow().runtime_trouble.is_none()
            {
                tracing::error!(trouble, "the container engine cannot be asked what runs");
            }
            if let Ok(snapshot) = &outcome {
                *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot.clone());
            }
            let idle = outcome.as_ref().is_ok_and(|snapshot| snapshot.instances.is_empty());
            self.board.set(|status| &mut status.runtime_trouble, trouble);
            self.latest.send_replace(Some(Round { number, outcome }));
            tokio::select! {
                biased;
                () = self.asked.notified() => {}
                () = next_event(&mut events) => {}
                () = tokio::time::sleep(if idle { IDLE_POLL } else { self.poll_every }) => {}
            }
            // One round answers all events that came before it.
            while !matches!(
                events.try_recv(),
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed)
            ) {}
        }
    }

    async fn round(&self) -> Result<Snapshot, RuntimeError> {
        let at = self.clock.now();
        let selector = labels::selector(self.node);
        let (sandboxes, containers) = futures_util::future::try_join(
            self.runtime.list_sandboxes(&selector),
            self.runtime.list_containers(&selector),
        )
        .await?;
        let mut instances: BTreeMap<InstanceId, Seen> = BTreeMap::new();
        let mut fence_after_seconds = BTreeMap::new();
        for sandbox in sandboxes {
            let Some((instance, generation)) = labels::owner(&sandbox.labels) else { continue };
            let ready = sandbox.state == SandboxState::Ready;
            let seen = instances.entry(instance).or_default();
            seen.sandboxes.push(SeenSandbox { id: sandbox.id, generation, ready });
        }
        for container in containers {
            let (owner, run) = (labels::owner(&container.labels), labels::run(&container.labels));
            let (Some((instance, generation)), Some((name, run))) = (owner, run) else { continue };
            if let Some(seconds) = labels::fence_after_seconds(&container.labels) {
                let least = fence_after_seconds.entry(instance).or_insert(seconds);
                *least = seconds.min(*least);
            }
            let revision = labels::revision(&container.labels);
            let (id, sandbox, state) = (container.id, container.sandbox, container.state);
            let seen = instances.entry(instance).or_default();
            seen.containers.push(SeenContainer { id, sandbox, generation, name, run, revision, state });
        }
        let snapshot = Snapshot { at, instances, fence_after_seconds };
        self.proofs.renew(at, snapshot.running().map(|(instance, container)| (instance, run_key(container))));
        Ok(snapshot)
    }
}

/// A place in the sequence of rounds.
#[derive(Debug)]
pub(crate) struct Watcher(watch::Receiver<Option<Round>>);

impl Watcher {
    /// Waits for the next round.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// An event, or word that some were lost. An engine that sends none is polled.
async fn next_event(events: &mut broadcast::Receiver<wherry_runtime::RuntimeEvent>) {
    if let Err(broadcast::error::RecvError::Closed) = events.recv().await {
        std::future::pending::<()>().await;
    }
}
