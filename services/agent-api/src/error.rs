//! Why a message was not taken.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why the control plane did not take a message.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "message", rename_all = "snake_case")]
pub enum ControlError {
    /// The control plane or its store cannot answer now; the same message again later is right.
    #[error("the control plane is not available: {0}")]
    Unavailable(String),
    /// The node is not known (any more).
    #[error("the control plane does not know this node")]
    UnknownNode,
    /// The node was fenced: the lease epoch of the message is over, and some instances may run elsewhere. The agent fetches
    /// its desired state, ends what is not in it, and goes on in the new epoch.
    #[error("the node was fenced; its lease epoch is {epoch} now")]
    Fenced {
        /// The present epoch.
        epoch: u64,
    },
    /// The node was removed from the fleet, which is for ever and only done when nothing is placed on it any more. What it still
    /// has may run elsewhere, so the agent ends all of it.
    #[error("this node was removed from the fleet; a new join token makes its machine a node again")]
    Removed,
    /// The caller is not who it says, or may not do this. Nothing follows from it for what the node runs.
    #[error("the control plane does not take this node's word: {0}")]
    Forbidden(String),
    /// The message breaks the contract; sending it again will not help.
    #[error("the control plane refused the message: {0}")]
    Refused(String),
}

/// Why a node could not serve.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "message", rename_all = "snake_case")]
pub enum NodeError {
    /// The instance, container or run is not there.
    #[error("the node has no such thing: {0}")]
    NotFound(String),
    /// What was asked for cannot be done in there: no such program, nothing that listens on the port. The words are for whoever
    /// asked, so they name nothing of the node.
    #[error("{0}")]
    Refused(String),
    /// The node cannot be reached or cannot answer now.
    #[error("the node cannot answer: {0}")]
    Unavailable(String),
}
