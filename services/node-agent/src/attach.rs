//! The main program of a container, listened to: what it prints from now on, as the log has it, until it ends.
//!
//! Rejected: the engine's own attach, which makes a container wait for whoever attached and reads slowly. What that would give
//! earlier is a line that is not ended yet. Its input is not reached by this.

use std::io;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio_util::io::StreamReader;
use wherry_agent_api::{LogQuery, NodeError};
use wherry_model::{ContainerName, InstanceId};
use wherry_runtime::{
    ContainerId, ContainerRuntime, ContainerState, Conversation, Result, TalkingProgram, TerminalSize,
};

use crate::logs;
use crate::node::Node;

/// How often it is looked whether it runs.
const LOOK: Duration = Duration::from_millis(500);
/// Exit code of one whose end nobody knows: as of one that was killed.
const LOST: i32 = 137;

/// Listens from now on.
pub(crate) async fn begin(
    node: &Arc<Node>,
    instance: InstanceId,
    container: &ContainerName,
    id: ContainerId,
) -> Result<Conversation, NodeError> {
    let query = LogQuery {
        instance,
        container: container.clone(),
        run: None,
        tail: Some(0),
        follow: true,
        timestamps: false,
        since: None,
    };
    let lines = logs::stream(node.config.clone(), query, Arc::clone(node) as _, node.stopping.clone()).await?;
    let lines = lines.map(|chunk| chunk.map(Cursor::new).map_err(io::Error::other));
    Ok(Conversation {
        input: None,
        stdout: Box::new(StreamReader::new(lines)),
        stderr: None,
        program: Box::new(Main { runtime: Arc::clone(&node.runtime), id }),
    })
}

struct Main {
    runtime: Arc<dyn ContainerRuntime>,
    id: ContainerId,
}

#[async_trait]
impl TalkingProgram for Main {
    async fn resize(&self, _size: TerminalSize) -> Result<()> {
        Ok(())
    }

    async fn ended(&self) -> Result<i32> {
        loop {
            match self.runtime.container(&self.id).await {
                Ok(Some(status)) if status.state == ContainerState::Running => {}
                Ok(known) => return Ok(known.and_then(|status| status.exit_code).unwrap_or(LOST)),
                // An engine that is away is asked again: what runs, runs on.
                Err(error) => tracing::debug!(%error, "whether a container runs is not known now"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn kill(&self) -> Result<()> {
        Ok(())
    }
}
