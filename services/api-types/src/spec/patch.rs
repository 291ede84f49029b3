//! What can be given to change an instance where it is. For the document and for clients that want it typed: the service reads it
//! as a JSON merge patch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ContainerSpec, DnsSettings, HostAlias, OnOverlap, Placement, Priority, RegistryCredential, Volume};
use crate::state::{Architecture, DnsReuseScope, Isolation, OnNodeLoss, RestartPolicy};

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
    /// What the containers may write to the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::text::DiskQuantity>)]
    pub ephemeral_disk: Option<String>,
    /// Once the instance has ended; fields of it that are absent stay too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<super::Gpu>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 16, maximum = 16384, example = 1024)]
    pub pids: Option<u32>,
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
    /// When it is started by the clock; fields of it that are absent stay too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<SchedulePatch>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
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
    /// As it is: a DNS name stays as long as its instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::text::InstanceName>)]
    pub dns_label: Option<String>,
    /// Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_reuse_scope: Option<DnsReuseScope>,
    /// Whether its DNS name is answered while its probes do not find it ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_unready: Option<bool>,
    /// All of them, as they are to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 16)]
    pub registry_credentials: Option<Vec<RegistryCredential>>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::text::ZoneName>)]
    pub zone: Option<String>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedicated: Option<bool>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Once the instance has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Marks to set, and with `null` to take away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::text::labels_schema)]
    pub labels: Option<BTreeMap<String, Option<String>>>,
}

/// What is to change of a Schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"suspended": true})))]
pub struct SchedulePatch {
    /// Needed by an instance that has no schedule yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub cron: Option<String>,
    /// A name of the IANA time zone database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub time_zone: Option<String>,
    /// Seconds after its time at which a run is not begun any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 10, maximum = 86_400)]
    pub starting_deadline_seconds: Option<u32>,
    /// What becomes of a run for which the time has come while the one before still goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_overlap: Option<OnOverlap>,
    /// Whether no run is begun for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
}
