//! Conversations with the inside of an instance: a program with its input, the main program, a port.
//!
//! Whoever holds one must drop it when the caller is gone: the node then ends what was run for it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{SinkExt, StreamExt, sink};
use wherry_agent_api::{NodeError, Session, SessionInput, SessionKind, SessionOutput, SessionQuery, SessionSink};
use wherry_model::{ContainerName, Instance, InstanceState, Principal, ProjectName, Scope, SpecError};
use wherry_store::{AuditKind, AuditOutcome};

use super::exec::{check_command, not_running, unreachable};
use crate::entries::{Entry, Way};
use crate::{Control, Error, LogRequest};

/// The code of what cannot be done in there.
const CANNOT_BEGIN: &str = "cannot_begin";

/// How long the way to the node, and a program's start there, may take.
const BEGINNING: Duration = Duration::from_secs(20);

/// A conversation that has begun, and is on record.
pub struct InstanceSession {
    /// To the inside. Closing it says that there is no more input.
    pub input: SessionSink,
    /// From the inside; ends after [`SessionOutput::Exited`] or an error.
    pub output: BoxStream<'static, Result<SessionOutput, Error>>,
}

impl std::fmt::Debug for InstanceSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstanceSession").finish_non_exhaustive()
    }
}

impl Control {
    /// Whether a conversation could be begun, as far as is known without asking the node.
    pub async fn check_session(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        kind: &SessionKind,
    ) -> Result<(), Error> {
        let instance = self.enterable(principal, project, name_or_id, kind).await?;
        self.may_enter(instance.tenant)
    }

    /// Begins a conversation.
    pub async fn instance_session(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        kind: SessionKind,
    ) -> Result<InstanceSession, Error> {
        let instance = self.enterable(principal, project, name_or_id, &kind).await?;
        let entry = self.enter(principal, &instance, way(&kind)).await?;
        let watched = match &kind {
            SessionKind::Attach { container, stdin: false, tty: None } => Some(container.clone()),
            _ => None,
        };
        match (self.begin_session(&instance, kind, Arc::clone(&entry)).await, watched) {
            (Err(Error::Conflict { code: CANNOT_BEGIN, .. }), Some(container)) => {
                let session = self.watch_output(principal, project, &instance, &container).await;
                Ok(recorded(session?, entry))
            }
            (begun, _) => begun.inspect_err(|_| entry.settle(AuditOutcome::Refused, None)),
        }
    }

    /// What a main program prints from now on, as its log has it: for a node that can attach to none. Who asks must be allowed to
    /// read logs too.
    async fn watch_output(
        &self,
        principal: &Principal,
        project: &ProjectName,
        instance: &Instance,
        container: &ContainerName,
    ) -> Result<Session, Error> {
        let request = LogRequest { tail: Some(0), follow: true, ..LogRequest::default() };
        let lines = self.instance_logs(principal, project, &instance.id.to_string(), container, request).await?;
        let pieces = lines.flat_map(|lines| {
            let pieces: Vec<Result<SessionOutput, NodeError>> = match lines {
                Ok(lines) => {
                    let pieces = lines.chunks(Session::MAX_MESSAGE_BYTES);
                    pieces.map(|piece| Ok(SessionOutput::Stdout(piece.to_vec()))).collect()
                }
                Err(error) => vec![Err(NodeError::Unavailable(error.to_string()))],
            };
            stream::iter(pieces)
        });
        let (control, id, container) = (self.clone(), instance.id, container.clone());
        let end = stream::once(async move {
            let instance = control.reread(id).await.map_err(|error| NodeError::Unavailable(error.to_string()))?;
            let run = instance.container(&container).and_then(|status| status.latest_run());
            Ok(SessionOutput::Exited(run.and_then(|run| run.end.as_ref()).map_or(0, |end| end.exit_code)))
        });
        let input: SessionSink = Box::pin(sink::drain().sink_map_err(|never| match never {}));
        Ok(Session { input, output: pieces.chain(end).boxed() })
    }

    async fn enterable(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        kind: &SessionKind,
    ) -> Result<Instance, Error> {
        Self::require(principal, Scope::Exec)?;
        check(kind)?;
        let instance = self.instance_of(principal, project, name_or_id).await?;
        if let SessionKind::Exec { container, .. } | SessionKind::Attach { container, .. } = kind {
            running(&instance, container)?;
        } else if instance.state != InstanceState::Running {
            return Err(not_running(instance.state));
        }
        Ok(instance)
    }

    /// The conversation of an entry that is on record.
    pub(super) async fn begin_session(
        &self,
        instance: &Instance,
        kind: SessionKind,
        entry: Arc<Entry>,
    ) -> Result<InstanceSession, Error> {
        let session = self.ask_for_session(instance, kind).await?;
        Ok(recorded(session, entry))
    }

    async fn ask_for_session(&self, instance: &Instance, kind: SessionKind) -> Result<Session, Error> {
        let services = instance.node.and_then(|node| self.node_services(node)).ok_or_else(unreachable)?;
        let query = SessionQuery { instance: instance.id, generation: instance.generation, kind };
        match tokio::time::timeout(BEGINNING, services.session(query)).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(NodeError::Refused(message))) => Err(Error::conflict(CANNOT_BEGIN, message)),
            Ok(Err(NodeError::NotFound(_))) => Err(not_running(self.reread(instance.id).await?.state)),
            Ok(Err(NodeError::Unavailable(message))) => {
                tracing::warn!(instance = %instance.id, error = message, "a node could not begin a conversation");
                Err(unreachable())
            }
            Err(_) => {
                tracing::warn!(instance = %instance.id, "a node did not begin a conversation in time");
                Err(unreachable())
            }
        }
    }
}

/// Counts what passes, and learns how it ends.
fn recorded(session: Session, entry: Arc<Entry>) -> InstanceSession {
    let Session { input, output } = session;
    let inward = Arc::clone(&entry);
    let input = input.with(move |message: SessionInput| {
        if let SessionInput::Data(bytes) = &message {
            inward.count_in(bytes.len());
        }
        std::future::ready(Ok::<_, NodeError>(message))
    });
    let output = output.map(move |message| {
        match &message {
            Ok(SessionOutput::Stdout(bytes) | SessionOutput::Stderr(bytes)) => entry.count_out(bytes.len()),
            Ok(SessionOutput::Exited(code)) => entry.settle(AuditOutcome::Ended, Some(*code)),
            Err(_) => entry.settle(AuditOutcome::Broken, None),
        }
        message.map_err(broken)
    });
    InstanceSession { input: Pin::from(Box::new(input) as Box<_>), output: output.boxed() }
}

/// A node's words may name paths or addresses of the fleet, so a tenant does not get to read them, but for those that are meant
/// for it.
fn broken(error: NodeError) -> Error {
    if let NodeError::Refused(message) = error {
        return Error::conflict(CANNOT_BEGIN, message);
    }
    tracing::warn!(error = %error, "a conversation broke off");
    Error::unavailable("the connection to the inside of this instance broke off")
}

/// The container that is named, if it runs.
pub(super) fn running(instance: &Instance, container: &ContainerName) -> Result<(), Error> {
    let status = instance.container(container);
    let status = status.ok_or_else(|| Error::NotFound(format!("the container {container} of {}", instance.name)))?;
    if instance.state == InstanceState::Running && status.is_running() {
        Ok(())
    } else {
        Err(not_running(instance.state))
    }
}

fn way(kind: &SessionKind) -> Way<'_> {
    match kind {
        SessionKind::Exec { container, command, .. } => {
            Way { kind: AuditKind::Exec, container: Some(container), command, port: None }
        }
        SessionKind::Attach { container, .. } => {
            Way { kind: AuditKind::Attach, container: Some(container), command: &[], port: None }
        }
        SessionKind::Port { port } => {
            Way { kind: AuditKind::PortForward, container: None, command: &[], port: Some(*port) }
        }
    }
}

fn check(kind: &SessionKind) -> Result<(), SpecError> {
    let tty = match kind {
        SessionKind::Exec { command, tty, .. } => {
            check_command(command)?;
            tty
        }
        SessionKind::Attach { tty, .. } => tty,
        SessionKind::Port { port: 0 } => return Err(SpecError::new("port", "give 1 to 65535")),
        SessionKind::Port { .. } => return Ok(()),
    };
    match tty {
        Some(size) if size.columns == 0 => Err(SpecError::new("columns", "a terminal has at least one column")),
        Some(size) if size.rows == 0 => Err(SpecError::new("rows", "a terminal has at least one row")),
        _ => Ok(()),
    }
}
