//! Ways to the instances of the other nodes: the range of each peer is routed to that peer's machine.
//!
//! Two modes. On a flat network (each machine reaches the others without a router between) a plain route per peer is all
//! there is. Elsewhere a VXLAN carries the packets, with everything about the far ends known beforehand: no flooding, no
//! learning, no multicast.
//!
//! Invariants: only routes, neighbours and forwarding entries of our own are ever changed or removed (by protocol number
//! and by device); a peer that is gone loses its route; what is right already is not touched, so packets under way do not
//! notice. Who may talk to whom is the firewall's business, not ours.
//!
//! Rejected: a routing daemon (the control plane knows every range), netlink from Rust (`ip -batch` says in the log what an
//! operator can type), WireGuard in here (it encrypts; where the underlay is not trusted, give its addresses as underlay).

mod keep;
mod kernel;
mod plan;
mod recording;

use std::net::Ipv4Addr;

use async_trait::async_trait;
use thiserror::Error;
use wherry_agent_api::Peer;

pub(crate) use keep::keep;
pub use kernel::KernelRoutes;
pub use recording::RecordingRoutes;

/// How packets to other nodes travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteMode {
    /// Nothing is routed: the operator's network knows every node's range already.
    Unmanaged,
    /// Each range is routed to its machine's address, which must be on a network of this machine.
    HostRoutes,
    /// Each range is carried in UDP packets to its machine's address, over any routers.
    Vxlan(Vxlan),
}

/// What all machines of a fleet must have in common, and what is this machine's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// Name of the device, at most 15 letters, digits and dashes.
    pub device: String,
    /// The network's number, 1 to 16777215.
    pub id: u32,
    /// UDP port at each machine.
    pub port: u16,
    /// This machine's underlay address.
    pub local: Ipv4Addr,
}

/// Why the routes are not as they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouteError {
    /// The program that changes routes cannot be run.
    #[error("cannot run {program}: {message}; is iproute2 installed?")]
    CannotRun {
        /// Which program.
        program: String,
        /// What the system said.
        message: String,
    },
    /// It did not end in time.
    #[error("the kernel's routes did not change within {0} s")]
    Timeout(u64),
    /// It refused.
    #[error("the kernel refused a route: {0}")]
    Refused(String),
    /// A peer's range would take this machine's own packets away.
    #[error("the range {range} of another node overlaps this node's own; the control plane must not hand out both")]
    Overlap {
        /// As `address/length`.
        range: String,
    },
}

/// The ways to other nodes.
#[async_trait]
pub trait RouteTable: Send + Sync {
    /// Makes the ways to the peers' ranges exactly these. A peer that cannot be reached does not keep the others from
    /// being served: the error tells of it afterwards.
    async fn keep(&self, peers: &[Peer]) -> Result<(), RouteError>;

    /// Removes every trace.
    async fn remove(&self) -> Result<(), RouteError>;
}
