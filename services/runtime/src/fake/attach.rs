//! Main programs that have an input or a terminal, on the fake machine.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;

use super::FakeRuntime;
use super::conversation::PIPE_BYTES;
use super::program::{Program, Step};
use crate::{
    AttachRequest, ContainerConfig, ContainerId, ContainerState, Conversation, Reading, Result, RuntimeError,
    TalkingProgram, TerminalSize, Writing,
};

/// Ctrl-D, which ends what a program reads from a terminal.
const END_OF_TRANSMISSION: u8 = 4;
/// Exit code of one that nobody knows any more.
const LOST: i32 = 137;

/// Who is attached, as the program sees it.
struct Follower {
    stdout: DuplexStream,
    /// None on a terminal.
    stderr: Option<DuplexStream>,
    /// Said when it is cut off.
    cut: watch::Sender<bool>,
}

/// The streams of a main program.
pub(super) struct Main {
    stdin: bool,
    stdin_once: bool,
    tty: bool,
    /// None until somebody who is attached has a size.
    size: watch::Sender<Option<TerminalSize>>,
    /// Where who is attached writes; none once it was closed for good, or when there is no input.
    input: tokio::sync::Mutex<Option<DuplexStream>>,
    /// Where the program reads, until it runs.
    read: Mutex<Option<DuplexStream>>,
    followers: Mutex<Vec<Follower>>,
}

impl fmt::Debug for Main {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Main").field("stdin", &self.stdin).field("tty", &self.tty).finish_non_exhaustive()
    }
}

impl Main {
    /// None where the container has neither input nor terminal.
    pub(super) fn of(config: &ContainerConfig) -> Option<Arc<Self>> {
        if !config.stdin && !config.tty {
            return None;
        }
        let (input, read) = config.stdin.then(|| duplex(PIPE_BYTES)).unzip();
        Some(Arc::new(Self {
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            tty: config.tty,
            size: watch::channel(None).0,
            input: tokio::sync::Mutex::new(input),
            read: Mutex::new(read),
            followers: Mutex::default(),
        }))
    }

    fn take_followers(&self) -> Vec<Follower> {
        std::mem::take(&mut *self.followers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn follow(&self, followers: impl IntoIterator<Item = Follower>) {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).extend(followers);
    }

    /// Gives bytes to all who are attached, and cuts off who does not take them.
    async fn tell(&self, is_complaint: bool, bytes: &[u8]) {
        let mut kept = Vec::new();
        for mut follower in self.take_followers() {
            let stream = follower.stderr.as_mut().filter(|_| is_complaint);
            let stream = stream.unwrap_or(&mut follower.stdout);
            match tokio::time::timeout(AttachRequest::PATIENCE, stream.write_all(bytes)).await {
                Ok(Ok(())) => kept.push(follower),
                Ok(Err(_)) => {}
                Err(_) => drop(follower.cut.send_replace(true)),
            }
        }
        self.follow(kept);
    }

    /// Gives the program what one who is attached writes.
    async fn listen(&self, mut from: DuplexStream) {
        let mut buffer = vec![0; 4096];
        while let Ok(count) = from.read(&mut buffer).await {
            let mut input = self.input.lock().await;
            if count == 0 {
                if self.stdin_once && !self.tty {
                    *input = None;
                }
                return;
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            let Some(taker) = input.as_mut() else { return };
            if taker.write_all(bytes).await.is_err() {
                return;
            }
        }
    }
}

/// A main program that runs.
struct Running<'a> {
    machine: &'a FakeRuntime,
    main: &'a Main,
    log_path: std::path::PathBuf,
    input: Option<DuplexStream>,
}

impl Running<'_> {
    async fn line(&self, is_complaint: bool, text: &str) {
        let (stream, end) = match (self.main.tty, is_complaint) {
            (true, _) => ("stdout", "\r\n"),
            (false, true) => ("stderr", "\n"),
            (false, false) => ("stdout", "\n"),
        };
        self.machine.log(&self.log_path, stream, text);
        self.main.tell(is_complaint, format!("{text}{end}").as_bytes()).await;
    }

    /// Does what the program says; its exit code.
    async fn run(mut self, program: Program) -> i32 {
        for step in program.steps {
            match step {
                Step::Echo(text) => self.line(false, &text).await,
                Step::Complain(text) => self.line(true, &text).await,
                Step::Sleep(duration) => tokio::time::sleep(duration).await,
                Step::Copy => self.copy().await,
                Step::TerminalSize => {
                    let size = *self.main.size.borrow();
                    match size {
                        _ if !self.main.tty => self.line(true, "stty: standard input: Not a tty").await,
                        Some(size) => self.line(false, &format!("{} {}", size.rows, size.columns)).await,
                        None => self.line(false, "0 0").await,
                    }
                }
                Step::Exit(code) => return code,
                Step::IgnoreTerminate | Step::ExitOnUser1(_) | Step::Zeros(_) | Step::NeedsDevice(..) => {}
                Step::Serve | Step::EchoServer(_) => std::future::pending().await,
            }
        }
        0
    }

    /// Copies the input to its end, or to a Ctrl-D.
    async fn copy(&mut self) {
        let mut line = Vec::new();
        let mut buffer = vec![0; 4096];
        while let Some(input) = self.input.as_mut() {
            let Ok(count @ 1..) = input.read(&mut buffer).await else { break };
            let bytes = buffer.get(..count).unwrap_or_default();
            let end = bytes.iter().position(|byte| self.main.tty && *byte == END_OF_TRANSMISSION);
            let told = bytes.get(..end.unwrap_or(count)).unwrap_or_default();
            for byte in told {
                if *byte == b'\n' {
                    self.machine.log(&self.log_path, "stdout", &String::from_utf8_lossy(&line));
                    line.clear();
                } else {
                    line.push(*byte);
                }
            }
            self.main.tell(false, told).await;
            if end.is_some() {
                break;
            }
        }
        if !line.is_empty() {
            self.machine.log(&self.log_path, "stdout", &String::from_utf8_lossy(&line));
        }
    }
}

struct Attached {
    machine: FakeRuntime,
    main: Arc<Main>,
    id: ContainerId,
    cut: watch::Receiver<bool>,
}

#[async_trait]
impl TalkingProgram for Attached {
    async fn resize(&self, size: TerminalSize) -> Result<()> {
        if self.main.tty {
            self.main.size.send_replace(Some(size));
        }
        Ok(())
    }

    async fn ended(&self) -> Result<i32> {
        let mut cut = self.cut.clone();
        let was_cut = async {
            if cut.wait_for(|cut| *cut).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = self.machine.until_ended(&self.id) => {}
            () = was_cut => return Err(RuntimeError::Detached { after: AttachRequest::PATIENCE }),
        }
        let state = self.machine.state();
        Ok(state.containers.get(&self.id).and_then(|record| record.status.exit_code).unwrap_or(LOST))
    }

    async fn kill(&self) -> Result<()> {
        Ok(())
    }
}

impl FakeRuntime {
    /// Runs a main program that somebody can attach to.
    pub(super) async fn run_attachable(
        self,
        id: ContainerId,
        program: Program,
        log_path: std::path::PathBuf,
        main: Arc<Main>,
    ) {
        let input = main.read.lock().unwrap_or_else(PoisonError::into_inner).take();
        let running = Running { machine: &self, main: &main, log_path, input };
        tokio::select! {
            biased;
            code = running.run(program) => {
                self.exit_container(&id, code);
            }
            () = self.until_ended(&id) => {}
        }
        drop(main.take_followers());
        *main.input.lock().await = None;
    }

    pub(super) async fn join(&self, id: &ContainerId, request: &AttachRequest) -> Result<Conversation> {
        let main = self
            .call("Attach", |state| {
                let record = state.container_mut(id)?;
                if record.status.state != ContainerState::Running {
                    return Err(RuntimeError::NotRunning { id: id.to_string() });
                }
                Ok(record.main.clone())
            })
            .await?;
        let Some(main) = main else {
            request.check(false, false, false)?;
            return Err(RuntimeError::NotRunning { id: id.to_string() });
        };
        request.check(main.stdin, main.stdin_once, main.tty)?;
        if let Some(size) = request.tty {
            main.size.send_replace(Some(size));
        }
        let (stdout, theirs) = duplex(PIPE_BYTES);
        let (stderr, their_stderr) = (!main.tty).then(|| duplex(PIPE_BYTES)).unzip();
        let (cutting, cut) = watch::channel(false);
        main.follow([Follower { stdout: theirs, stderr: their_stderr, cut: cutting }]);
        let input = request.stdin.then(|| {
            let (input, theirs) = duplex(PIPE_BYTES);
            let main = Arc::clone(&main);
            // Ends by itself: what was written before all is dropped still goes to the program.
            tokio::spawn(async move { main.listen(theirs).await });
            input
        });
        let reading = |end: DuplexStream| -> Reading { Box::new(end) };
        Ok(Conversation {
            input: input.map(|end| -> Writing { Box::new(end) }),
            stdout: reading(stdout),
            stderr: stderr.map(reading),
            program: Box::new(Attached { machine: self.clone(), main, id: id.clone(), cut }),
        })
    }
}
