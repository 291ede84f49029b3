//! Containers between CRI and the contract.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use wherry_model::Timestamp;
use wherry_runtime::{
    Container, ContainerConfig, ContainerId, ContainerState, ContainerStatus, Result, RuntimeError, SandboxId,
};

use crate::connection::{Connection, READ_LIMIT, answered, request};
use crate::failure::About;
use crate::generated::runtime::v1;
use crate::{mounts, profile};

/// CFS period in microseconds: the kernel's default.
const CPU_PERIOD_US: i64 = 100_000;

/// Smallest CFS quota that the kernel takes, in microseconds: 1 % of a core.
const CPU_QUOTA_MIN_US: i64 = 1_000;

/// Smallest weight that the kernel takes.
const CPU_SHARES_MIN: i64 = 2;

pub(crate) fn cri_config(config: &ContainerConfig) -> v1::ContainerConfig {
    let mut security = profile::container_security();
    if let Some(user) = &config.user {
        match numeric_user(user) {
            Some((uid, gid)) => {
                security.run_as_user = Some(v1::Int64Value { value: uid });
                security.run_as_group = gid.map(|value| v1::Int64Value { value });
            }
            None => security.run_as_username.clone_from(user),
        }
    }
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: config.name.clone(), attempt: config.attempt }),
        image: Some(v1::ImageSpec { image: config.image.clone(), ..v1::ImageSpec::default() }),
        command: config.command.clone(),
        args: config.args.clone(),
        working_dir: config.working_dir.clone().unwrap_or_default(),
        envs: environment(config),
        mounts: config
            .mounts
            .iter()
            .map(|mount| v1::Mount {
                container_path: mount.container_path.to_string_lossy().into_owned(),
                host_path: mounts::shown(mount).to_string_lossy().into_owned(),
                readonly: mount.read_only,
                ..v1::Mount::default()
            })
            .collect(),
        devices: config
            .devices
            .iter()
            .map(|device| v1::Device {
                container_path: device.container_path.to_string_lossy().into_owned(),
                host_path: device.host_path.to_string_lossy().into_owned(),
                // Making device files is not among it.
                permissions: "rw".to_owned(),
            })
            .collect(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        log_path: config.log_path.to_string_lossy().into_owned(),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        linux: Some(v1::LinuxContainerConfig { resources: Some(resources(config)), security_context: Some(security) }),
        ..v1::ContainerConfig::default()
    }
}

/// What is secret is in here too: the engine keeps a container's environment with it, on disk and for root, until it is removed.
fn environment(config: &ContainerConfig) -> Vec<v1::KeyValue> {
    let plain = config.env.iter().map(|(key, value)| (key, value.as_str()));
    let secret = config.secret_env.iter().map(|(key, value)| (key, value.expose()));
    plain.chain(secret).map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.to_owned() }).collect()
}

/// Limits; memory plus swap is memory, so there is no swap.
fn resources(config: &ContainerConfig) -> v1::LinuxContainerResources {
    let millis = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX / CPU_PERIOD_US);
    let cpu_millis = millis(config.cpu_millis);
    let memory = i64::try_from(config.memory_bytes).unwrap_or(i64::MAX);
    let mut limits = v1::LinuxContainerResources {
        oom_score_adj: profile::OOM_SCORE_ADJ,
        memory_limit_in_bytes: memory,
        memory_swap_limit_in_bytes: memory,
        ..v1::LinuxContainerResources::default()
    };
    if cpu_millis > 0 {
        limits.cpu_period = CPU_PERIOD_US;
        limits.cpu_quota = cpu_millis.saturating_mul(CPU_PERIOD_US / 1000).max(CPU_QUOTA_MIN_US);
        let reserved = if config.cpu_reserved_millis > 0 { millis(config.cpu_reserved_millis) } else { cpu_millis };
        limits.cpu_shares = (reserved.saturating_mul(1024) / 1000).max(CPU_SHARES_MIN);
    }
    limits
}

fn numeric_user(user: &str) -> Option<(i64, Option<i64>)> {
    let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
    let number = |text: &str| text.parse::<u32>().ok().map(i64::from);
    match gid {
        None => Some((number(uid)?, None)),
        Some(gid) => Some((number(uid)?, Some(number(gid)?))),
    }
}

fn state(number: i32) -> ContainerState {
    match v1::ContainerState::try_from(number) {
        Ok(v1::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(v1::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(v1::ContainerState::ContainerExited) => ContainerState::Exited,
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    }
}

pub(crate) fn listed(item: v1::Container) -> Container {
    let metadata = item.metadata.unwrap_or_default();
    Container {
        id: ContainerId::new(item.id),
        sandbox: SandboxId::new(item.pod_sandbox_id),
        name: metadata.name,
        attempt: metadata.attempt,
        state: state(item.state),
        created_at: Timestamp::from_nanos(item.created_at),
        image_id: item.image_ref,
        labels: item.labels,
    }
}

/// Asks for one; none when there is none.
pub(crate) async fn ask(connection: &Connection, id: &ContainerId) -> Result<Option<ContainerStatus>> {
    let message = v1::ContainerStatusRequest { container_id: id.to_string(), verbose: true };
    let mut client = connection.runtime();
    let answer = client.container_status(request(message, READ_LIMIT));
    match answered("ContainerStatus", About::Container(id.as_str()), READ_LIMIT, answer).await {
        Ok(response) => Ok(response.status.map(|known| status(known, &response.info))),
        Err(RuntimeError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Debug, Deserialize)]
struct Info {
    #[serde(default)]
    pid: u32,
}

pub(crate) fn status(status: v1::ContainerStatus, info: &BTreeMap<String, String>) -> ContainerStatus {
    let metadata = status.metadata.unwrap_or_default();
    let state = state(status.state);
    let moment = |nanos: i64| (nanos > 0).then(|| Timestamp::from_nanos(nanos));
    let parsed: Option<Info> = info.get("info").and_then(|text| serde_json::from_str(text).ok());
    let pid = parsed.map(|info| info.pid).filter(|&pid| pid > 0 && state == ContainerState::Running);
    ContainerStatus {
        id: ContainerId::new(status.id),
        name: metadata.name,
        attempt: metadata.attempt,
        state,
        created_at: Timestamp::from_nanos(status.created_at),
        started_at: moment(status.started_at),
        finished_at: moment(status.finished_at),
        exit_code: (state == ContainerState::Exited).then_some(status.exit_code),
        reason: status.reason,
        message: status.message,
        pid,
        log_path: PathBuf::from(status.log_path),
        image: status.image.map(|image| image.image).unwrap_or_default(),
        labels: status.labels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_stay_in_what_the_kernel_takes() {
        let of = |cpu_millis, memory_bytes, cpu_reserved_millis| {
            resources(&ContainerConfig { cpu_millis, memory_bytes, cpu_reserved_millis, ..ContainerConfig::default() })
        };
        let tiny = of(1, 4 << 20, 0);
        assert_eq!((tiny.cpu_quota, tiny.cpu_shares), (1_000, 2));
        assert_eq!(tiny.memory_limit_in_bytes, tiny.memory_swap_limit_in_bytes);
        let two_cores = of(2_000, 0, 0);
        assert_eq!((two_cores.cpu_quota, two_cores.cpu_period, two_cores.cpu_shares), (200_000, 100_000, 2048));
        assert_eq!(of(0, 0, 0).cpu_quota, 0);
        let more = of(2_000, 0, 500);
        assert_eq!((more.cpu_quota, more.cpu_shares), (200_000, 512));
    }

    #[test]
    fn users_are_numbers_or_names() {
        assert_eq!(numeric_user("1000"), Some((1000, None)));
        assert_eq!(numeric_user("0:33"), Some((0, Some(33))));
        assert_eq!(numeric_user("www-data"), None);
        assert_eq!(numeric_user("-1"), None);
    }
}
