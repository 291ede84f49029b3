//! Who may talk to whom (DESIGN section 7): the port to the kernel's packet filter and what stands before it.
//!
//! The whole rule set is always given, never a change to it, so it cannot drift from what the agent believes, and what is
//! in the kernel when an agent starts does not matter.

mod gate;
mod nft;
mod recording;
mod ruleset;

use std::net::Ipv4Addr;

use async_trait::async_trait;
use thiserror::Error;
use wherry_agent_api::Neighbours;
use wherry_model::{InstanceId, Port, ProjectId, TenantId};

pub(crate) use self::gate::Gate;
pub use self::nft::{NftConfig, NftFirewall};
pub use self::recording::RecordingFirewall;
pub use self::ruleset::render;

/// One instance that may use the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its address.
    pub address: Ipv4Addr,
    /// With [`Self::project`]: whom it may reach, and who may reach all its ports.
    pub tenant: TenantId,
    /// See [`Self::tenant`].
    pub project: ProjectId,
    /// Ports that everybody may reach.
    pub ports: Vec<Port>,
}

/// Everybody who may use the network; every other address of the node's range may not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    /// In the order of ids.
    pub instances: Vec<(InstanceId, Admitted)>,
    /// Who is on other nodes.
    pub elsewhere: Elsewhere,
}

/// What a node must know of instances on other nodes. Who they are is for their own node to see to: it lets no packet out
/// with an address that is not the sender's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Elsewhere {
    /// First address and prefix length of each other node's range: instances may send there, and that node decides.
    pub ranges: Vec<(Ipv4Addr, u8)>,
    /// Who may reach all ports of which project's instances here.
    pub neighbours: Vec<Neighbours>,
}

/// Why the packet filter could not be set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FirewallError {
    /// The program that sets it could not be run.
    #[error("{program:?} cannot be run: {message}; install nftables and run as root")]
    CannotRun {
        /// Which program.
        program: String,
        /// Why.
        message: String,
    },
    /// The kernel, or the program, did not take the rules.
    #[error("the packet filter refused the rules: {0}")]
    Refused(String),
    /// It did not end in time.
    #[error("setting the packet filter did not end within {0} s")]
    Timeout(u64),
}

/// A packet filter.
#[async_trait]
pub trait Firewall: Send + Sync {
    /// Puts the rules in force, all of them at once.
    async fn apply(&self, rules: &Ruleset) -> Result<(), FirewallError>;

    /// Whether rules are in force: others may empty the packet filter, and then everybody would reach everybody.
    async fn stands(&self) -> Result<bool, FirewallError>;

    /// Takes all rules of this installation away. Idempotent; for `wherry down`, an agent that stops leaves them.
    async fn remove(&self) -> Result<(), FirewallError>;
}
