//! Who entered an instance: an entry is on record before anything runs for it, its end afterwards.
//!
//! Between the two a process may be killed, so an entry without an end says "as far as is known". Nothing else of an entry
//! changes, and it outlives its instance.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use wherry_model::{AuditId, ContainerName, InstanceId, InstanceName, ProjectId, ReplicaId, TenantId, Timestamp};

use crate::error::StoreError;

/// Which way somebody went in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// A program was run.
    Exec,
    /// The main program was watched, or given input.
    Attach,
    /// A port was connected to.
    PortForward,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// By itself: the program ended, or the connection was closed from the inside.
    Ended,
    /// The caller went away, or was sent away; a program that was run for it was killed.
    Left,
    /// It never began: nothing ran.
    Refused,
    /// The way to the inside broke.
    Broken,
}

/// The end of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEnd {
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: AuditOutcome,
    /// Of the program, where one ended.
    pub exit_code: Option<i32>,
    /// Bytes that went in.
    pub bytes_in: u64,
    /// Bytes that came out.
    pub bytes_out: u64,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Ordered by time.
    pub id: AuditId,
    /// Whose instance.
    pub tenant: TenantId,
    /// In which project.
    pub project: ProjectId,
    /// Which instance.
    pub instance: InstanceId,
    /// Its name then.
    pub name: InstanceName,
    /// Which way.
    pub kind: AuditKind,
    /// Which container, where it was one.
    pub container: Option<ContainerName>,
    /// Program and arguments, where one was run. They are on record as they were given, save that the end of a long one is left
    /// out.
    pub command: Vec<String>,
    /// Which port, where it was one.
    pub port: Option<u16>,
    /// Who.
    pub actor: String,
    /// The process that held the conversation. When it is gone and there is no end, nobody knows the end.
    pub replica: ReplicaId,
    /// Since when.
    pub begun_at: Timestamp,
    /// The end, kept apart from all of the above.
    #[serde(skip)]
    pub end: Option<AuditEnd>,
}

/// Which entries to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only of this tenant's project; of the whole service when absent, which only its operator may ask.
    pub of: Option<(TenantId, ProjectId)>,
    /// Only of this instance.
    pub instance: Option<InstanceId>,
    /// Only what is older than this one.
    pub before: Option<AuditId>,
    /// At most this many.
    pub limit: u32,
}

/// Entries.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Stores an entry without an end. Its id is new.
    async fn begin_audit(&self, record: &AuditRecord) -> Result<(), StoreError>;

    /// Stores the end of an entry; false when there is none without an end.
    async fn end_audit(&self, id: AuditId, end: &AuditEnd) -> Result<bool, StoreError>;

    /// Entries, newest first (by id).
    async fn audits(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, StoreError>;

    /// Forgets entries that were begun before `before`, oldest first, at most `limit`. Says how many went.
    async fn purge_audits(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError>;
}
