//! What an instance finds around it: names and registries.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::sealed::Sealed;

/// Name resolution inside, instead of or beside the service's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DnsSettings {
    /// Name servers instead of the service's; names of the project's other instances are then not found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Search domains behind that of the project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Resolver options, for example `ndots:2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl DnsSettings {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.searches.is_empty() && self.options.is_empty()
    }
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    /// Address.
    pub address: IpAddr,
    /// Names that mean it, at least one.
    pub names: Vec<String>,
}

/// Who the instance is for a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryCredential {
    /// Host and port, as in image references.
    pub registry: String,
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: Sealed,
}
