//! What a program in a container printed, as bytes again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wherry_api_types::{ExecResult, OutputEncoding};

/// How the program ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code, 128 + signal number when a signal ended it.
    pub exit_code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether more was printed than is here.
    pub truncated: bool,
}

impl ExecOutput {
    /// None when the service names an encoding that the output does not have.
    pub(crate) fn decode(result: ExecResult) -> Option<Self> {
        let bytes = |text: String, encoding| match encoding {
            OutputEncoding::Utf8 => Some(text.into_bytes()),
            OutputEncoding::Base64 => STANDARD.decode(text).ok(),
        };
        Some(Self {
            exit_code: result.exit_code,
            stdout: bytes(result.stdout, result.stdout_encoding)?,
            stderr: bytes(result.stderr, result.stderr_encoding)?,
            truncated: result.truncated,
        })
    }
}
