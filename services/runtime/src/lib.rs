//! The contract between Wherry and a container engine, in the terms of the Kubernetes Container Runtime Interface (CRI).
//!
//! Purpose: the node agent converges a machine against [`ContainerRuntime`] and never sees gRPC, containerd or a socket.
//! Two things implement it: `wherry-runtime-cri` (containerd) and [`fake::FakeRuntime`]; [`conformance`] is the suite that
//! both pass, so a test against the fake says something about the real engine.
//!
//! Invariants:
//! - Identity is in the labels: whoever lists sandboxes and containers by label after a crash finds all it made.
//! - `stop` and `remove` are idempotent; of something that is not there they succeed.
//! - Security is not an input. The adapter applies one fixed profile to every container.
//! - Every call ends: with a result, or with [`RuntimeError::Timeout`] after which the state must be read again.
//!
//! Rejected: CRI's generated messages as the contract (they drag tonic and prost through the whole agent, and every field
//! is optional), and a richer "run this instance" call (the agent must be able to stop after every single step).

pub mod conformance;
mod container;
mod contract;
mod conversation;
mod error;
mod event;
mod exec;
pub mod fake;
mod image;
mod repository;
mod sandbox;
mod usage;

pub use container::{
    Container, ContainerConfig, ContainerState, ContainerStatus, Device, Mount, MountPart, SecretFiles,
};
pub use contract::{ContainerRuntime, Readiness, RuntimeVersion};
pub use conversation::{
    AttachRequest, ByteStream, Connection, Conversation, Reading, StreamExec, TalkingProgram, TerminalSize, Writing,
};
pub use error::{Result, RuntimeError};
pub use event::RuntimeEvent;
pub use exec::{ExecOutput, ExecRequest};
pub use image::{Image, ImageDisk, PullProgress, PullRequest, PulledImage, RegistryAuth, refusal_by_labels};
pub use repository::{Fetched, RepositoryRequest};
pub use sandbox::{DnsConfig, Labels, Sandbox, SandboxConfig, SandboxState, SandboxStatus};
pub use usage::{ContainerUsage, NetworkUsage, Usage};

/// Declares a newtype over the text of an engine-given id.
macro_rules! engine_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps the engine's text.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The engine's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

engine_id! {
    /// Id that the engine gave to a sandbox (one instance's network namespace and cgroup).
    SandboxId
}

engine_id! {
    /// Id that the engine gave to a container.
    ContainerId
}
