//! Running a program inside a container to its end, with all of its input at once or none.
//!
//! Without input the node does all of it and answers once. With input it is a conversation, held here: so an agent that
//! knows of no input is never asked to drop it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use wherry_agent_api::{ExecOutcome, ExecQuery, NodeError, Session, SessionInput, SessionKind, SessionOutput};
use wherry_model::{ContainerName, Instance, InstanceState, Limits, Principal, ProjectName, Scope, SpecError};
use wherry_store::{AuditKind, AuditOutcome};

use super::session::{InstanceSession, running};
use crate::entries::{Entry, Way};
use crate::{Control, Error};

/// The longest that a program may run.
const MAX_TIMEOUT_SECONDS: u32 = 300;

/// The most input of one program.
const MAX_STDIN_BYTES: usize = 1024 * 1024;

/// How much longer than the program the way to the node and back may take.
const WAY: Duration = Duration::from_secs(20);

/// Exit code of a program whose time was over, as of `timeout(1)`.
const TIMED_OUT: i32 = 124;

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments; no shell is added. 1 to 256 words.
    pub command: Vec<String>,
    /// Its input, at most 1 MiB; none at all when absent.
    pub stdin: Option<Vec<u8>>,
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
        running(&instance, container)?;
        let way = Way { kind: AuditKind::Exec, container: Some(container), command: &request.command, port: None };
        let entry = self.enter(principal, &instance, way).await?;
        let ExecRequest { command, stdin, timeout_seconds } = request;
        let Some(stdin) = stdin else {
            let query = ExecQuery {
                instance: instance.id,
                generation: instance.generation,
                container: container.clone(),
                command,
                timeout_seconds,
            };
            return self.exec_at_node(&instance, query, &entry).await;
        };
        let kind = SessionKind::Exec { container: container.clone(), command, stdin: true, tty: None };
        let begun = self.begin_session(&instance, kind, Arc::clone(&entry)).await;
        let session = begun.inspect_err(|_| entry.settle(AuditOutcome::Refused, None))?;
        exec_here(session, stdin, timeout_seconds, &entry).await
    }

    async fn exec_at_node(&self, instance: &Instance, query: ExecQuery, entry: &Entry) -> Result<ExecOutcome, Error> {
        let patience = Duration::from_secs(u64::from(query.timeout_seconds)).saturating_add(WAY);
        let Some(services) = instance.node.and_then(|node| self.node_services(node)) else {
            entry.settle(AuditOutcome::Refused, None);
            return Err(unreachable());
        };
        match tokio::time::timeout(patience, services.exec(query)).await {
            Ok(Ok(outcome)) => {
                entry.count_out(outcome.stdout.len().saturating_add(outcome.stderr.len()));
                entry.settle(AuditOutcome::Ended, Some(outcome.exit_code));
                Ok(outcome)
            }
            Ok(Err(NodeError::NotFound(_))) => {
                entry.settle(AuditOutcome::Refused, None);
                Err(not_running(self.reread(instance.id).await?.state))
            }
            Ok(Err(NodeError::Refused(message))) => {
                entry.settle(AuditOutcome::Refused, None);
                Err(Error::conflict("cannot_begin", message))
            }
            Ok(Err(NodeError::Unavailable(message))) => {
                entry.settle(AuditOutcome::Broken, None);
                tracing::warn!(instance = %instance.id, error = message, "a node could not run a program");
                Err(unreachable())
            }
            Err(_) => {
                entry.settle(AuditOutcome::Broken, None);
                tracing::warn!(instance = %instance.id, "a node did not answer an exec in time");
                Err(unreachable())
            }
        }
    }
}

/// Gives all input and takes the output, both at once: a program may answer before it has read to the end.
async fn exec_here(
    session: InstanceSession,
    stdin: Vec<u8>,
    timeout_seconds: u32,
    entry: &Entry,
) -> Result<ExecOutcome, Error> {
    let InstanceSession { mut input, mut output } = session;
    let mut outcome = ExecOutcome { exit_code: 0, stdout: Vec::new(), stderr: Vec::new(), truncated: false };
    let feed = async {
        for piece in stdin.chunks(Session::MAX_MESSAGE_BYTES) {
            // Who does not read to the end says how it ends all the same.
            if input.send(SessionInput::Data(piece.to_vec())).await.is_err() {
                break;
            }
        }
        input.send(SessionInput::End).await.ok();
        // Letting go of it now would end the conversation.
        std::future::pending::<()>().await;
    };
    let read = async {
        while let Some(message) = output.next().await {
            match message? {
                SessionOutput::Stdout(bytes) => keep(&mut outcome.stdout, &bytes, &mut outcome.truncated),
                SessionOutput::Stderr(bytes) => keep(&mut outcome.stderr, &bytes, &mut outcome.truncated),
                SessionOutput::Exited(code) => {
                    outcome.exit_code = code;
                    return Ok(());
                }
            }
        }
        entry.settle(AuditOutcome::Broken, None);
        Err(Error::unavailable("the connection to the inside of this instance broke off"))
    };
    let both = async {
        tokio::select! {
            biased;
            ended = read => ended,
            () = feed => Ok(()),
        }
    };
    if let Ok(ended) = tokio::time::timeout(Duration::from_secs(u64::from(timeout_seconds)), both).await {
        ended?;
    } else {
        entry.settle(AuditOutcome::Ended, Some(TIMED_OUT));
        let notice = format!("the program was killed: it did not end within {timeout_seconds} s\n");
        outcome.exit_code = TIMED_OUT;
        outcome.stderr = notice.into_bytes();
    }
    Ok(outcome)
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8], truncated: &mut bool) {
    let room = ExecOutcome::MAX_OUTPUT_BYTES.saturating_sub(kept.len());
    *truncated |= bytes.len() > room;
    kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

fn check(request: &ExecRequest) -> Result<(), SpecError> {
    check_command(&request.command)?;
    if request.stdin.as_ref().is_some_and(|stdin| stdin.len() > MAX_STDIN_BYTES) {
        let message = "at most 1 MiB stands in a request: send more through the WebSocket of this path";
        return Err(SpecError::new("stdin", message));
    }
    if !(1..=MAX_TIMEOUT_SECONDS).contains(&request.timeout_seconds) {
        return Err(SpecError::new("timeout_seconds", format!("give 1 to {MAX_TIMEOUT_SECONDS} seconds")));
    }
    Ok(())
}

pub(super) fn check_command(words: &[String]) -> Result<(), SpecError> {
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
    Ok(())
}

pub(super) fn not_running(state: InstanceState) -> Error {
    let message = format!("nothing runs there that could be entered: the instance is {state}");
    Error::conflict("instance_not_running", message)
}

pub(super) fn unreachable() -> Error {
    Error::unavailable("the inside of this instance cannot be reached")
}
