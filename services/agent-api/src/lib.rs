//! The contract between control plane and node agent.
//!
//! Down goes the whole desired state of one node with a revision; up come facts from the agent's journal, numbered, at
//! least once. The agent calls [`ControlPlane`]; the control plane reaches a node only through [`NodeServices`], which
//! an agent that dials out answers. In one process both traits are called directly; between machines they are spoken
//! over the wire, with the same values.
//!
//! Rules that both sides keep:
//! - every message about an instance carries its generation, an older one loses;
//! - an empty desired state is a statement like any other, because it always comes as a whole with a revision;
//! - a fact is acknowledged when it is stored, never before; the agent forgets it only then;
//! - only an answered heartbeat of the present epoch renews a lease, counted from the moment at which it was sent.
//!
//! Compatibility: fields are added with a default and never change their meaning, so [`PROTOCOL`] and the versions before it
//! understand each other in both directions. What an older side would skip although it matters is not given to it: an
//! instance ([`wherry_model::InstanceSpec::least_protocol`]) is not placed there, a fact ([`wherry_model::Fact::least_protocol`])
//! waits.

mod calls;
mod desired;
mod enrolment;
mod error;
mod heartbeat;
mod hello;
mod report;
mod session;
mod stats;
mod surroundings;

use async_trait::async_trait;
use wherry_model::NodeId;

pub use calls::{Call, ExecOutcome, ExecQuery, LogChunk, LogQuery, LogStream, Question};
pub use desired::{Desired, DesiredContainer, DesiredInstance, DesiredMore, Secrets};
pub use enrolment::{Applicant, Enrolled};
pub use error::{ControlError, NodeError};
pub use heartbeat::{Heartbeat, PullProgress, RunningContainer};
pub use hello::{NodeHello, Welcome};
pub use report::{Ack, Report};
pub use session::{
    Session, SessionInput, SessionKind, SessionOutput, SessionQuery, SessionSink, SessionStream, TerminalSize,
};
pub use stats::{ContainerStats, InstanceStats, NetworkStats, StatsQuery};
pub use surroundings::{NameRecord, Neighbours, Peer, Surroundings};

/// The version of this contract. Both sides also speak those before it.
pub const PROTOCOL: u32 = 3;

/// What an agent asks of the control plane. Every call may be repeated.
#[async_trait]
pub trait ControlPlane: Send + Sync {
    /// Introduces the node, or renews what is known of it. Idempotent.
    async fn hello(&self, hello: NodeHello) -> Result<Welcome, ControlError>;

    /// Whether the node introduced itself with this version of the contract last. `UnknownNode` if not: a hello that was overtaken
    /// on its way may have come after a later one, and the agent is to introduce itself again. Asked by the transport before
    /// [`desired`](Self::desired).
    async fn is_introduced(&self, _node: NodeId, _protocol: u32) -> Result<(), ControlError> {
        Ok(())
    }

    /// The desired state when its revision is above `have` (at once if it is), or none after about 30 seconds.
    async fn desired(&self, node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError>;

    /// Stores observations; those stored before are skipped, so any batch may be sent again.
    async fn report(&self, report: Report) -> Result<Ack, ControlError>;

    /// Takes a proof of life; the answer renews the lease.
    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError>;

    /// What is around the node when its tag is not `have` (at once then), or none after about 30 seconds.
    async fn surroundings(&self, node: NodeId, have: Option<u64>) -> Result<Option<Surroundings>, ControlError>;
}

/// Questions that wait for a node. The transport of each replica posts and hands out; agents never see another's.
#[async_trait]
pub trait CallBoard: Send + Sync {
    /// Lets the node know, whichever replica it listens to.
    async fn post_call(&self, call: Call) -> Result<(), ControlError>;

    /// Calls for the node, each handed out once, at once if there are any; none after about 30 seconds.
    async fn calls(&self, node: NodeId) -> Result<Vec<Call>, ControlError>;
}

/// Who may be a node.
#[async_trait]
pub trait Enrolment: Send + Sync {
    /// Uses a token. The same token with the same key gives the same answer while the token lives.
    async fn enrol(&self, applicant: Applicant) -> Result<Enrolled, ControlError>;

    /// Whether the node was enrolled and not removed: asked before each renewal and at each connection.
    async fn is_enrolled(&self, node: NodeId) -> Result<bool, ControlError>;

    /// Whether it is on record that the node was removed: asked of one that is not enrolled, which ends all that it has when
    /// the answer is yes. Who keeps no such record says no.
    async fn is_removed(&self, _node: NodeId) -> Result<bool, ControlError> {
        Ok(false)
    }
}

/// What the control plane asks of one node's agent.
#[async_trait]
pub trait NodeServices: Send + Sync {
    /// Streams output. Backpressure is the caller's: nothing is read ahead of it beyond one chunk.
    async fn logs(&self, query: LogQuery) -> Result<LogStream, NodeError>;

    /// Runs a program in a container and waits for its end.
    async fn exec(&self, query: ExecQuery) -> Result<ExecOutcome, NodeError>;

    /// Begins a conversation. That a program cannot be started, or that nothing listens on a port, is an error here and not
    /// an end.
    async fn session(&self, query: SessionQuery) -> Result<Session, NodeError> {
        Err(NodeError::Unavailable(format!("instance {} is on a node that holds no conversations", query.instance)))
    }

    /// What instances use now. Those that are not there to run, or of which nothing runs, are not in the answer.
    async fn stats(&self, query: StatsQuery) -> Result<Vec<InstanceStats>, NodeError> {
        Err(NodeError::Unavailable(format!("instance {} is on a node that reads no use", query.instance)))
    }
}

/// Finds the way to any node of the fleet, whichever replica its agent listens to.
pub trait NodeDirectory: Send + Sync {
    /// The node's services. That it cannot be reached shows when it is asked.
    fn services(&self, node: NodeId) -> std::sync::Arc<dyn NodeServices>;
}
