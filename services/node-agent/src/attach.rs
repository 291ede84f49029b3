//! The main program of a container: what it prints from now on, until it ends, and its input.
//!
//! One with an input or a terminal is reached by the engine's attach: a prompt is no line, and a log has lines. All others are
//! listened to as the log has them.
//!
//! Rejected: the engine's attach for all. It makes a container wait for whoever attached and reads slowly, though not for long,
//! and a service that nobody can type to has no need for the piece of a line earlier than for the line.

use std::io;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio_util::io::StreamReader;
use wherry_agent_api::{LogQuery, NodeError, SessionQuery};
use wherry_model::ContainerName;
use wherry_runtime::{AttachRequest, ContainerId, ContainerState, Conversation, Result, TalkingProgram, TerminalSize};

use crate::node::Node;
use crate::{conversation, labels, logs};

/// How often it is looked whether it runs.
const LOOK: Duration = Duration::from_millis(500);
/// Exit code of one whose end nobody knows: as of one that was killed.
const LOST: i32 = 137;

/// Attaches from now on.
pub(crate) async fn begin(
    node: &Arc<Node>,
    query: &SessionQuery,
    container: &ContainerName,
    id: ContainerId,
    request: AttachRequest,
) -> Result<Conversation, NodeError> {
    let streams = {
        let desired = node.desired.watch();
        let known = desired.borrow();
        let instance = known.instances.get(&query.instance);
        let found = instance.and_then(|desired| desired.container(container));
        found.map_or((false, false, false), |found| (found.spec.stdin, found.spec.stdin_once, found.spec.tty))
    };
    let (has_stdin, stdin_once, has_terminal) = streams;
    if request.stdin && !has_stdin {
        let sentence = format!("{container} runs without an input: set stdin for it, or run a shell by exec");
        return Err(NodeError::Refused(sentence));
    }
    if request.tty.is_some() && !has_terminal {
        let sentence = format!("{container} runs without a terminal: attach without one, or set tty for it");
        return Err(NodeError::Refused(sentence));
    }
    // Who only listens must not close an input that is there once.
    if request.stdin || has_terminal || (has_stdin && !stdin_once) {
        let attached = node.runtime.attach(&id, &request).await;
        return attached.map_err(|error| conversation::refusal(error, Some(container)));
    }
    listen(node, query, container, id).await
}

/// Listens to what the log gets.
async fn listen(
    node: &Arc<Node>,
    query: &SessionQuery,
    container: &ContainerName,
    id: ContainerId,
) -> Result<Conversation, NodeError> {
    let found = node.runtime.container(&id).await.map_err(|error| NodeError::Unavailable(error.to_string()))?;
    let run = found.and_then(|status| labels::run(&status.labels)).map(|(_, run)| run);
    let main = Main { node: Arc::clone(node), id, of: (query.clone(), container.clone()), run };
    let query = LogQuery {
        instance: query.instance,
        container: container.clone(),
        run: None,
        tail: Some(0),
        follow: true,
        timestamps: false,
        since: None,
    };
    let lines = logs::stream(node.config.clone(), query, Arc::clone(node) as _, node.stopping.clone()).await?;
    let lines = lines.map(|chunk| chunk.map(Cursor::new).map_err(io::Error::other));
    Ok(Conversation { input: None, stdout: Box::new(StreamReader::new(lines)), stderr: None, program: Box::new(main) })
}

struct Main {
    node: Arc<Node>,
    id: ContainerId,
    of: (SessionQuery, ContainerName),
    /// None when it was gone already.
    run: Option<u32>,
}

impl Main {
    /// How it ended as it was said, which is on record before the engine forgets it.
    fn told_end(&self) -> Option<i32> {
        let (query, container) = &self.of;
        let memory = self.node.journal.memory(query.instance).filter(|known| known.generation == query.generation)?;
        let (run, exit_code) = memory.container(container).last_end?;
        self.run.is_none_or(|own| own == run).then_some(exit_code)
    }
}

#[async_trait]
impl TalkingProgram for Main {
    async fn resize(&self, _size: TerminalSize) -> Result<()> {
        Ok(())
    }

    async fn ended(&self) -> Result<i32> {
        loop {
            match self.node.runtime.container(&self.id).await {
                Ok(Some(status)) if status.state == ContainerState::Running => {}
                Ok(known) => {
                    let seen = known.and_then(|status| status.exit_code);
                    return Ok(seen.or_else(|| self.told_end()).unwrap_or(LOST));
                }
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
