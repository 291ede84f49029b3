//! What can be given to change an instance where it is. For the document and for clients that want it typed: the service reads it
//! as a JSON merge patch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ContainerSpec, DnsSettings, HostAlias, Volume};
use crate::state::{Architecture, OnNodeLoss, RestartPolicy};

/// A JSON merge patch of an InstanceSpec: what is absent stays, `null` is the default again, lists are replaced whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"labels": {"team": "net", "old": null}, "ttl_seconds": 600})))]
pub struct InstancePatch {
    /// All of them, as they are to be; their names and order stay while the instance is there to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<ContainerSpec>, min_items = 1, max_items = 60)]
    pub containers: Option<Vec<ContainerSpec>>,
    /// Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 59)]
    pub init_containers: Option<Vec<ContainerSpec>>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 32)]
    pub volumes: Option<Vec<Volume>>,
    /// What happens when a container ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// How often a container is started again by that policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub max_restarts: Option<u32>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// Seconds between the stop signal and SIGKILL at a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 600)]
    pub stop_grace_seconds: Option<u32>,
    /// Seconds after which it is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31_622_400)]
    pub deadline_seconds: Option<u32>,
    /// Seconds after its end by itself at which it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 31_622_400)]
    pub ttl_seconds: Option<u32>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_node_loss: Option<OnNodeLoss>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsSettings>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 64)]
    pub host_aliases: Option<Vec<HostAlias>>,
    /// Whether its DNS name is answered while its probes do not find it ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_unready: Option<bool>,
    /// Marks to set, and with `null` to take away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::text::labels_schema)]
    pub labels: Option<BTreeMap<String, Option<String>>>,
}
