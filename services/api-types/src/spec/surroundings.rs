//! What an instance finds around it, and when it is to run.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text;

/// Name resolution inside, instead of or beside the service's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsSettings {
    /// Name servers instead of the service's; names of the project's other instances are then not found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::IpAddress>, max_items = 6)]
    pub servers: Vec<String>,
    /// Search domains behind that of the project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::DomainName>, max_items = 6)]
    pub searches: Vec<String>,
    /// Options of resolv.conf(5), for example `ndots:2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::ResolverOption>, max_items = 6)]
    pub options: Vec<String>,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostAlias {
    /// Address.
    #[schema(value_type = text::IpAddress)]
    pub address: String,
    /// Names that mean it.
    #[schema(value_type = Vec<text::DomainName>, min_items = 1, max_items = 64)]
    pub names: Vec<String>,
}
