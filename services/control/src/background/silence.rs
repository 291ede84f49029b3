//! Nodes that say nothing: their instances become `Unknown`, their meters are closed at the last proof of life.
//! Detection only: nothing is started elsewhere.
//!
//! Judged by what this replica sees of the rows ([`crate::watch`]), so a replica that takes the work over judges nobody by
//! the time in which it did not look.

use std::time::Duration;

use async_trait::async_trait;
use wherry_model::lifecycle;
use wherry_model::{Instance, NodeRecord, NodeState};
use wherry_store::OnNode;

use super::failures::Failures;
use super::settled::Settled;
use super::{Reconciler, Work};
use crate::{Control, Error, lock};

#[derive(Default)]
pub(super) struct Silent {
    settled: Settled,
}

#[async_trait]
impl Reconciler for Silent {
    fn name(&self) -> &'static str {
        "node silence"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn work(&self) -> Work {
        Work::Leased
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        let (mut touched, mut failures) = (0_u32, Failures::default());
        let nodes = control.store().nodes().await?;
        self.settled.keep_only(&nodes);
        for node in nodes {
            control.see_node(&node);
            let silent_for = lock(&control.inner.watch).silent_for(node.id);
            let judged = node.state != NodeState::Ready && self.settled.contains(&node);
            if silent_for <= control.inner.config.detection || judged {
                continue;
            }
            match control.doubt_instances_of(&node).await {
                Ok(0) if node.state != NodeState::Ready => self.settled.add(&node),
                Ok(count) => touched += count,
                Err(error) => {
                    if !failures.note(control, node.id, error).await {
                        break;
                    }
                }
            }
        }
        failures.or((touched > 0).then(|| format!("{touched} instances of silent nodes became unknown")))
    }
}

impl Control {
    async fn doubt_instances_of(&self, node: &NodeRecord) -> Result<u32, Error> {
        let Some(OnNode { instances, .. }) = self.store().instances_on(node.id).await? else { return Ok(0) };
        let now = self.now();
        // A clock that was set back makes old proofs look like the future, which proves nothing.
        let known: Vec<Instance> = instances
            .into_iter()
            .filter(|one| lifecycle::silence(one, node.proof_at.min(now), now).is_some())
            .collect();
        if known.is_empty() && node.state != NodeState::Ready {
            return Ok(0);
        }
        // Before, and after also when that failed halfway: who is heard in between resolves the earlier doubt only.
        self.store().raise_doubt(node.id).await?;
        let made_unknown = self.make_unknown(node, known).await;
        self.store().raise_doubt(node.id).await?;
        made_unknown
    }

    async fn make_unknown(&self, node: &NodeRecord, known: Vec<Instance>) -> Result<u32, Error> {
        if node.state == NodeState::Ready {
            self.store().set_node_state(node.id, NodeState::Silent).await?;
            self.learn_node(node.id).await?;
            tracing::warn!(node = %node.id, last_proof = %node.proof_at, "node is silent");
        }
        let mut touched = 0;
        for instance in known {
            self.change_instance(instance, |instance| {
                if instance.node != Some(node.id) {
                    return Ok(None);
                }
                let now = self.now();
                Ok(lifecycle::silence(instance, node.proof_at.min(now), now))
            })
            .await?;
            touched += 1;
        }
        Ok(touched)
    }
}
