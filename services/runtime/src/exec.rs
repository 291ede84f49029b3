//! Programs that are run inside a container that runs.

use std::time::Duration;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments; no shell is added. At least one word.
    pub command: Vec<String>,
    /// After this long it is killed. Rounded up to whole seconds, at least one.
    pub timeout: Duration,
    /// What it prints beyond this is cut off, of each stream.
    pub max_output_bytes: usize,
}

impl ExecRequest {
    /// The timeout as engines take it.
    pub fn timeout_seconds(&self) -> u64 {
        (self.timeout.as_secs() + u64::from(self.timeout.subsec_nanos() > 0)).max(1)
    }
}

/// How it ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOutput {
    /// Its exit code, 128 + signal number when a signal ended it.
    pub exit_code: i32,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained.
    pub stderr: Vec<u8>,
    /// Whether something was cut off.
    pub truncated: bool,
}

impl ExecOutput {
    /// Cuts each stream.
    #[must_use]
    pub fn cut_at(mut self, most_bytes: usize) -> Self {
        for stream in [&mut self.stdout, &mut self.stderr] {
            self.truncated |= stream.len() > most_bytes;
            stream.truncate(most_bytes);
        }
        self
    }
}
