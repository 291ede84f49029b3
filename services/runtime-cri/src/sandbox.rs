//! Sandboxes between CRI and the contract.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;
use wherry_model::Timestamp;
use wherry_runtime::{Sandbox, SandboxConfig, SandboxId, SandboxState, SandboxStatus};

use crate::generated::runtime::v1;
use crate::profile;

/// Annotation that remembers the instance's cgroup for its removal; not shown to callers.
pub(crate) const CGROUP_ANNOTATION: &str = "wherry.runtime/cgroup";

pub(crate) fn cri_config(config: &SandboxConfig, cgroup_parent: String) -> v1::PodSandboxConfig {
    let mut annotations = config.annotations.clone();
    annotations.insert(CGROUP_ANNOTATION.to_owned(), config.cgroup_name.clone());
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: config.name.clone(),
            uid: config.uid.clone(),
            namespace: config.namespace.clone(),
            attempt: config.attempt,
        }),
        hostname: config.hostname.clone(),
        log_directory: config.log_directory.to_string_lossy().into_owned(),
        dns_config: Some(v1::DnsConfig {
            servers: config.dns.servers.iter().map(ToString::to_string).collect(),
            searches: config.dns.searches.clone(),
            options: config.dns.options.clone(),
        }),
        labels: config.labels.clone(),
        annotations,
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent,
            security_context: Some(profile::sandbox_security()),
            sysctls: profile::sysctls(&config.sysctls),
            ..v1::LinuxPodSandboxConfig::default()
        }),
        ..v1::PodSandboxConfig::default()
    }
}

fn state(number: i32) -> SandboxState {
    match v1::PodSandboxState::try_from(number) {
        Ok(v1::PodSandboxState::SandboxReady) => SandboxState::Ready,
        Ok(v1::PodSandboxState::SandboxNotready) | Err(_) => SandboxState::NotReady,
    }
}

pub(crate) fn listed(item: v1::PodSandbox) -> Sandbox {
    let metadata = item.metadata.unwrap_or_default();
    let mut annotations = item.annotations;
    annotations.remove(CGROUP_ANNOTATION);
    Sandbox {
        id: SandboxId::new(item.id),
        name: metadata.name,
        uid: metadata.uid,
        namespace: metadata.namespace,
        attempt: metadata.attempt,
        state: state(item.state),
        created_at: Timestamp::from_nanos(item.created_at),
        labels: item.labels,
        annotations,
    }
}

/// What a listing would show of a sandbox.
pub(crate) fn item(status: v1::PodSandboxStatus) -> v1::PodSandbox {
    v1::PodSandbox {
        id: status.id,
        metadata: status.metadata,
        state: status.state,
        created_at: status.created_at,
        labels: status.labels,
        annotations: status.annotations,
        runtime_handler: status.runtime_handler,
    }
}

pub(crate) fn address(status: &v1::PodSandboxStatus) -> Option<Ipv4Addr> {
    status.network.as_ref().and_then(|network| network.ip.parse().ok())
}

pub(crate) fn status(item: v1::PodSandbox, address: Option<Ipv4Addr>) -> SandboxStatus {
    let sandbox = listed(item);
    // containerd keeps showing the address of a stopped sandbox, whose address is free for others.
    let address = if sandbox.state == SandboxState::Ready { address } else { None };
    SandboxStatus { sandbox, address }
}

pub(crate) fn is_ready(status: &v1::PodSandboxStatus) -> bool {
    state(status.state) == SandboxState::Ready
}

/// Path of the sandbox's network namespace, from containerd's verbose status.
pub(crate) fn network_namespace(info: &BTreeMap<String, String>) -> Option<String> {
    let document: Value = serde_json::from_str(info.get("info")?).ok()?;
    let namespaces = document.pointer("/runtimeSpec/linux/namespaces")?.as_array()?;
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network")?;
    Some(network["path"].as_str()?.to_owned())
}

/// Process id of the sandbox's first process, from containerd's verbose status.
pub(crate) fn pid(info: &BTreeMap<String, String>) -> Option<u64> {
    let document: Value = serde_json::from_str(info.get("info")?).ok()?;
    document["pid"].as_u64().filter(|&pid| pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_namespace_is_found_in_the_verbose_status() {
        let text = r#"{"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/n/1"}]}}}"#;
        assert_eq!(network_namespace(&BTreeMap::from([("info".into(), text.into())])), Some("/run/n/1".into()));
        assert_eq!(network_namespace(&BTreeMap::new()), None);
    }
}
