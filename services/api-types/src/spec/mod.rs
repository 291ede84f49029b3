//! What a tenant asks for. Fields that are not written here are refused, never ignored.

mod container;
mod gpu;
mod patch;
mod place;
mod probe;
mod schedule;
mod secret;
mod surroundings;
mod volume;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::{Architecture, DnsReuseScope, Isolation, OnNodeLoss, RestartPolicy};
use crate::{number, text};

pub use container::{
    Condition, ContainerSpec, DEFAULT_CONTAINER_NAME, DEFAULT_CPU, DEFAULT_MEMORY, Dependency, EnvVar, Port,
    PullPolicy, ResourceLimits,
};
pub use gpu::Gpu;
pub use patch::{InstancePatch, SchedulePatch};
pub use place::{Placement, Priority, Spread, SpreadOver};
pub use probe::{ExecCheck, Hook, HttpCheck, HttpHeader, HttpScheme, Probe, TcpCheck};
pub use schedule::{DEFAULT_STARTING_DEADLINE_SECONDS, OnOverlap, Schedule};
pub use secret::{MAX_SECRET_CHARACTERS, RegistryCredential, SecretText, SecretVolume};
pub use surroundings::{DnsSettings, HostAlias};
pub use volume::{ConfigVolume, EmptyDirVolume, GitVolume, Medium, Volume, VolumeMount};

/// Seconds between the stop signal and SIGKILL unless something else is asked for.
pub const DEFAULT_STOP_GRACE_SECONDS: u32 = 10;

/// Body of a create.
pub type InstanceCreate = InstanceSpec;

/// An instance as it is asked for. Everything but `containers` has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "name": "web",
    "containers": [{"image": "registry.example/team/web:1", "cpu": "250m", "memory": "64Mi", "ports": [{"port": 80}]}]
})))]
pub struct InstanceSpec {
    /// Unique in the project; made up by a create when absent. Where the path names the instance it is the same or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::InstanceName>)]
    pub name: Option<String>,
    /// What runs. They share network, volumes and fate; with the `init_containers` at most 60.
    #[schema(min_items = 1, max_items = 60)]
    pub containers: Vec<ContainerSpec>,
    /// What runs before them, one after the other, each to its success.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 59)]
    pub init_containers: Vec<ContainerSpec>,
    /// Folders that the containers share; they live through restarts of the containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub volumes: Vec<Volume>,
    /// What the containers may write to the disk, in their own file systems and in volumes on disk together; 20Gi unless the
    /// operator has set another size. An instance that writes more is ended with the reason `disk_exceeded`. No room is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::DiskQuantity>)]
    pub ephemeral_disk: Option<String>,
    /// GPUs, which all its containers see; none when absent. Refused where no machine has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// Most processes and threads of all its containers together; 1024 unless the operator has set another number.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 16, maximum = 16384, example = 1024)]
    pub pids: Option<u32>,
    /// What happens when a container ends by itself; `on_failure` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// How often a container is started again by that policy before it stays ended; without a bound when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 0, maximum = 1_000_000, example = 5)]
    pub max_restarts: Option<u32>,
    /// Only machines of this kind will do; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// Seconds between the stop signal and SIGKILL at a stop; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 0, maximum = 600, example = 10)]
    pub stop_grace_seconds: Option<u32>,
    /// Seconds after which it is ended, counted from its first start since it was last asked to run; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 1, maximum = 31_622_400, example = 3600)]
    pub deadline_seconds: Option<u32>,
    /// Seconds after its end by itself at which it is deleted; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 0, maximum = 31_622_400, example = 600)]
    pub ttl_seconds: Option<u32>,
    /// When it is started by the clock; as soon as it is created, and never by the clock, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// How far it is kept apart from what else runs on its machine; `shared` when absent. Refused where no machine offers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// What happens when its machine is lost; `keep` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_node_loss: Option<OnNodeLoss>,
    /// Name resolution inside; that of the service when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsSettings>,
    /// Further lines of `/etc/hosts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub host_aliases: Vec<HostAlias>,
    /// The first label of its DNS name; the name of the instance when absent. It stays as long as the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::InstanceName>)]
    pub dns_label: Option<String>,
    /// Among whom that label is unique, and who can have the DNS name later; `project` when absent. It stays as long as the
    /// instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_reuse_scope: Option<DnsReuseScope>,
    /// Whether its DNS name is answered while its probes do not find it ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish_unready: bool,
    /// Who it is for registries, when its images are pulled; others are asked without a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub registry_credentials: Vec<RegistryCredential>,
    /// Only machines of this zone will do; any when absent. Refused where no machine is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::ZoneName>)]
    pub zone: Option<String>,
    /// Only a machine on which no other tenant has anything; and none gets there while this is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated: bool,
    /// Whether it makes room for others; `regular` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Where, by the tenant's other instances. It is kept when an instance is placed; what runs is not moved because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The tenant's own marks; lists can be filtered by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = text::labels_schema)]
    pub labels: BTreeMap<String, String>,
}

impl InstanceSpec {
    /// The name, and the rest.
    pub fn split(mut self) -> (Option<String>, Self) {
        (self.name.take(), self)
    }

    /// The same under `name`.
    #[must_use]
    pub fn named(self, name: Option<String>) -> Self {
        Self { name, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused_at_every_level() {
        for body in [
            r#"{"containers":[],"node":"n1"}"#,
            r#"{"containers":[{"image":"r.example/a","privileged":true}]}"#,
            r#"{"containers":[{"image":"r.example/a","ports":[{"port":80,"host_port":80}]}]}"#,
            r#"{"containers":[{"image":"r.example/a","env":[{"name":"A","value":"","hidden":true}]}]}"#,
            r#"{"containers":[{"image":"r.example/a","liveness_probe":{"tcp":{"port":80},"every":1}}]}"#,
            r#"{"containers":[{"image":"r.example/a"}],"volumes":[{"name":"v","host_path":{"path":"/"}}]}"#,
        ] {
            let error = serde_json::from_str::<InstanceCreate>(body).unwrap_err().to_string();
            assert!(error.starts_with("unknown field") && error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn a_create_is_a_name_and_a_spec() {
        let body = r#"{"name":"web","containers":[{"image":"r.example/a:1"}],"stop_grace_seconds":3}"#;
        let create: InstanceCreate = serde_json::from_str(body).unwrap();
        let (name, spec) = create.clone().split();
        assert_eq!(spec.named(name), create);
        assert_eq!(serde_json::to_string(&create).unwrap(), body);
    }
}
