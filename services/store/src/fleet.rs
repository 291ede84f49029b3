//! What makes several processes one service: enrolments of nodes, leases of background work, replicas, calls that are
//! handed from the replica that holds a client to the one that holds the node, and the installation that all belong to.

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use wherry_model::{NodeId, ReplicaId, Timestamp, TokenId};

use crate::error::StoreError;

/// A one-time join token. Its secret is never stored: it has 256 random bits, so a plain SHA-256 of it is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRecord {
    /// Its public part.
    pub id: TokenId,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// The range that the operator gave the node; the next free one when absent.
    pub range: Option<(Ipv4Addr, u8)>,
    /// Since when it exists.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// Which node used it.
    pub used_by: Option<NodeId>,
    /// SHA-256 of the public key that it was used with.
    pub public_key: Option<[u8; 32]>,
}

/// A machine that may be a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentRecord {
    /// Its id.
    pub node: NodeId,
    /// What operators call it; unique among enrolments that were not removed.
    pub name: String,
    /// The range of its instances; unique likewise, and overlapping no other.
    pub range: (Ipv4Addr, u8),
    /// Since when it is enrolled.
    pub created_at: Timestamp,
    /// Since when it is not any more.
    pub removed_at: Option<Timestamp>,
}

/// What became of the use of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolOutcome {
    /// The token is used and the node is enrolled.
    Enrolled(EnrolmentRecord),
    /// The token was used with the same public key before: this is what it made. Also after it has expired, because who
    /// has the key has, or could have, the certificate already.
    Again(EnrolmentRecord),
    /// The token was used with another public key or for a node that was removed, has expired, or does not exist.
    TokenRefused,
    /// Another node has this name. Told before a range that is taken; the token is not used.
    NameTaken,
    /// The range overlaps that of another node: take another one. The token is not used.
    RangeTaken,
}

/// Enrolments.
#[async_trait]
pub trait EnrolmentStore: Send + Sync {
    /// Stores a token.
    async fn create_join_token(&self, token: &JoinTokenRecord) -> Result<(), StoreError>;

    /// One token.
    async fn join_token(&self, id: TokenId) -> Result<Option<JoinTokenRecord>, StoreError>;

    /// Uses a token for `enrolment` with this public key at `enrolment.created_at`, in one transaction.
    async fn enrol(
        &self,
        token: TokenId,
        public_key: [u8; 32],
        enrolment: &EnrolmentRecord,
    ) -> Result<EnrolOutcome, StoreError>;

    /// One enrolment, removed ones included.
    async fn enrolment(&self, node: NodeId) -> Result<Option<EnrolmentRecord>, StoreError>;

    /// All that were not removed, by node.
    async fn enrolments(&self) -> Result<Vec<EnrolmentRecord>, StoreError>;
}

/// Leases of background work: who does it now. A lease spares double work, it protects nothing: every write is guarded by
/// itself, so two that believe they hold one do no harm.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// Takes or renews the lease `name` for `time`; false while another holder has it. A store with a clock of its own uses
    /// that instead of `now`.
    async fn hold_lease(
        &self,
        name: &str,
        holder: ReplicaId,
        now: Timestamp,
        time: Duration,
    ) -> Result<bool, StoreError>;

    /// Gives up every lease of the holder, so that another can go on at once.
    async fn release_leases(&self, holder: ReplicaId) -> Result<(), StoreError>;
}

/// A process that answers for the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRecord {
    /// New at each start.
    pub id: ReplicaId,
    /// Where agents call it; absent when it takes none.
    pub agents_url: Option<String>,
    /// When it was last seen.
    pub seen_at: Timestamp,
    /// The newest form of records that it keeps whole when it writes them.
    pub form: u32,
}

impl ReplicaRecord {
    /// The form of this release. Raised by a release whose records have something that the release before would drop or not read.
    pub const FORM: u32 = 1;

    /// That of the releases which did not say.
    pub const FIRST_FORM: u32 = 0;
}

/// Replicas.
#[async_trait]
pub trait ReplicaStore: Send + Sync {
    /// Notes that the replica lives; forgets those that were last seen before `forget_before`.
    async fn note_replica(&self, replica: &ReplicaRecord, forget_before: Timestamp) -> Result<(), StoreError>;

    /// Forgets one that has stopped in order.
    async fn forget_replica(&self, id: ReplicaId) -> Result<(), StoreError>;

    /// All that are known, in order of id.
    async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError>;
}

/// A question to a node on its way from one replica to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// SHA-256 of its ticket.
    pub ticket_hash: [u8; 32],
    /// Which node is asked.
    pub node: NodeId,
    /// When it stops being of use.
    pub expires_at: Timestamp,
    /// The call as JSON.
    pub call: String,
}

/// Calls.
#[async_trait]
pub trait CallStore: Send + Sync {
    /// Stores a call and wakes readers; forgets those that expired before `now`, at most 100 of them.
    async fn post_call(&self, call: &CallRecord, now: Timestamp) -> Result<(), StoreError>;

    /// Nodes for which calls wait at `now`, each once: hundreds of agents at one replica are answered by one read.
    async fn called_nodes(&self, now: Timestamp) -> Result<Vec<NodeId>, StoreError>;

    /// Takes all calls for the node that have not expired at `now`: each is given to one taker only.
    async fn take_calls(&self, node: NodeId, now: Timestamp) -> Result<Vec<CallRecord>, StoreError>;
}

/// What all processes on one store must agree on.
#[async_trait]
pub trait InstallationStore: Send + Sync {
    /// Stores `value` under `name` unless there is one; gives the one that is stored then. For fingerprints of keys: a replica
    /// with other keys than the first must not start.
    async fn settle(&self, name: &str, value: &str) -> Result<String, StoreError>;

    /// Keeps what was learnt under `name`, instead of what was kept there: losing it costs the learning only.
    async fn keep_learnt(&self, name: &str, value: &str) -> Result<(), StoreError>;

    /// What was kept so last.
    async fn learnt(&self, name: &str) -> Result<Option<String>, StoreError>;
}
