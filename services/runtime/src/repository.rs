//! Repositories that volumes are filled from.

use std::path::PathBuf;
use std::time::Duration;

use crate::DnsConfig;

/// One commit of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRequest {
    /// Its URL: `https`, `http` or `git`.
    pub repository: String,
    /// A branch, a tag or a commit; what the repository says itself when absent.
    pub revision: Option<String>,
    /// A folder of the machine, empty.
    pub into: PathBuf,
    /// As in [`crate::SandboxConfig::cgroup_name`]: whose memory and processes it takes.
    pub cgroup_name: String,
    /// As in [`crate::SandboxConfig::dns`].
    pub dns: DnsConfig,
    /// The longest that it may take.
    pub timeout: Duration,
    /// The most that one file of it may have.
    pub file_bytes: u64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// It is there.
    Commit(String),
    /// The repository, or who leads to it, did not give it; what was answered.
    Refused(String),
}
