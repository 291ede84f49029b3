//! Programs inside containers, by containerd's own tasks service.
//!
//! Each gets a folder with a named pipe for each stream, which the container's shim copies to and from the program, and a task
//! that begins it, waits for its end, and takes it away when its conversation is dropped. Nothing is read ahead of whoever
//! talks to it but what the pipes hold.
//!
//! Invariants:
//! - A program has the user, environment, capabilities and limits of its container's first process: its description is that
//!   one's with other arguments.
//! - Whatever happens to the caller, the program is ended and forgotten: the task outlives the call that began it. What a
//!   Wherry that was killed leaves has its folder, by which [`Execs::sweep`] ends it. The folder says how it is known before
//!   the engine is asked for it.
//!
//! Rejected: CRI's Exec, whose WebSocket cannot say that there is no more input and has every byte copied once more in
//! containerd; CRI's ExecSync, which holds all output in containerd's memory and asks the OCI runtime about the container first.

mod pipes;
mod program;
mod spec;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use wherry_runtime::{
    ContainerId, Conversation, Reading, Result, RuntimeError, StreamExec, TalkingProgram as _, Writing,
};

use self::pipes::{Claimed, Pipes, Room};
use self::program::{Exit, Talking};
pub(crate) use self::program::{Process, Program};
use self::tree::{Root, namespace_of};
use crate::connection::{Connection, READ_LIMIT, answered, namespaced};
use crate::failure::About;
use crate::generated::containerd::services::containers::v1::GetContainerRequest;

/// First processes that are remembered; they never change.
const FIRSTS_MOST: usize = 512;
/// How long an earlier Wherry's program may take to die.
const LEFT_OVER_DIES: Duration = Duration::from_secs(5);

/// The programs of one engine.
#[derive(Debug)]
pub(crate) struct Execs {
    connection: Connection,
    room: Room,
    firsts: Mutex<BTreeMap<String, Arc<First>>>,
}

/// The first process of a container, which others are as.
#[derive(Debug)]
struct First {
    described: Value,
    /// Its PID namespace; none where the machine does not show one.
    namespace: Option<PathBuf>,
}

impl Execs {
    /// The folder is made when it is needed.
    pub(crate) fn new(connection: Connection, folder: PathBuf) -> Self {
        Self { connection, room: Room::new(folder), firsts: Mutex::default() }
    }

    /// Begins a program; it runs, or has run, when there is an answer.
    pub(crate) async fn begin(&self, container: &ContainerId, request: &StreamExec) -> Result<Conversation> {
        if request.command.is_empty() {
            return Err(RuntimeError::InvalidArgument { message: "no program is named".into() });
        }
        let first = self.first_process(container).await?;
        let claimed = self.room.claim(container)?;
        let mark = claimed.mark()?;
        let spec = spec::process(&first.described, request, mark)?;
        let mut pipes = claimed.pipes(request.stdin, request.tty.is_some())?;
        let program = Arc::new(Program::new(self.connection.clone(), claimed.process(), request.tty.is_some()));
        let (started, is_started) = oneshot::channel();
        let (exit, exited) = watch::channel(None);
        let over = CancellationToken::new();
        let talking = Talking::new(Arc::clone(&program), exited.clone(), over.clone());
        let root = first.namespace.clone().map(|namespace| Root::expected(namespace, mark));
        let order = Order { spec, mark, root, paths: pipes.paths(), started, exit, over };
        tokio::spawn(keep(Arc::clone(&program), claimed, order));
        let lost = |_| RuntimeError::Internal { message: "the program was lost".into() };
        is_started.await.map_err(lost)??;
        // Not every OCI runtime heeds the size in the description before the program begins.
        if let Some(size) = request.tty
            && let Err(error) = talking.resize(size).await
        {
            tracing::debug!(%error, "a terminal has not the size that it was asked for");
        }
        // The shim holds its ends by now.
        pipes.let_go();
        let Pipes { stdin, stdout, stderr, .. } = pipes;
        let input = match stdin {
            Some(path) => {
                let input: Writing = Box::new(pipes::Input::open(&path, &program, exited).await?);
                Some(input)
            }
            None => None,
        };
        Ok(Conversation {
            input,
            stdout: Box::new(stdout),
            stderr: stderr.map(|stderr| -> Reading { Box::new(stderr) }),
            program: Box::new(talking),
        })
    }

    /// Ends and forgets the programs that no conversation of this process belongs to: those of a Wherry before it, and those that
    /// could not be ended when their time was over.
    pub(crate) async fn sweep(&self) {
        for left in self.room.left_over() {
            let program = Program::new(self.connection.clone(), left.process(), false);
            program.recall(left.path());
            program.kill_all().await;
            let ended = tokio::time::timeout(LEFT_OVER_DIES, program.wait()).await;
            match program.delete().await {
                Ok(()) => {
                    // It may have begun only after the first look, and ended by itself.
                    program.kill_known().await;
                    tracing::info!(container = program.container(), ?ended, "a program that nobody talks to was ended");
                    left.remove();
                }
                Err(error) => tracing::warn!(%error, "a program that nobody talks to stays, it is tried again"),
            }
        }
    }

    /// The container's own process.
    async fn first_process(&self, container: &ContainerId) -> Result<Arc<First>> {
        let known = self.firsts().get(container.as_str()).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let about = About::Container(container.as_str());
        let mut client = self.connection.containers();
        let answer = client.get(namespaced(GetContainerRequest { id: container.to_string() }));
        let status = crate::container::ask(&self.connection, container);
        let (answer, status) = tokio::join!(answered("Get", about, READ_LIMIT, answer), status);
        let found = answer?.container.and_then(|found| found.spec).unwrap_or_default();
        let described = spec::first_process(&found.value)?;
        let namespace = status?.and_then(|status| namespace_of(status.pid?));
        let is_whole = namespace.is_some();
        let first = Arc::new(First { described, namespace });
        // One that does not run yet may run later.
        if is_whole {
            let mut firsts = self.firsts();
            if firsts.len() >= FIRSTS_MOST {
                firsts.clear();
            }
            firsts.insert(container.to_string(), Arc::clone(&first));
        }
        Ok(first)
    }

    fn firsts(&self) -> MutexGuard<'_, BTreeMap<String, Arc<First>>> {
        self.firsts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a keeper is given.
struct Order {
    spec: Vec<u8>,
    mark: u64,
    /// How it is known before it begins.
    root: Option<Root>,
    paths: [String; 3],
    started: oneshot::Sender<Result<()>>,
    exit: watch::Sender<Option<Exit>>,
    /// Cancelled when nobody talks to the program any more.
    over: CancellationToken,
}

/// The life of one program, to its end, whoever waits for it.
async fn keep(program: Arc<Program>, claimed: Claimed, order: Order) {
    let Order { spec, mark, root, paths, started, exit, over } = order;
    let begun = async {
        if let Some(root) = root {
            program.expect(claimed.path(), root);
        }
        program.create(spec, paths).await?;
        program.start(claimed.path(), mark).await
    };
    let mut is_doubtful = false;
    match begun.await {
        Ok(()) => {
            // Who does not wait any more has cancelled `over`.
            let _ = started.send(Ok(()));
            let ended = tokio::select! {
                biased;
                ended = program.wait() => ended,
                () = over.cancelled() => program.kill_and_wait().await,
            };
            exit.send_replace(Some(ended));
            over.cancelled().await;
        }
        Err(error) => {
            if !matches!(error, RuntimeError::CannotStart { .. } | RuntimeError::NotFound { .. }) {
                // It may run all the same, and may have started others.
                program.kill_all().await;
                is_doubtful = true;
            }
            let _ = started.send(Err(error));
        }
    }
    match claimed.draining(program.delete()).await {
        Ok(()) => {
            if is_doubtful {
                // From now on it cannot begin any more.
                program.kill_known().await;
            }
            claimed.remove();
        }
        Err(error) => tracing::warn!(%error, "a program that ended is not forgotten, it is tried again"),
    }
}
