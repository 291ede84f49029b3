//! The agents' side of the application: desired state down, facts up, proof of life, and who may be an agent at all.
//!
//! A node speaks of what is assigned to it, at the present generation, with addresses of its own range. Everything else
//! that it says is skipped: one machine that was taken over does not reach the others' instances.

mod calls;
mod desired;
mod enrolment;
mod life;
mod ranges;
mod report;
mod surroundings;

use std::time::Duration;

use async_trait::async_trait;
use wherry_agent_api::{Ack, ControlError, ControlPlane, Desired, Heartbeat, NodeHello, Report, Surroundings, Welcome};
use wherry_model::{NodeId, NodeRecord};
use wherry_store::NodeRegistration;

use crate::{Control, Error, lock};

pub(crate) use enrolment::EnrolledCache;
pub(crate) use ranges::{is_right, overlap};

/// How long an agent waits for news before it asks again.
const NEWS_WAIT: Duration = Duration::from_secs(30);

#[async_trait]
impl ControlPlane for Control {
    async fn hello(&self, hello: NodeHello) -> Result<Welcome, ControlError> {
        let hello = self.as_enrolled(hello).await?;
        let images = hello.images;
        let registration = NodeRegistration {
            id: hello.node,
            name: hello.name,
            architecture: hello.architecture,
            capacity: hello.capacity,
            range: hello.range,
            boot: hello.boot,
            held_revision: hello.desired_revision.unwrap_or(0),
            underlay: hello.underlay,
            protocol: hello.protocol,
            isolation: hello.isolation,
            zone: hello.zone,
            disk_mib: hello.disk_mib,
            gpus: hello.gpus,
            overcommit: self.inner.config.overcommit,
        };
        if hello.protocol < NodeRecord::PROTOCOL_OF_LEASES {
            tracing::warn!(
                node = %hello.node,
                "its agent does not know leases: instances of on_node_loss replace wait for it as those of keep do, and none \
                 is placed on it; upgrade it"
            );
        }
        let stored = self.store().register_node(&registration, self.now()).await.map_err(Error::from)?;
        let record = stored.ok_or_else(removed)?;
        self.see_node(&record);
        if !images.is_empty() {
            lock(&self.inner.fleet).lie_on(record.id, &images);
        }
        Ok(Welcome { endpoints: self.agent_endpoints().await? })
    }

    async fn is_introduced(&self, node: NodeId, protocol: u32) -> Result<(), ControlError> {
        let row = self.row(node, self.store().position()).await?;
        let introduced = row.is_some_and(|record| record.protocol == protocol);
        introduced.then_some(()).ok_or(ControlError::UnknownNode)
    }

    async fn desired(&self, node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        self.desired_of(node, have).await
    }

    async fn report(&self, report: Report) -> Result<Ack, ControlError> {
        self.take_report(report).await
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError> {
        self.take_heartbeat(heartbeat).await
    }

    async fn surroundings(&self, node: NodeId, have: Option<u64>) -> Result<Option<Surroundings>, ControlError> {
        self.surroundings_of(node, have).await
    }
}

fn removed() -> ControlError {
    ControlError::Forbidden("it was removed from the fleet; a new join token makes it a node again".to_owned())
}

impl From<Error> for ControlError {
    fn from(error: Error) -> Self {
        tracing::warn!(code = error.code(), error = &error as &dyn std::error::Error, "an agent was turned away");
        Self::Unavailable(error.to_string())
    }
}
