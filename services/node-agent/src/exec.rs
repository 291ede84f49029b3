//! Programs that tenants run inside their containers.
//!
//! Only in the generation that was asked for, and only while that is the one to run here: a program is never run in what
//! belongs to this node no more. How a program that did not end by itself is told follows `timeout` and shells: exit code
//! [`TIMED_OUT`] and [`CANNOT_START`] with a sentence on its standard error, which no engine carries otherwise.

use std::time::Duration;

use wherry_agent_api::{ExecOutcome, ExecQuery, NodeError};
use wherry_model::{Action, ContainerName, Generation, InstanceId, TenantId};
use wherry_runtime::{ContainerId, ContainerState, ExecRequest, RuntimeError};

use crate::message;
use crate::node::Node;
use crate::observer::Snapshot;

/// Who is not let in by then is told to come again.
const WAIT: Duration = Duration::from_secs(5);
/// The longest time that a program gets.
const LONGEST: Duration = Duration::from_mins(5);

/// Exit code of a program that was killed when its time was over.
const TIMED_OUT: i32 = 124;
/// Exit code of a program that could not be started.
const CANNOT_START: i32 = 126;

/// Runs the program and waits for its end.
pub(crate) async fn run(node: &Node, query: ExecQuery) -> Result<ExecOutcome, NodeError> {
    tokio::select! {
        biased;
        () = node.stopping.cancelled() => Err(NodeError::Unavailable("the agent is stopping".to_owned())),
        outcome = run_to_end(node, query) => outcome,
    }
}

async fn run_to_end(node: &Node, query: ExecQuery) -> Result<ExecOutcome, NodeError> {
    let tenant = owner(node, query.instance, query.generation)?;
    let permit = tokio::time::timeout(WAIT, node.execs.acquire(tenant)).await;
    let _permit = permit.map_err(|_| NodeError::Unavailable("too many programs are being run there".to_owned()))?;
    let container = find(node, query.instance, query.generation, &query.container).await?;
    // It may have changed while this waited.
    owner(node, query.instance, query.generation)?;
    let timeout = Duration::from_secs(u64::from(query.timeout_seconds)).min(LONGEST);
    let program = ExecRequest { command: query.command, timeout, max_output_bytes: ExecOutcome::MAX_OUTPUT_BYTES };
    match node.runtime.exec(&container, &program).await {
        Ok(output) => Ok(ExecOutcome {
            exit_code: output.exit_code,
            stdout: output.stdout,
            stderr: output.stderr,
            truncated: output.truncated,
        }),
        Err(error @ RuntimeError::ProgramTimeout { .. }) => Ok(ended_as(TIMED_OUT, &error)),
        Err(error @ (RuntimeError::CannotStart { .. } | RuntimeError::InvalidArgument { .. })) => {
            Ok(ended_as(CANNOT_START, &error))
        }
        Err(RuntimeError::NotFound { .. } | RuntimeError::NotRunning { .. }) => {
            Err(NodeError::NotFound(format!("container {}, running", query.container)))
        }
        Err(error) => Err(NodeError::Unavailable(error.to_string())),
    }
}

fn ended_as(exit_code: i32, error: &RuntimeError) -> ExecOutcome {
    let stderr = format!("{}\n", message::for_tenant(error)).into_bytes();
    ExecOutcome { exit_code, stdout: Vec::new(), stderr, truncated: false }
}

/// Whose it is, if it is to run here in this generation.
pub(crate) fn owner(node: &Node, instance: InstanceId, generation: Generation) -> Result<TenantId, NodeError> {
    let watch = node.desired.watch();
    let known = watch.borrow();
    let desired = known.instances.get(&instance).filter(|desired| {
        desired.generation == generation && desired.action == Action::Run && !node.lease.forbids(desired)
    });
    let missing = || NodeError::NotFound(format!("instance {instance} in generation {generation}"));
    desired.map(|desired| desired.tenant).ok_or_else(missing)
}

/// The latest run of the container: that of the latest picture, if it runs there.
///
/// That picture is good enough. Of a run that has ended since the engine knows, who is asked next, and a later one is begun only after
/// a picture in which the earlier one has ended. Rejected: a new picture for each program, which cost as much as half of running it.
pub(crate) async fn find(
    node: &Node,
    instance: InstanceId,
    generation: Generation,
    name: &ContainerName,
) -> Result<ContainerId, NodeError> {
    let running = |snapshot: &Snapshot| {
        let seen = snapshot.instances.get(&instance);
        let running = seen.into_iter().flat_map(|seen| &seen.containers).filter(|container| {
            container.name == *name && container.generation == generation && container.state == ContainerState::Running
        });
        running.max_by_key(|container| container.run).map(|container| container.id.clone())
    };
    if let Some(known) = node.observer.latest().as_deref().and_then(running) {
        return Ok(known);
    }
    let snapshot = node.observer.fresh().await.map_err(|error| NodeError::Unavailable(error.to_string()))?;
    running(&snapshot).ok_or_else(|| NodeError::NotFound(format!("container {name}, running")))
}
