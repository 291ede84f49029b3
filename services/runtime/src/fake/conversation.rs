//! Programs that are talked to, and ports, on the fake machine.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::FakeRuntime;
use super::program::{Program, Step};
use crate::{
    Connection, ContainerId, ContainerState, Conversation, Reading, Result, RuntimeError, SandboxId, SandboxState,
    StreamExec, TalkingProgram, TerminalSize, Writing,
};

/// What a pipe of the kernel holds.
pub(super) const PIPE_BYTES: usize = 64 * 1024;
const LOOK: Duration = Duration::from_millis(10);

/// What a program that is talked to holds of its streams.
struct Ends {
    input: Option<DuplexStream>,
    stdout: DuplexStream,
    /// None on a terminal, which has one output.
    stderr: Option<DuplexStream>,
    size: watch::Receiver<Option<TerminalSize>>,
}

impl Ends {
    async fn print(&mut self, line: &str) -> io::Result<()> {
        let end = if self.size.borrow().is_some() { "\r\n" } else { "\n" };
        self.stdout.write_all(format!("{line}{end}").as_bytes()).await
    }

    async fn complain(&mut self, line: &str) -> io::Result<()> {
        match &mut self.stderr {
            Some(stderr) => stderr.write_all(format!("{line}\n").as_bytes()).await,
            None => self.print(line).await,
        }
    }

    /// Does what the program says; its exit code.
    async fn run(mut self, program: Program) -> i32 {
        for step in program.steps {
            let done = match step {
                Step::Echo(text) => self.print(&text).await,
                Step::Complain(text) => self.complain(&text).await,
                Step::Zeros(count) => self.zeros(count).await,
                Step::Copy => match &mut self.input {
                    Some(input) => tokio::io::copy(input, &mut self.stdout).await.map(drop),
                    None => Ok(()),
                },
                Step::TerminalSize => {
                    let size = *self.size.borrow();
                    match size {
                        Some(size) => self.print(&format!("{} {}", size.rows, size.columns)).await,
                        None => self.complain("stty: standard input: Not a tty").await,
                    }
                }
                Step::Sleep(duration) => {
                    tokio::time::sleep(duration).await;
                    Ok(())
                }
                Step::Exit(code) => return code,
                Step::IgnoreTerminate | Step::ExitOnUser1(_) | Step::NeedsDevice(..) => Ok(()),
                Step::Serve | Step::EchoServer(_) => std::future::pending().await,
            };
            if done.is_err() {
                return 141;
            }
        }
        0
    }

    async fn zeros(&mut self, count: usize) -> io::Result<()> {
        let mut zeros = tokio::io::repeat(0).take(u64::try_from(count).unwrap_or(u64::MAX));
        tokio::io::copy(&mut zeros, &mut self.stdout).await.map(drop)
    }
}

/// Counts as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Talking {
    task: AbortHandle,
    exit: watch::Receiver<Option<i32>>,
    size: watch::Sender<Option<TerminalSize>>,
}

impl Drop for Talking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl TalkingProgram for Talking {
    async fn resize(&self, size: TerminalSize) -> Result<()> {
        self.size.send_if_modified(|known| known.is_some() && known.replace(size) != Some(size));
        Ok(())
    }

    async fn ended(&self) -> Result<i32> {
        let mut exit = self.exit.clone();
        let code = exit.wait_for(Option::is_some).await;
        let lost = |_| RuntimeError::Internal { message: "the program was lost".into() };
        Ok(code.map_err(lost)?.unwrap_or_default())
    }

    async fn kill(&self) -> Result<()> {
        self.task.abort();
        Ok(())
    }
}

impl FakeRuntime {
    /// How many programs run that are talked to.
    pub fn talking(&self) -> usize {
        self.talking.load(Ordering::SeqCst)
    }

    pub(super) async fn converse(&self, id: &ContainerId, request: &StreamExec) -> Result<Conversation> {
        let program = self.call("ExecStream", |state| state.program_inside(id, &request.command)).await?;
        let (size, sizes) = watch::channel(request.tty);
        let (code, exit) = watch::channel(None);
        let (stdout, theirs) = duplex(PIPE_BYTES);
        let (input, their_input) = request.stdin.then(|| duplex(PIPE_BYTES)).unzip();
        let (stderr, their_stderr) = request.tty.is_none().then(|| duplex(PIPE_BYTES)).unzip();
        let ends = Ends { input: their_input, stdout: theirs, stderr: their_stderr, size: sizes };
        let counted = Counted::of(&self.talking);
        let (machine, id) = (self.clone(), id.clone());
        let task = tokio::spawn(async move {
            let _counted = counted;
            let ended = tokio::select! {
                biased;
                ended = ends.run(program) => ended,
                () = machine.until_ended(&id) => 137,
            };
            code.send_replace(Some(ended));
        });
        let boxed_reading = |end: DuplexStream| -> Reading { Box::new(end) };
        Ok(Conversation {
            input: input.map(|end| -> Writing { Box::new(end) }),
            stdout: boxed_reading(stdout),
            stderr: stderr.map(boxed_reading),
            program: Box::new(Talking { task: task.abort_handle(), exit, size }),
        })
    }

    /// Waits until a container does not run.
    pub(super) async fn until_ended(&self, id: &ContainerId) {
        while self.state().containers.get(id).is_some_and(|it| it.status.state == ContainerState::Running) {
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) async fn dial(&self, id: &SandboxId, port: u16) -> Result<Connection> {
        let listener = self
            .call("Connect", |state| {
                let is_ready = state.sandboxes.get(id).is_some_and(|it| it.sandbox.state == SandboxState::Ready);
                if !is_ready {
                    return Err(RuntimeError::NotFound { what: "sandbox", id: id.to_string() });
                }
                let listens = |program: &Program| program.steps.contains(&Step::EchoServer(port));
                let mut inside = state.containers.iter().filter(|(_, record)| {
                    record.sandbox == *id
                        && record.status.state == ContainerState::Running
                        && record.program.as_ref().is_some_and(listens)
                });
                let found = inside.next().map(|(container, _)| container.clone());
                found.ok_or(RuntimeError::NothingListens { port })
            })
            .await?;
        let (ours, theirs) = duplex(PIPE_BYTES);
        let machine = self.clone();
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(theirs);
            tokio::select! {
                biased;
                _ = tokio::io::copy(&mut read, &mut write) => {}
                () = machine.until_ended(&listener) => {}
            }
        });
        Ok(Box::new(ours))
    }
}
