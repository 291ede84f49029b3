//! Conversations: a program with its input, and a connection to a port inside.
//!
//! Nothing is read ahead of the caller beyond a pipe's worth, and nothing is written ahead of the program: whoever is slow
//! holds up the other side and nobody else.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::{ExecOutput, ExecRequest, Result, RuntimeError};

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns, at least 1.
    pub columns: u16,
    /// Rows, at least 1.
    pub rows: u16,
}

/// A program to run with its input and output as streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamExec {
    /// Program and arguments; no shell is added. At least one word.
    pub command: Vec<String>,
    /// Whether it gets input; otherwise its input is empty.
    pub stdin: bool,
    /// Runs it on a terminal, which has this size when the conversation has begun: some OCI runtimes start the program an
    /// instant earlier.
    pub tty: Option<TerminalSize>,
}

/// How somebody attaches to the main program of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttachRequest {
    /// Whether input is given. Only to a container that has one ([`crate::ContainerConfig::stdin`]).
    pub stdin: bool,
    /// The size that its terminal gets, where it has one.
    pub tty: Option<TerminalSize>,
}

impl AttachRequest {
    /// How long a program waits for one who is attached and takes nothing, before that one is cut off.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// Refuses what a container with such streams cannot give.
    pub fn check(&self, has_stdin: bool, stdin_once: bool, has_terminal: bool) -> Result<()> {
        let message = match self {
            _ if !has_stdin && !has_terminal => "the container has neither an input nor a terminal",
            Self { stdin: true, .. } if !has_stdin => "the container has no input",
            Self { stdin: false, .. } if stdin_once => "its input would be closed by whoever only listens",
            Self { tty: Some(_), .. } if !has_terminal => "the container has no terminal",
            _ => return Ok(()),
        };
        Err(RuntimeError::InvalidArgument { message: message.to_owned() })
    }
}

/// Output of a program as it comes.
pub type Reading = Box<dyn AsyncRead + Send + Unpin>;

/// Input of a program as it takes it.
pub type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// Both directions of a connection.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A connection to a port inside a sandbox.
pub type Connection = Box<dyn ByteStream>;

/// A program that is being talked to.
pub struct Conversation {
    /// Its input, where it has one. Shutting it down, or dropping it, says that there is no more; on a terminal as Ctrl-D does.
    /// Writing fails with a broken pipe when the program does not read any more.
    pub input: Option<Writing>,
    /// What it prints; on a terminal everything. Ends when no process holds it open any more.
    pub stdout: Reading,
    /// What it complains, where it has no terminal.
    pub stderr: Option<Reading>,
    /// The program itself.
    pub program: Box<dyn TalkingProgram>,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Conversation").finish_non_exhaustive()
    }
}

/// The program of a conversation. Dropping it kills one that was run for the conversation and leaves alone one that was only
/// attached to; output that was not read by then is lost.
#[async_trait]
pub trait TalkingProgram: Send + Sync {
    /// Tells its terminal that it has another size. Does nothing where there is none, or no program any more.
    async fn resize(&self, size: TerminalSize) -> Result<()>;

    /// Waits for its end: its exit code, 128 + signal number when a signal ended it. May be called again. Its output may have more to
    /// give then.
    async fn ended(&self) -> Result<i32>;

    /// Ends what was run for the conversation and waits until it is gone. Leaves alone what was only attached to.
    async fn kill(&self) -> Result<()>;
}

const READ_BYTES: usize = 64 * 1024;

impl Conversation {
    /// Reads until the program and everything that it wrote has ended, and kills it when its time is over.
    ///
    /// A process that it left behind and that holds its output open counts as the program itself.
    pub async fn run_to_end(self, request: &ExecRequest) -> Result<ExecOutput> {
        let after = Duration::from_secs(request.timeout_seconds());
        let Self { input, stdout, stderr, program } = self;
        drop(input);
        let most = request.max_output_bytes;
        let whole = async {
            let complaints = async {
                match stderr {
                    Some(stderr) => collected(stderr, most).await,
                    None => Ok((Vec::new(), false)),
                }
            };
            tokio::try_join!(collected(stdout, most), complaints, program.ended())
        };
        let whole = tokio::time::timeout(after, whole).await;
        let Ok(whole) = whole else {
            program.kill().await?;
            return Err(RuntimeError::ProgramTimeout { after });
        };
        let ((stdout, cut), (stderr, cut_too), exit_code) = whole?;
        Ok(ExecOutput { exit_code, stdout, stderr, truncated: cut || cut_too })
    }
}

/// The first `most` bytes, and whether there were more; reads to the end either way.
async fn collected(mut from: Reading, most: usize) -> Result<(Vec<u8>, bool)> {
    let (mut kept, mut cut) = (Vec::new(), false);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = from.read(&mut buffer).await;
        let count = read.map_err(|error| RuntimeError::Internal { message: format!("output breaks off: {error}") })?;
        if count == 0 {
            return Ok((kept, cut));
        }
        let room = most.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
        cut |= room < count;
    }
}
