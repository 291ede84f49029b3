//! One program at containerd's tasks service.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use prost_types::Any;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;
use wherry_runtime::{Result, RuntimeError, TalkingProgram, TerminalSize};

use super::spec::PROCESS_TYPE;
use super::tree::{Root, namespace_of};
use crate::connection::{Connection, READ_LIMIT, WRITE_LIMIT, answered, namespaced_within};
use crate::cri_sandboxes::gone_is_fine;
use crate::failure::{About, runtime_error};
use crate::generated::containerd::services::tasks::v1::{
    CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, KillRequest, ResizePtyRequest, StartRequest, WaitRequest,
};

const SIGKILL: u32 = 9;
/// 128 + SIGKILL: what ends a program whose container ends.
const KILLED: i32 = 137;
/// An engine that is being started anew is asked again for this long.
const ENGINE_AWAY: Duration = Duration::from_mins(1);
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long a program that was killed may take to die.
const DIES: Duration = Duration::from_secs(15);

/// How a program ended, or why nobody knows.
pub(crate) type Exit = Result<i32>;

/// Which program.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) container: String,
    /// Empty: the container's main program.
    pub(crate) exec: String,
}

#[derive(Debug)]
pub(crate) struct Program {
    connection: Connection,
    process: Process,
    has_terminal: bool,
    /// As the kernel knows it, once it may run.
    root: Mutex<Option<Root>>,
}

impl Program {
    pub(crate) fn new(connection: Connection, process: Process, has_terminal: bool) -> Self {
        Self { connection, process, has_terminal, root: Mutex::default() }
    }

    pub(super) fn container(&self) -> &str {
        &self.process.container
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    fn about(&self) -> About<'_> {
        About::Container(&self.process.container)
    }

    fn ids(&self) -> (String, String) {
        (self.process.container.clone(), self.process.exec.clone())
    }

    pub(super) async fn create(&self, spec: Vec<u8>, [stdin, stdout, stderr]: [String; 3]) -> Result<()> {
        let (container_id, exec_id) = self.ids();
        let spec = Some(Any { type_url: PROCESS_TYPE.to_owned(), value: spec });
        let terminal = self.has_terminal;
        let message = ExecProcessRequest { container_id, exec_id, stdin, stdout, stderr, terminal, spec };
        let mut client = self.connection.tasks();
        let answer = client.exec(namespaced_within(message, READ_LIMIT));
        answered("Exec", self.about(), READ_LIMIT, answer).await.map(drop)
    }

    /// From now on it may begin, and is known by this also to a Wherry after this one.
    pub(super) fn expect(&self, folder: &Path, root: Root) {
        if let Err(error) = root.note(folder) {
            tracing::warn!(%error, "what a program starts would outlive it if Wherry were killed");
        }
        *self.root() = Some(root);
    }

    fn root(&self) -> MutexGuard<'_, Option<Root>> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a note of the process in the folder.
    pub(super) async fn start(&self, folder: &Path, mark: u64) -> Result<()> {
        let (container_id, exec_id) = self.ids();
        let mut client = self.connection.tasks();
        let answer = client.start(namespaced_within(StartRequest { container_id, exec_id }, WRITE_LIMIT));
        let started = answered("Start", self.about(), WRITE_LIMIT, answer).await?;
        let expected = self.root().clone();
        let known = expected.or_else(|| Some(Root::expected(namespace_of(started.pid)?, mark)));
        if let Some(root) = known {
            self.expect(folder, root.begun(started.pid));
        }
        Ok(())
    }

    /// Knows the process by the note of an earlier Wherry.
    pub(super) fn recall(&self, folder: &Path) {
        *self.root() = Root::noted(folder);
    }

    /// Kills it and what it has started.
    pub(super) async fn kill_all(&self) {
        self.kill_known().await;
        self.kill().await;
    }

    /// Kills what is known of it without the engine, to which it may be nothing any more.
    pub(super) async fn kill_known(&self) {
        let root = self.root().clone();
        if let Some(root) = root {
            drop(tokio::task::spawn_blocking(move || root.kill()).await);
        }
    }

    /// Waits for its end for as long as it takes, also through an engine that is started anew.
    pub(crate) async fn wait(&self) -> Exit {
        let mut failing_since = None;
        loop {
            let (container_id, exec_id) = self.ids();
            let mut client = self.connection.tasks();
            let request = crate::connection::namespaced(WaitRequest { container_id, exec_id });
            // Boxed as all calls are: its future is tens of KiB.
            let status = match client.wait(request).boxed().await {
                Ok(answer) => return Ok(i32::try_from(answer.into_inner().exit_status).unwrap_or(i32::MAX)),
                Err(status) if status.code() == Code::NotFound => return Ok(KILLED),
                Err(status) => status,
            };
            let since = *failing_since.get_or_insert_with(tokio::time::Instant::now);
            if since.elapsed() > ENGINE_AWAY {
                return Err(runtime_error("Wait", self.about(), ENGINE_AWAY, &status));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Kills it; that it is gone already is fine.
    pub(super) async fn kill(&self) {
        let since = tokio::time::Instant::now();
        loop {
            let (container_id, exec_id) = self.ids();
            let message = KillRequest { container_id, exec_id, signal: SIGKILL, all: false };
            let mut client = self.connection.tasks();
            let answer = client.kill(namespaced_within(message, READ_LIMIT));
            match answered("Kill", self.about(), READ_LIMIT, answer).await {
                Err(RuntimeError::Unavailable { .. } | RuntimeError::Timeout { .. })
                    if since.elapsed() < ENGINE_AWAY => {}
                Ok(()) | Err(RuntimeError::NotFound { .. }) => return,
                Err(error) => return tracing::debug!(%error, "a program cannot be killed"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    pub(super) async fn kill_and_wait(&self) -> Exit {
        self.kill_all().await;
        let late = |_| RuntimeError::Timeout { call: "Kill", after: DIES };
        tokio::time::timeout(DIES, self.wait()).await.map_err(late)?
    }

    /// Makes the shim forget it, which fails while it runs.
    pub(super) async fn delete(&self) -> Result<()> {
        let (container_id, exec_id) = self.ids();
        let message = DeleteProcessRequest { container_id, exec_id };
        let mut client = self.connection.tasks();
        let answer = client.delete_process(namespaced_within(message, READ_LIMIT));
        gone_is_fine(answered("DeleteProcess", self.about(), READ_LIMIT, answer).await.map(drop))
    }

    /// Gives its terminal, if it has one, another size.
    pub(crate) async fn resize(&self, size: TerminalSize) -> Result<()> {
        if !self.has_terminal {
            return Ok(());
        }
        let (container_id, exec_id) = self.ids();
        let (width, height) = (u32::from(size.columns), u32::from(size.rows));
        let message = ResizePtyRequest { container_id, exec_id, width, height };
        let mut client = self.connection.tasks();
        let answer = client.resize_pty(namespaced_within(message, READ_LIMIT));
        match answered("ResizePty", self.about(), READ_LIMIT, answer).await {
            // It has ended just now.
            Err(RuntimeError::NotFound { .. } | RuntimeError::Internal { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells it that there is no more input.
    pub(super) async fn close_input(&self) {
        let since = tokio::time::Instant::now();
        loop {
            let (container_id, exec_id) = self.ids();
            let message = CloseIoRequest { container_id, exec_id, stdin: true };
            let mut client = self.connection.tasks();
            let answer = client.close_io(namespaced_within(message, READ_LIMIT));
            match answered("CloseIO", self.about(), READ_LIMIT, answer).await {
                Err(RuntimeError::Unavailable { .. } | RuntimeError::Timeout { .. })
                    if since.elapsed() < ENGINE_AWAY => {}
                Ok(()) | Err(RuntimeError::NotFound { .. }) => return,
                Err(error) => return tracing::warn!(%error, "a program is not told the end of its input"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

/// A program as whoever talks to it holds it.
pub(super) struct Talking {
    program: Arc<Program>,
    exited: watch::Receiver<Option<Exit>>,
    over: CancellationToken,
    _over_when_dropped: DropGuard,
}

impl Talking {
    pub(super) fn new(program: Arc<Program>, exited: watch::Receiver<Option<Exit>>, over: CancellationToken) -> Self {
        let guard = over.clone().drop_guard();
        Self { program, exited, over, _over_when_dropped: guard }
    }
}

#[async_trait]
impl TalkingProgram for Talking {
    async fn resize(&self, size: TerminalSize) -> Result<()> {
        if self.exited.borrow().is_some() {
            return Ok(());
        }
        self.program.resize(size).await
    }

    async fn ended(&self) -> Result<i32> {
        let mut exited = self.exited.clone();
        let lost = |_| RuntimeError::Internal { message: "the program was lost".into() };
        let exit = exited.wait_for(Option::is_some).await.map_err(lost)?;
        exit.clone().unwrap_or(Ok(KILLED))
    }

    async fn kill(&self) -> Result<()> {
        self.over.cancel();
        self.ended().await.map(drop)
    }
}
