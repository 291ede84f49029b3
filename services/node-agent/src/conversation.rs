//! Conversations of tenants with the inside of their instances: programs with their input, and ports.
//!
//! As with [`crate::exec`]: only in the generation that was asked for, and only while that is the one to run here. When it is so no
//! more, or when nobody takes what comes out, the conversation ends and with it the program that was run for it.
//!
//! Each has a task that carries in both directions, a message in each hand: whoever is slow holds up its own conversation and
//! nothing else.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, sink, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{NodeError, Session, SessionInput, SessionKind, SessionOutput, SessionQuery, SessionSink};
use wherry_model::{ContainerName, TenantId};
use wherry_runtime::{
    AttachRequest, Connection, Conversation, Reading, RuntimeError, StreamExec, TalkingProgram, TerminalSize, Writing,
};

use crate::attach;
use crate::node::Node;
use crate::permits::Permit;
use crate::{exec, message};

/// Who is not let in by then is told to come again.
const WAIT: Duration = Duration::from_secs(5);
/// Messages that wait in each direction.
const QUEUE: usize = 2;
/// After a program's end its output is read to its end, unless another process holds it open and says nothing for so long.
const QUIET: Duration = Duration::from_secs(2);
/// How long the end of a program is waited for that is killed because its conversation is over.
const DIES: Duration = Duration::from_secs(20);

/// How long an attached client waits for the exit code of a main program whose instance is over already.
const SAYS_ITS_END: Duration = Duration::from_secs(5);

/// What a conversation leaves to be done: a task of the agent's.
pub(crate) type Carrying = Pin<Box<dyn Future<Output = ()> + Send>>;

type Outputs = mpsc::Sender<Result<SessionOutput, NodeError>>;

/// Begins a conversation. The task carries it, and ends when it does.
pub(crate) async fn begin(node: &Arc<Node>, query: SessionQuery) -> Result<(Session, Carrying), NodeError> {
    tokio::select! {
        biased;
        () = node.stopping.cancelled() => Err(stopping()),
        begun = begin_here(node, query) => begun,
    }
}

async fn begin_here(node: &Arc<Node>, query: SessionQuery) -> Result<(Session, Carrying), NodeError> {
    let tenant = owner(node, &query)?;
    let permit = tokio::time::timeout(WAIT, node.conversations.acquire(tenant)).await;
    let permit = permit.map_err(|_| NodeError::Unavailable("too many conversations are held there".to_owned()))?;
    let partner = Partner::find(node, &query).await?;
    let (input, inputs) = mpsc::channel(QUEUE);
    let (outputs, output) = mpsc::channel(QUEUE);
    let held = Held { node: Arc::clone(node), query, tenant, _permit: permit };
    let carrying = held.carry(partner, inputs, outputs).boxed();
    let output = stream::unfold(output, |mut output| async { Some((output.recv().await?, output)) }).boxed();
    Ok((Session { input: sink_of(input), output }, carrying))
}

fn owner(node: &Node, query: &SessionQuery) -> Result<TenantId, NodeError> {
    exec::owner(node, query.instance, query.generation)
}

fn stopping() -> NodeError {
    NodeError::Unavailable("the agent is stopping".to_owned())
}

/// A full queue holds the speaker back. Closing it says that there is no more.
fn sink_of(input: mpsc::Sender<SessionInput>) -> SessionSink {
    let sink = sink::unfold(input, |input, message| async move {
        input.send(message).await.map_err(|_| NodeError::Unavailable("the conversation is over".to_owned()))?;
        Ok(input)
    });
    Box::pin(sink.with(|message| std::future::ready(Ok::<_, NodeError>(message))))
}

/// Who is talked to.
enum Partner {
    Program(Conversation),
    Port(Connection),
}

impl Partner {
    async fn find(node: &Arc<Node>, query: &SessionQuery) -> Result<Self, NodeError> {
        match &query.kind {
            SessionKind::Exec { container, command, stdin, tty } => {
                let id = exec::find(node, query.instance, query.generation, container).await?;
                // It may have changed while this waited.
                owner(node, query)?;
                let program = StreamExec { command: command.clone(), stdin: *stdin, tty: tty.map(size) };
                let begun = node.runtime.exec_stream(&id, &program).await;
                begun.map(Self::Program).map_err(|error| refusal(error, Some(container)))
            }
            SessionKind::Attach { container, stdin, tty } => {
                let id = exec::find(node, query.instance, query.generation, container).await?;
                owner(node, query)?;
                let request = AttachRequest { stdin: *stdin, tty: tty.map(size) };
                attach::begin(node, query, container, id, request).await.map(Self::Program)
            }
            SessionKind::Port { port } => {
                let snapshot =
                    node.observer.fresh().await.map_err(|error| NodeError::Unavailable(error.to_string()))?;
                let sandbox = snapshot.instances.get(&query.instance);
                let sandbox = sandbox.and_then(|seen| seen.sandbox_of(query.generation)).filter(|found| found.ready);
                let missing = || NodeError::NotFound(format!("instance {}, running", query.instance));
                let sandbox = sandbox.ok_or_else(missing)?.id.clone();
                owner(node, query)?;
                let connected = node.runtime.connect(&sandbox, *port).await;
                connected.map(Self::Port).map_err(|error| refusal(error, None))
            }
        }
    }
}

fn size(size: wherry_agent_api::TerminalSize) -> TerminalSize {
    TerminalSize { columns: size.columns, rows: size.rows }
}

pub(crate) fn refusal(error: RuntimeError, container: Option<&ContainerName>) -> NodeError {
    match &error {
        RuntimeError::CannotStart { .. }
        | RuntimeError::InvalidArgument { .. }
        | RuntimeError::NothingListens { .. } => NodeError::Refused(message::for_tenant(&error)),
        RuntimeError::NotFound { .. } | RuntimeError::NotRunning { .. } => {
            let what = container.map_or("the instance".to_owned(), |name| format!("container {name}"));
            NodeError::NotFound(format!("{what}, running"))
        }
        _ => NodeError::Unavailable(error.to_string()),
    }
}

/// A conversation that is held.
struct Held {
    node: Arc<Node>,
    query: SessionQuery,
    tenant: TenantId,
    _permit: Permit,
}

impl Held {
    /// Carries until it is over, and says so in the log: who talked to what is on record at the control plane too.
    async fn carry(self, partner: Partner, inputs: mpsc::Receiver<SessionInput>, outputs: Outputs) {
        let with = match &self.query.kind {
            SessionKind::Exec { .. } => "program",
            SessionKind::Attach { .. } => "main program",
            SessionKind::Port { .. } => "port",
        };
        let (tenant, instance, generation) = (self.tenant, self.query.instance, self.query.generation.0);
        tracing::info!(%tenant, %instance, generation, with, "a conversation with the inside of an instance begins");
        let last = match partner {
            Partner::Program(Conversation { input, stdout, stderr, program }) => {
                let last = {
                    let talk = talk(&*program, input, stdout, stderr, inputs, &outputs);
                    self.until_over(&outputs, talk).await
                };
                if !matches!(last, Some(Ok(_))) && tokio::time::timeout(DIES, program.kill()).await.is_err() {
                    tracing::warn!(%instance, "a program whose conversation is over has not ended yet");
                }
                last
            }
            Partner::Port(connection) => self.until_over(&outputs, relay(connection, inputs, &outputs)).await,
        };
        tracing::info!(%tenant, %instance, generation, with, ?last, "a conversation with the inside of an instance ended");
        if let Some(last) = last {
            // Nobody may take it.
            tokio::select! {
                biased;
                _ = outputs.send(last.map(SessionOutput::Exited)) => {}
                () = self.node.stopping.cancelled() => {}
            }
        }
    }

    /// The work's end, or an earlier one from outside; none when nobody listens any more. A main program that ends by itself
    /// ends its instance too: whoever is attached gets its exit code nevertheless.
    async fn until_over(
        &self,
        outputs: &Outputs,
        work: impl Future<Output = Option<Result<i32, NodeError>>>,
    ) -> Option<Result<i32, NodeError>> {
        let mut work = pin!(work);
        let error = tokio::select! {
            biased;
            () = outputs.closed() => return None,
            () = self.node.stopping.cancelled() => return Some(Err(stopping())),
            error = self.not_here_any_more() => error,
            ended = &mut work => return ended,
        };
        if !matches!(self.query.kind, SessionKind::Attach { .. }) {
            return Some(Err(error));
        }
        tokio::select! {
            biased;
            () = outputs.closed() => None,
            () = self.node.stopping.cancelled() => Some(Err(stopping())),
            ended = work => ended,
            () = tokio::time::sleep(SAYS_ITS_END) => Some(Err(error)),
        }
    }

    async fn not_here_any_more(&self) -> NodeError {
        let mut desired = self.node.desired.watch();
        loop {
            desired.borrow_and_update();
            if let Err(error) = owner(&self.node, &self.query) {
                return error;
            }
            if desired.changed().await.is_err() {
                return stopping();
            }
        }
    }
}

/// Carries between a program and its conversation to the program's end.
async fn talk(
    program: &dyn TalkingProgram,
    input: Option<Writing>,
    stdout: Reading,
    stderr: Option<Reading>,
    inputs: mpsc::Receiver<SessionInput>,
    outputs: &Outputs,
) -> Option<Result<i32, NodeError>> {
    let exited = CancellationToken::new();
    let ended = async {
        let code = program.ended().await;
        exited.cancel();
        code
    };
    let complaints = async {
        match stderr {
            Some(stderr) => print(stderr, SessionOutput::Stderr, outputs, &exited).await,
            None => Some(()),
        }
    };
    let all = async {
        let output = print(stdout, SessionOutput::Stdout, outputs, &exited);
        let (code, printed, complained) = tokio::join!(ended, output, complaints);
        printed.and(complained)?;
        Some(code.map_err(|error| match error {
            RuntimeError::Detached { .. } => NodeError::Refused(error.to_string()),
            _ => NodeError::Unavailable(error.to_string()),
        }))
    };
    tokio::select! {
        biased;
        ended = all => ended,
        never = feed(program, input, inputs) => match never {},
    }
}

/// Sends what comes out; none when nobody takes it.
async fn print(
    mut from: Reading,
    message: fn(Vec<u8>) -> SessionOutput,
    outputs: &Outputs,
    exited: &CancellationToken,
) -> Option<()> {
    loop {
        let mut piece = vec![0; Session::MAX_MESSAGE_BYTES];
        let quiet = async {
            exited.cancelled().await;
            tokio::time::sleep(QUIET).await;
        };
        let read = tokio::select! {
            biased;
            read = from.read(&mut piece) => read,
            () = quiet => return Some(()),
        };
        match read {
            Ok(0) => return Some(()),
            Ok(count) => {
                piece.truncate(count);
                outputs.send(Ok(message(piece))).await.ok()?;
            }
            Err(error) => {
                tracing::warn!(%error, "output of a program cannot be read");
                return Some(());
            }
        }
    }
}

/// Gives a program what it is told, for as long as it takes it; never ends.
async fn feed(
    program: &dyn TalkingProgram,
    mut input: Option<Writing>,
    mut inputs: mpsc::Receiver<SessionInput>,
) -> std::convert::Infallible {
    while let Some(told) = inputs.recv().await {
        match told {
            SessionInput::Data(bytes) => {
                if let Some(taker) = &mut input
                    && taker.write_all(&bytes).await.is_err()
                {
                    // It does not read any more. What else it is told is thrown away, its output goes on.
                    input = None;
                }
            }
            SessionInput::End => end(&mut input).await,
            SessionInput::Resize(to) => {
                if let Err(error) = program.resize(size(to)).await {
                    tracing::debug!(%error, "a terminal is not told its size");
                }
            }
        }
    }
    end(&mut input).await;
    std::future::pending().await
}

async fn end(input: &mut Option<Writing>) {
    if let Some(mut taker) = input.take() {
        // One that is gone need not be told.
        let _ = taker.shutdown().await;
    }
}

/// Carries between a port and its conversation until the port has said all.
async fn relay(
    connection: Connection,
    mut inputs: mpsc::Receiver<SessionInput>,
    outputs: &Outputs,
) -> Option<Result<i32, NodeError>> {
    let (from, to) = tokio::io::split(connection);
    let inward = async {
        let mut to: Option<Writing> = Some(Box::new(to));
        while let Some(told) = inputs.recv().await {
            match told {
                SessionInput::Data(bytes) => {
                    if let Some(taker) = &mut to
                        && taker.write_all(&bytes).await.is_err()
                    {
                        break;
                    }
                }
                SessionInput::End => end(&mut to).await,
                SessionInput::Resize(_) => {}
            }
        }
        end(&mut to).await;
        std::future::pending::<std::convert::Infallible>().await
    };
    let never_exits = CancellationToken::new();
    let outward = print(Box::new(from), SessionOutput::Stdout, outputs, &never_exits);
    tokio::select! {
        biased;
        printed = outward => printed.map(|()| Ok(0)),
        never = inward => match never {},
    }
}
