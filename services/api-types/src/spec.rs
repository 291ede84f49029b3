//! What a tenant asks for. Fields that are not written here are refused, never ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::{Architecture, OnNodeLoss, Protocol, RestartPolicy};
use crate::{number, text};

/// The CPU of a container that does not ask for any.
pub const DEFAULT_CPU: &str = "250m";
/// The memory of a container that does not ask for any.
pub const DEFAULT_MEMORY: &str = "128Mi";
/// The name of a container that has none.
pub const DEFAULT_CONTAINER_NAME: &str = "main";
/// Seconds between SIGTERM and SIGKILL unless something else is asked for.
pub const DEFAULT_STOP_GRACE_SECONDS: u32 = 10;

/// Body of a create. Everything but `containers` has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "name": "web",
    "containers": [{"image": "registry.example/team/web:1", "cpu": "250m", "memory": "64Mi", "ports": [{"port": 80}]}]
})))]
pub struct InstanceCreate {
    /// Unique in the project; made up when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::InstanceName>)]
    pub name: Option<String>,
    /// Exactly one, for now.
    #[schema(min_items = 1, max_items = 1)]
    pub containers: Vec<ContainerSpec>,
    /// What happens when a container ends by itself; `on_failure` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Only machines of this kind will do; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// Seconds between SIGTERM and SIGKILL at a stop; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 0, maximum = 600, example = 10)]
    pub stop_grace_seconds: Option<u32>,
    /// What happens when its machine is lost; `keep` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_node_loss: Option<OnNodeLoss>,
    /// The tenant's own marks; lists can be filtered by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = text::labels_schema)]
    pub labels: BTreeMap<String, String>,
}

/// Body of a PUT: a create whose name is in the path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "containers": [{"image": "registry.example/team/web:1", "cpu": "250m", "memory": "64Mi", "ports": [{"port": 80}]}]
})))]
pub struct InstanceSpec {
    /// Exactly one, for now.
    #[schema(min_items = 1, max_items = 1)]
    pub containers: Vec<ContainerSpec>,
    /// What happens when a container ends by itself; `on_failure` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Only machines of this kind will do; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// Seconds between SIGTERM and SIGKILL at a stop; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 0, maximum = 600, example = 10)]
    pub stop_grace_seconds: Option<u32>,
    /// What happens when its machine is lost; `keep` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_node_loss: Option<OnNodeLoss>,
    /// The tenant's own marks; lists can be filtered by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = text::labels_schema)]
    pub labels: BTreeMap<String, String>,
}

impl InstanceCreate {
    /// The name, and the rest.
    pub fn split(self) -> (Option<String>, InstanceSpec) {
        let Self { name, containers, restart_policy, architecture, stop_grace_seconds, on_node_loss, labels } = self;
        (name, InstanceSpec { containers, restart_policy, architecture, stop_grace_seconds, on_node_loss, labels })
    }
}

impl InstanceSpec {
    /// The create that asks for this under `name`.
    pub fn named(self, name: Option<String>) -> InstanceCreate {
        let Self { containers, restart_policy, architecture, stop_grace_seconds, on_node_loss, labels } = self;
        InstanceCreate { name, containers, restart_policy, architecture, stop_grace_seconds, on_node_loss, labels }
    }
}

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// Unique in the instance; `main` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::LabelName>)]
    pub name: Option<String>,
    /// What to run.
    #[schema(value_type = text::ImageReference)]
    pub image: String,
    /// Replaces the image's entrypoint when not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::PlainText>, max_items = 256)]
    pub command: Vec<String>,
    /// Replaces the image's command when not empty. Together with `command` at most 32 KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::PlainText>, max_items = 256)]
    pub args: Vec<String>,
    /// Added to the image's environment, at most 64 KiB in all. Of two entries with the same name the later wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 256)]
    pub env: Vec<EnvVar>,
    /// Where the program starts; the image's directory when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::AbsolutePath>)]
    pub working_dir: Option<String>,
    /// CPU: reserved, limit, and metered as asked; `250m` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::CpuQuantity>)]
    pub cpu: Option<String>,
    /// Memory: reserved, limit without swap, and metered as asked; `128Mi` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::MemoryQuantity>)]
    pub memory: Option<String>,
    /// Ports offered to everybody who can route to the instance, as a set: naming one twice is naming it once. Ports
    /// that are not named stay inside the project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub ports: Vec<Port>,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvVar {
    /// Its name.
    #[schema(value_type = text::EnvName)]
    pub name: String,
    /// Its value.
    #[schema(value_type = text::PlainText)]
    pub value: String,
}

/// One offered port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its number.
    #[serde(deserialize_with = "number::whole")]
    #[schema(minimum = 1, maximum = 65535, example = 80)]
    pub port: u16,
    /// `tcp` when absent.
    #[serde(default)]
    pub protocol: Protocol,
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
            r#"{"containers":[{"image":"r.example/a","env":[{"name":"A","value":"","secret":true}]}]}"#,
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
