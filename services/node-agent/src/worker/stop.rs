//! Ending containers as they asked for: what is to be done before, the signal, and the kill when the grace is over.
//!
//! What is done before the signal takes from the grace. It is done by whoever ends the container, again when an agent dies
//! meanwhile. A fence leaves no time for it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use wherry_agent_api::DesiredInstance;
use wherry_model::Check;
use wherry_runtime::{ContainerId, ContainerState, RuntimeError};

use super::{Trouble, Worker};
use crate::blocking::blocking;
use crate::check::{self, Finding, Place};
use crate::node::Node;
use crate::plan::Seen;
use crate::verdict::{self, Verdict};

/// Between two looks at a container that was sent its signal.
const LOOK: Duration = Duration::from_millis(100);
/// What is left for the signal when what is done before has used up the grace.
const LEAST_FOR_SIGNAL: Duration = Duration::from_secs(1);

/// How a container is ended.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    id: ContainerId,
    grace: Duration,
    before: Option<(Place, Check)>,
    /// Instead of the image's.
    signal: Option<u8>,
}

impl Ending {
    pub(super) fn plain(id: ContainerId, grace: Duration) -> Self {
        Self { id, grace, before: None, signal: None }
    }
}

/// Ends it, and returns when it has ended.
pub(super) async fn end(node: &Node, ending: &Ending) -> Result<(), RuntimeError> {
    let begun = Instant::now();
    if let Some((place, hook)) = &ending.before {
        let limit = ending.grace.max(LEAST_FOR_SIGNAL);
        let finding = check::perform(&*node.runtime, place, hook, limit);
        match tokio::time::timeout(limit, finding).await {
            Ok(Finding::Well) => {}
            Ok(Finding::Ill(message) | Finding::Nothing(message)) => {
                tracing::info!(container = %ending.id, message, "what is to be done before the end failed; it ends all the same");
            }
            Err(_) => {
                tracing::info!(container = %ending.id, "what is to be done before the end takes all of the grace");
            }
        }
    }
    let mut left = ending.grace.saturating_sub(begun.elapsed());
    if ending.before.is_some() {
        left = left.max(LEAST_FOR_SIGNAL.min(ending.grace));
    }
    let Some(signal) = ending.signal else { return node.runtime.stop_container(&ending.id, left).await };
    node.runtime.signal_container(&ending.id, signal).await?;
    let deadline = Instant::now() + left;
    loop {
        let status = node.runtime.container(&ending.id).await?;
        if status.is_none_or(|status| status.state != ContainerState::Running) {
            return Ok(());
        }
        let now = Instant::now();
        if now >= deadline {
            return node.runtime.stop_container(&ending.id, Duration::ZERO).await;
        }
        tokio::time::sleep_until((now + LOOK).min(deadline)).await;
    }
}

/// Writes down why they are ended.
pub(super) async fn note(node: &Arc<Node>, ids: &[ContainerId], verdict: &Verdict) -> Result<(), Trouble> {
    let (folder, ids, verdict) = (node.config.data_folder.clone(), ids.to_vec(), verdict.clone());
    Ok(blocking(move || verdict::note(&folder, &ids, &verdict)).await?)
}

impl Worker {
    /// How a container of the instance is ended, as its spec says.
    pub(super) fn ending(&self, desired: &DesiredInstance, seen: &Seen, id: &ContainerId) -> Ending {
        let grace = Duration::from_secs(u64::from(desired.stop_grace_seconds));
        let name = seen.containers.iter().find(|container| &container.id == id).map(|container| &container.name);
        let Some(spec) = name.and_then(|name| desired.container(name)).map(|container| &container.spec) else {
            return Ending::plain(id.clone(), grace);
        };
        let place = self.place(desired, id);
        // Who is being ended has had it done, or is having it done.
        let hook = spec.hooks.pre_stop.clone().filter(|_| !self.behind.at_work.ending.contains(id));
        Ending { id: id.clone(), grace, before: place.zip(hook), signal: spec.stop_signal_number() }
    }

    /// Where checks of a container go; none while its address is not known.
    pub(super) fn place(&self, desired: &DesiredInstance, id: &ContainerId) -> Option<Place> {
        let address = self.node.journal.memory(self.instance)?.address?;
        Some(Place { container: id.clone(), address, host: desired.name.clone() })
    }

    /// Ends containers, all at the same time. An agent that stops does not wait for them: its successor goes on.
    pub(super) async fn end_all(&mut self, endings: &[Ending]) -> Result<(), Trouble> {
        let node = self.node.clone();
        let ends = join_all(endings.iter().map(|ending| end(&node, ending)));
        let outcomes = tokio::select! {
            biased;
            outcomes = ends => outcomes,
            () = node.stopping.cancelled() => return Ok(()),
        };
        outcomes.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }
}
