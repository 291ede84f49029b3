//! Conversations: a program that is run or attached to with its input, and a connection to a port inside.
//!
//! Both directions are streams of small messages that wait for each other: nobody reads ahead of a slow partner by more
//! than a few messages. Dropping the output ends the conversation; a program that was run for it is then killed, one that
//! was only attached to runs on. Dropping the input says that there is no more, as closing it does.

use std::pin::Pin;

use futures_util::Sink;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use wherry_model::{ContainerName, Generation, InstanceId};

use crate::NodeError;

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns, at least 1.
    pub columns: u16,
    /// Rows, at least 1.
    pub rows: u16,
}

/// With what a conversation is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "with", rename_all = "snake_case")]
pub enum SessionKind {
    /// A program that is run for it.
    Exec {
        /// In which container.
        container: ContainerName,
        /// Program and arguments; no shell is added.
        command: Vec<String>,
        /// Whether it gets input; otherwise its input is empty.
        stdin: bool,
        /// The size of its terminal; without one its output and its complaints are apart.
        tty: Option<TerminalSize>,
    },
    /// The main program of a container: what it prints from now on, and its input where its spec says that it has one.
    Attach {
        /// Of which container.
        container: ContainerName,
        /// Whether input is sent.
        stdin: bool,
        /// The size of the caller's terminal, if the container has one.
        tty: Option<TerminalSize>,
    },
    /// A TCP port as programs inside the instance see it, on its loopback address.
    Port {
        /// 1 to 65535.
        port: u16,
    },
}

/// A conversation that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionQuery {
    /// With which instance.
    pub instance: InstanceId,
    /// In which generation of it.
    pub generation: Generation,
    /// With what.
    #[serde(flatten)]
    pub kind: SessionKind,
}

/// A message to the inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionInput {
    /// Input, at most [`Session::MAX_MESSAGE_BYTES`].
    Data(Vec<u8>),
    /// There is no more input. Output goes on.
    End,
    /// The terminal has another size now.
    Resize(TerminalSize),
}

/// A message from the inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOutput {
    /// Output; of a terminal all of it, of a port what came from there. At most [`Session::MAX_MESSAGE_BYTES`].
    Stdout(Vec<u8>),
    /// What the program complained, where it has no terminal.
    Stderr(Vec<u8>),
    /// The program has ended, with this exit code (128 + signal number when a signal ended it) and nothing follows. A port
    /// ends with 0.
    Exited(i32),
}

/// Where messages to the inside go. Closing it is [`SessionInput::End`].
pub type SessionSink = Pin<Box<dyn Sink<SessionInput, Error = NodeError> + Send>>;

/// Messages from the inside, in order. It ends after [`SessionOutput::Exited`] or an error.
pub type SessionStream = BoxStream<'static, Result<SessionOutput, NodeError>>;

/// A conversation that has begun.
pub struct Session {
    /// To the inside.
    pub input: SessionSink,
    /// From the inside.
    pub output: SessionStream,
}

impl Session {
    /// The most bytes of one message.
    pub const MAX_MESSAGE_BYTES: usize = 32 * 1024;
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
