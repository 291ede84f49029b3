//! What only a node can answer, and how the question reaches it.
//!
//! An agent listens on nothing. Where it is in another process, the replica that holds the client posts a [`Call`] with a
//! one-time ticket; the agent finds it by asking for its [`crate::CallBoard`] and dials back to that replica, which
//! splices the two streams. A ticket is bound to one node, one instance and one generation, works once, for
//! [`Call::LIFETIME`], and is of no use anywhere else.

use std::time::Duration;

use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use wherry_model::{ContainerName, Generation, InstanceId, NodeId, Timestamp};

use crate::{NodeError, SessionQuery, StatsQuery};

/// Which part of a container's output is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// Of which instance.
    pub instance: InstanceId,
    /// Of which container.
    pub container: ContainerName,
    /// Which run; the latest when absent.
    pub run: Option<u32>,
    /// Only the last so many lines.
    pub tail: Option<u32>,
    /// Whether to go on as lines are written, until the instance has ended.
    pub follow: bool,
    /// Whether each line begins with its time.
    pub timestamps: bool,
    /// Only from the first line of this time or later; without [`Self::run`] and [`Self::tail`] of all runs that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A piece of a container's output: whole lines, in order.
pub type LogChunk = Result<Vec<u8>, NodeError>;

/// Output as it comes.
pub type LogStream = BoxStream<'static, LogChunk>;

/// A program to run inside a container that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecQuery {
    /// In which instance.
    pub instance: InstanceId,
    /// In which generation of it.
    pub generation: Generation,
    /// In which container.
    pub container: ContainerName,
    /// Program and arguments; no shell is added.
    pub command: Vec<String>,
    /// After so many seconds the program is killed.
    pub timeout_seconds: u32,
}

/// How the program ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutcome {
    /// Its exit code, 128 + signal number when a signal ended it. As with `timeout(1)` and shells, 124 when it was killed
    /// because its time was over and 126 when it could not be started; `stderr` then says so.
    pub exit_code: i32,
    /// What it printed, cut at [`Self::MAX_OUTPUT_BYTES`].
    pub stdout: Vec<u8>,
    /// What it complained, cut likewise.
    pub stderr: Vec<u8>,
    /// Whether something was cut off.
    pub truncated: bool,
}

impl ExecOutcome {
    /// The most of each stream that is carried.
    pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
}

/// One question to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// Stream output.
    Logs(LogQuery),
    /// Stream output from a time on: another question because an agent of before would ignore the time, and answer all.
    LogsSince(LogQuery),
    /// Run a program.
    Exec(ExecQuery),
    /// Begin a conversation.
    Session(SessionQuery),
    /// Say what instances use. The answer is bound to the first of them.
    Stats(StatsQuery),
}

impl Question {
    /// Which instance it is about.
    pub const fn instance(&self) -> InstanceId {
        match self {
            Self::Logs(query) | Self::LogsSince(query) => query.instance,
            Self::Exec(query) => query.instance,
            Self::Session(query) => query.instance,
            Self::Stats(query) => query.instance,
        }
    }
}

/// A question with its ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// 256 random bits in base64url; whoever presents it with the node's certificate answers the question.
    pub ticket: String,
    /// Which node is asked.
    pub node: NodeId,
    /// Where to dial back: the replica that holds the client.
    pub reply_to: String,
    /// When the ticket stops working.
    pub expires_at: Timestamp,
    /// What is asked.
    pub question: Question,
}

impl Call {
    /// How long a ticket works.
    pub const LIFETIME: Duration = Duration::from_mins(1);
}
