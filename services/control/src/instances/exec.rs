//! Running a program inside a container, without input and to its end.

use std::time::Duration;

use wherry_agent_api::{ExecOutcome, ExecQuery, NodeError};
use wherry_model::{ContainerName, InstanceState, Limits, Principal, ProjectName, Scope, SpecError};

use crate::{Control, Error};

/// The longest that a program may run.
const MAX_TIMEOUT_SECONDS: u32 = 300;

/// How much longer than the program the way to the node and back may take.
const WAY: Duration = Duration::from_secs(20);

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments; no shell is added. 1 to 256 words.
    pub command: Vec<String>,
    /// 1 to 300; after that it is killed.
    pub timeout_seconds: u32,
}

impl Control {
    /// Runs the program and waits for its end.
    pub async fn instance_exec(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        container: &ContainerName,
        request: ExecRequest,
    ) -> Result<ExecOutcome, Error> {
        Self::require(principal, Scope::Exec)?;
        check(&request)?;
        let instance = self.instance_of(principal, project, name_or_id).await?;
        let status = instance.container(container);
        let status =
            status.ok_or_else(|| Error::NotFound(format!("the container {container} of {}", instance.name)))?;
        if instance.state != InstanceState::Running || !status.is_running() {
            return Err(not_running(instance.state));
        }
        let services = instance.node.and_then(|node| self.node_services(node)).ok_or_else(unreachable)?;
        tracing::info!(actor = %principal.subject, instance = %instance.id, "a program is run in a container");
        let patience = Duration::from_secs(u64::from(request.timeout_seconds)).saturating_add(WAY);
        let query = ExecQuery {
            instance: instance.id,
            generation: instance.generation,
            container: container.clone(),
            command: request.command,
            timeout_seconds: request.timeout_seconds,
        };
        match tokio::time::timeout(patience, services.exec(query)).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(NodeError::NotFound(_))) => Err(not_running(self.reread(instance.id).await?.state)),
            Ok(Err(NodeError::Unavailable(message))) => {
                tracing::warn!(instance = %instance.id, error = message, "a node could not run a program");
                Err(unreachable())
            }
            Err(_) => {
                tracing::warn!(instance = %instance.id, "a node did not answer an exec in time");
                Err(unreachable())
            }
        }
    }
}

fn check(request: &ExecRequest) -> Result<(), SpecError> {
    let words = &request.command;
    if !(1..=Limits::MAX_COMMAND_WORDS).contains(&words.len()) || words.first().is_some_and(String::is_empty) {
        let most = Limits::MAX_COMMAND_WORDS;
        return Err(SpecError::new("command", format!("give a program and its arguments, 1 to {most} words")));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(SpecError::new("command", "a word contains a NUL character, which no program can be given"));
    }
    if words.iter().map(String::len).sum::<usize>() > Limits::MAX_COMMAND_BYTES {
        let most = Limits::MAX_COMMAND_BYTES;
        return Err(SpecError::new("command", format!("all words together have at most {most} bytes")));
    }
    if !(1..=MAX_TIMEOUT_SECONDS).contains(&request.timeout_seconds) {
        return Err(SpecError::new("timeout_seconds", format!("give 1 to {MAX_TIMEOUT_SECONDS} seconds")));
    }
    Ok(())
}

fn not_running(state: InstanceState) -> Error {
    let message = format!("nothing runs there to run a program in: the instance is {state}");
    Error::conflict("instance_not_running", message)
}

fn unreachable() -> Error {
    Error::unavailable("the inside of this instance cannot be reached")
}
