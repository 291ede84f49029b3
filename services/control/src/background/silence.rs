//! Nodes that say nothing: their instances become `Unknown`, their meters are closed at the last proof of life.
//! Detection only: nothing is started elsewhere.

use std::time::Duration;

use async_trait::async_trait;
use wherry_model::lifecycle;
use wherry_model::{NodeRecord, NodeState};

use super::Reconciler;
use crate::{Control, Error, lock};

pub(super) struct Silent;

#[async_trait]
impl Reconciler for Silent {
    fn name(&self) -> &'static str {
        "node silence"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        let mut touched = 0_u32;
        for node in control.store().nodes().await? {
            let silent_for = lock(&control.inner.silence).heard(node.id).elapsed();
            if silent_for > control.inner.config.detection {
                let made_unknown = control.doubt_instances_of(&node).await;
                // Also when that failed halfway, and after it: who is heard meanwhile resolves an earlier doubt only.
                lock(&control.inner.silence).doubt(node.id);
                touched += made_unknown?;
            }
        }
        Ok((touched > 0).then(|| format!("{touched} instances of silent nodes became unknown")))
    }
}

impl Control {
    async fn doubt_instances_of(&self, node: &NodeRecord) -> Result<u32, Error> {
        if node.state == NodeState::Ready {
            self.store().set_node_state(node.id, NodeState::Silent).await?;
            self.learn_node(node.id).await?;
            tracing::warn!(node = %node.id, last_proof = %node.proof_at, "node is silent");
        }
        let Some((_, instances)) = self.store().instances_on(node.id).await? else { return Ok(0) };
        let mut touched = 0;
        for instance in instances {
            if instance.unknown_since.is_some() || instance.state.is_settled() {
                continue;
            }
            self.change_instance(instance, |instance| {
                let now = self.now();
                // A clock that was set back makes old proofs look like the future, which proves nothing.
                Ok(lifecycle::silence(instance, node.proof_at.min(now), now))
            })
            .await?;
            touched += 1;
        }
        Ok(touched)
    }
}
