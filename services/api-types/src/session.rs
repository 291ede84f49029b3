//! The subprotocol `wherry.v1`, in which programs, main programs and ports are spoken to over a WebSocket.
//!
//! Every message is binary. Its first byte is the channel, the rest is what is carried:
//!
//! | channel | direction | carries |
//! |---|---|---|
//! | 0 | to the inside | input, any bytes |
//! | 1 | from the inside | standard output; of a terminal or a port, all there is |
//! | 2 | from the inside | standard error |
//! | 3 | to the inside | a [`SessionCommand`] as JSON |
//! | 3 | from the inside | a [`SessionEnd`] as JSON; the last message |
//!
//! Rejected: a message type in JSON with the bytes as base64 (a third more bytes, and a copy), and Kubernetes' subprotocol
//! `v5.channel.k8s.io` (its close channel and status objects say in three places what `exit_code` says in one).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Problem, text};

/// What client and server agree on in `Sec-WebSocket-Protocol`.
pub const SESSION_PROTOCOL: &str = "wherry.v1";

/// Begins the other value of `Sec-WebSocket-Protocol` that a browser, which can set no header, sends its token in.
pub const BEARER_PROTOCOL: &str = "bearer.";

/// The most bytes of one message, its channel not counted.
pub const MAX_SESSION_MESSAGE_BYTES: usize = 32 * 1024;

/// What a message belongs to: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// 0
    Stdin,
    /// 1
    Stdout,
    /// 2
    Stderr,
    /// 3
    Control,
}

impl Channel {
    /// Its byte.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Control => 3,
        }
    }

    /// A message, taken apart; none when its first byte is no channel.
    pub fn split(message: &[u8]) -> Option<(Self, &[u8])> {
        let (first, rest) = message.split_first()?;
        let all = [Self::Stdin, Self::Stdout, Self::Stderr, Self::Control];
        all.into_iter().find(|channel| channel.byte() == *first).map(|channel| (channel, rest))
    }

    /// A message of this channel.
    pub fn message(self, carried: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(carried.len().saturating_add(1));
        message.push(self.byte());
        message.extend_from_slice(carried);
        message
    }
}

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// In characters.
    #[schema(minimum = 1, example = 80)]
    pub columns: u16,
    /// In characters.
    #[schema(minimum = 1, example = 24)]
    pub rows: u16,
}

/// What a client says on the control channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionCommand {
    /// The terminal has another size now.
    Resize(TerminalSize),
    /// There is no more input; output goes on. Always `true`.
    EndOfInput(bool),
}

/// The last message of a conversation, on the control channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The program ended with this exit code, 128 + signal number when a signal ended it. A port ends with 0.
    ExitCode(i32),
    /// It could not go on.
    Error(Problem),
}

/// Which way somebody entered an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// A program was run.
    Exec,
    /// The main program was watched, or given input.
    Attach,
    /// A port was connected to.
    PortForward,
}

/// What is known of the end of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditState {
    /// It goes on.
    Open,
    /// By itself: the program ended, or the port was closed from the inside.
    Ended,
    /// The caller went away, or was sent away; a program that was run for it was killed.
    Left,
    /// It never began: nothing ran.
    Refused,
    /// The way to the inside broke.
    Broken,
    /// The process of the service that held it was killed, and nobody knows how it ended.
    Unknown,
}

/// One entry: somebody entered an instance. It is on record before anything runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Ordered by time.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// Whose instance.
    #[schema(value_type = text::Id)]
    pub tenant_id: String,
    /// In which project.
    #[schema(value_type = text::Id)]
    pub project_id: String,
    /// Which instance.
    #[schema(value_type = text::Id)]
    pub instance_id: String,
    /// Its name then.
    #[schema(value_type = text::InstanceName)]
    pub instance: String,
    /// Which way.
    pub kind: AuditKind,
    /// Which container, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::LabelName)]
    pub container: Option<String>,
    /// Program and arguments as they were given, up to 1 KiB: what is longer ends in the word `[cut]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Which port, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u16)]
    pub port: Option<u16>,
    /// Who.
    #[schema(example = "key:0190f8a0-0000-7000-8000-000000000001")]
    pub actor: String,
    /// Since when.
    #[schema(value_type = text::Time)]
    pub begun_at: String,
    /// Whether and how it ended.
    pub state: AuditState,
    /// When it ended, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub ended_at: Option<String>,
    /// Of the program, where one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = i32)]
    pub exit_code: Option<i32>,
    /// Bytes that went in; 0 until its end.
    pub bytes_in: u64,
    /// Bytes that came out; 0 until its end.
    pub bytes_out: u64,
}

/// A page of entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// The entries.
    pub items: Vec<AuditEntry>,
    /// The `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::PageCursor)]
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_put_together_and_taken_apart() {
        for channel in [Channel::Stdin, Channel::Stdout, Channel::Stderr, Channel::Control] {
            assert_eq!(Channel::split(&channel.message(b"x\0y")), Some((channel, b"x\0y".as_slice())));
        }
        assert_eq!(Channel::split(&[]), None);
        assert_eq!(Channel::split(&[4, 1]), None);
    }

    #[test]
    fn control_messages_are_as_documented() {
        let json = |command| serde_json::to_string(&command).unwrap();
        let resize = SessionCommand::Resize(TerminalSize { columns: 80, rows: 24 });
        assert_eq!(json(resize), r#"{"resize":{"columns":80,"rows":24}}"#);
        assert_eq!(json(SessionCommand::EndOfInput(true)), r#"{"end_of_input":true}"#);
        assert_eq!(serde_json::to_string(&SessionEnd::ExitCode(3)).unwrap(), r#"{"exit_code":3}"#);
    }
}
