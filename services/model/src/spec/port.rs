//! Ports that an instance offers.

use serde::{Deserialize, Serialize};

use crate::name::PortName;

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// A port that the instance offers to everybody who can route to it. Ports not named here stay inside the project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// On which the container listens: 1 to 65535.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// For people and for SRV records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PortName>,
    /// At which the others reach it, on the instance's address; `port` itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
}

impl Port {
    /// A port without name, reached where the container listens.
    pub const fn new(port: u16, protocol: Protocol) -> Self {
        Self { port, protocol, name: None, public_port: None }
    }

    /// At which the others reach it.
    pub fn public(&self) -> u16 {
        self.public_port.unwrap_or(self.port)
    }
}
