//! Up: proof of life, which renews the node's lease, and its return from silence.

use std::collections::BTreeMap;

use wherry_agent_api::{ControlError, Heartbeat};
use wherry_model::lifecycle;
use wherry_model::{ContainerName, NodeState};
use wherry_store::{LifeOutcome, OnNode};

use crate::effects::carry_through;
use crate::{Control, Error, Progress, lock};

/// Pulls of one node whose progress is remembered.
const MAX_PULLS: usize = 1_000;

impl Control {
    pub(super) async fn take_heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        let node = heartbeat.node;
        let at = heartbeat.at.min(self.now());
        let control = self.clone();
        let epoch = heartbeat.epoch;
        // What the row counts and what this replica has seen must not part when the agent hangs up in between.
        let outcome = carry_through(async move {
            let outcome = control.store().prove_life(node, at, epoch).await;
            let stored = matches!(outcome, Ok(LifeOutcome::Taken { .. }));
            // Heard is heard, also while the store cannot write it down; who was fenced or removed is not heard.
            if stored || outcome.is_err() {
                lock(&control.inner.watch).note(node, stored);
            }
            Ok(outcome?)
        })
        .await?;
        let doubt = match outcome {
            LifeOutcome::Taken { doubt } => doubt,
            LifeOutcome::Fenced { epoch } => return Err(ControlError::Fenced { epoch }),
            LifeOutcome::Unknown => return Err(ControlError::UnknownNode),
        };
        let pulls: BTreeMap<_, _> = heartbeat
            .pulls
            .iter()
            .take(MAX_PULLS)
            .map(|pull| {
                let (done_layers, total_layers) = (pull.done_layers, pull.total_layers);
                let (done_bytes, total_bytes) = (pull.done_bytes, pull.total_bytes);
                (pull.instance, Progress { done_bytes, total_bytes, done_layers, total_layers })
            })
            .collect();
        lock(&self.inner.progress).insert(node, pulls);
        if let Some(doubt) = doubt
            && self.welcome_back(&heartbeat).await?
        {
            self.store().resolve_doubt(node, doubt).await.map_err(Error::from)?;
        }
        Ok(())
    }

    /// The node was silent: its instances are taken out of doubt. The doubt ends after that, not before: whoever does this may
    /// go away in between, and the next heartbeat must find it. False while it leaves an instance in doubt, because the
    /// heartbeat was overtaken on its way by the word of a start, or is on its way before the word of an end; and while one cannot be
    /// read, of which nobody knows whether it is in doubt.
    async fn welcome_back(&self, heartbeat: &Heartbeat) -> Result<bool, Error> {
        let Some(record) = self.store().node(heartbeat.node).await? else { return Ok(true) };
        if record.state == NodeState::Silent {
            self.store().set_node_state(heartbeat.node, NodeState::Ready).await?;
            tracing::info!(node = %heartbeat.node, "a silent node is heard again");
        }
        self.learn_node(heartbeat.node).await?;
        let Some(on_node) = self.store().instances_on(heartbeat.node).await? else { return Ok(true) };
        let OnNode { instances, unreadable, .. } = on_node;
        let mut all = unreadable.is_empty();
        for instance in instances.into_iter().filter(|instance| instance.unknown_since.is_some()) {
            let after = self.change_instance(instance, |instance| {
                if instance.node != Some(heartbeat.node) {
                    return Ok(None);
                }
                let running: Vec<(ContainerName, u32)> = heartbeat
                    .running
                    .iter()
                    .filter(|found| found.instance == instance.id && found.generation == instance.generation)
                    .map(|found| (found.container.clone(), found.run))
                    .collect();
                Ok(lifecycle::recover(instance, &running, self.now()))
            });
            let after = after.await?;
            all &= after.unknown_since.is_none() || after.node != Some(heartbeat.node);
        }
        Ok(all)
    }
}
