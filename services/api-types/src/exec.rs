//! Running a program inside of a container to its end, with all of its input at once.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{number, text};

/// Seconds after which a program is killed unless something else is asked for.
pub const DEFAULT_EXEC_TIMEOUT_SECONDS: u32 = 30;
/// The most seconds that may be asked for.
pub const MAX_EXEC_TIMEOUT_SECONDS: u32 = 300;

/// Body of an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"command": ["sh", "-c", "ps | wc -l"], "timeout_seconds": 10})))]
pub struct ExecRequest {
    /// Program and arguments, at most 32 KiB together. No shell is added: name one if you want one.
    #[schema(value_type = Vec<text::PlainText>, min_items = 1, max_items = 256)]
    pub command: Vec<String>,
    /// Its input, in the form that `stdin_encoding` names; empty when absent. The whole body has at most 1 MiB: larger input goes
    /// through the WebSocket of this path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, example = "hello\n")]
    pub stdin: Option<String>,
    /// Whether `stdin` is the text itself, as when this is absent, or its base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = OutputEncoding)]
    pub stdin_encoding: Option<OutputEncoding>,
    /// After so many seconds the program is killed; 30 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 1, maximum = 300, example = 30)]
    pub timeout_seconds: Option<u32>,
}

/// How the program ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecResult {
    /// Its exit code, 128 + signal number when a signal ended it.
    #[schema(example = 0)]
    pub exit_code: i32,
    /// What it wrote to standard output, at most 1 MiB of it, in the form that `stdout_encoding` names.
    #[schema(example = "7\n")]
    pub stdout: String,
    /// Whether `stdout` is the text itself or, because it is not UTF-8, its base64.
    pub stdout_encoding: OutputEncoding,
    /// What it wrote to standard error, likewise.
    #[schema(example = "")]
    pub stderr: String,
    /// As `stdout_encoding`.
    pub stderr_encoding: OutputEncoding,
    /// Whether more was printed than is carried here.
    pub truncated: bool,
}

/// How bytes stand in a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputEncoding {
    /// The bytes are UTF-8, and this is the text.
    Utf8,
    /// They are not; this is their base64 (RFC 4648 section 4, with padding).
    Base64,
}
