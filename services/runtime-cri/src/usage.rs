//! What containers use: processor and memory from CRI's statistics, what a limit held back from the kernel's cgroup, and the
//! network from the sandbox's own namespace, where containerd 1.6 says nothing of it.

use std::collections::BTreeMap;
use std::path::Path;

use wherry_model::Timestamp;
use wherry_runtime::{ContainerId, ContainerUsage, NetworkUsage, Result, SandboxId, Usage};

use crate::connection::{Connection, READ_LIMIT, answered, request};
use crate::cri_sandboxes::CriSandboxes;
use crate::failure::About;
use crate::generated::runtime::v1;
use crate::port;

/// What the engine has measured of the containers' own file systems; it does so every ten seconds.
pub(crate) async fn written(connection: &Connection, id: &SandboxId) -> Result<BTreeMap<ContainerId, u64>> {
    let filter = v1::ContainerStatsFilter { pod_sandbox_id: id.to_string(), ..v1::ContainerStatsFilter::default() };
    let mut client = connection.runtime();
    let message = v1::ListContainerStatsRequest { filter: Some(filter) };
    let answer = client.list_container_stats(request(message, READ_LIMIT));
    let stats = answered("ListContainerStats", About::Sandbox(id.as_str()), READ_LIMIT, answer).await?.stats;
    let one = |stats: v1::ContainerStats| {
        Some((ContainerId::new(stats.attributes?.id), stats.writable_layer?.used_bytes?.value))
    };
    Ok(stats.into_iter().filter_map(one).collect())
}

pub(crate) async fn read(
    connection: &Connection,
    sandboxes: &CriSandboxes,
    id: &SandboxId,
    cgroup_name: &str,
) -> Result<Usage> {
    let filter = v1::ContainerStatsFilter { pod_sandbox_id: id.to_string(), ..v1::ContainerStatsFilter::default() };
    let mut client = connection.runtime();
    let message = v1::ListContainerStatsRequest { filter: Some(filter) };
    let answer = client.list_container_stats(request(message, READ_LIMIT));
    let stats = answered("ListContainerStats", About::Sandbox(id.as_str()), READ_LIMIT, answer).await?.stats;
    let mut containers: Vec<ContainerUsage> = stats
        .into_iter()
        .filter_map(|stats| {
            let mut usage = usage(stats)?;
            usage.throttled_nanos = sandboxes.cgroups.throttled_nanos(cgroup_name, usage.id.as_str());
            Some(usage)
        })
        .collect();
    containers.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(Usage { containers, network: network(sandboxes, id).await? })
}

/// None of a container that does not run: it has no numbers.
fn usage(stats: v1::ContainerStats) -> Option<ContainerUsage> {
    let (cpu, memory) = (stats.cpu?, stats.memory?);
    Some(ContainerUsage {
        id: ContainerId::new(stats.attributes?.id),
        at: Timestamp::from_nanos(cpu.timestamp),
        cpu_nanos: cpu.usage_core_nano_seconds?.value,
        throttled_nanos: None,
        memory_bytes: memory.working_set_bytes?.value,
    })
}

/// The counters of the namespace, found by the sandbox's first process; that it still was that is asked afterwards.
async fn network(sandboxes: &CriSandboxes, id: &SandboxId) -> Result<Option<NetworkUsage>> {
    let Some(pid) = port::ready_pid(sandboxes, id).await? else { return Ok(None) };
    let Ok(text) = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("net/dev")) else {
        return Ok(None);
    };
    let is_still_it = port::ready_pid(sandboxes, id).await? == Some(pid);
    Ok(if is_still_it { counters(&text) } else { None })
}

/// The sum over all interfaces but loopback, of `/proc/PID/net/dev`: eight columns of what came in, then eight of what went
/// out, bytes first (proc(5)). None when there is no other interface.
fn counters(text: &str) -> Option<NetworkUsage> {
    let mut all = text.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let mut numbers = numbers.split_whitespace();
        let received_bytes = numbers.next()?.parse().ok()?;
        let sent_bytes = numbers.nth(7)?.parse().ok()?;
        (name.trim() != "lo").then_some(NetworkUsage { received_bytes, sent_bytes })
    });
    let first = all.next()?;
    Some(all.fold(first, |sum, one| NetworkUsage {
        received_bytes: sum.received_bytes.saturating_add(one.received_bytes),
        sent_bytes: sum.sent_bytes.saturating_add(one.sent_bytes),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_without_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo:     900       9    0    0    0     0          0         0      900       9    0    0    0     0       0          0\n  \
             eth0: 1000      10    0    0    0     0          0         0      20       2    0    0    0     0       0          0\n  \
             eth1:       1       1    0    0    0     0          0         0       3       1    0    0    0     0       0          0\n";
        assert_eq!(counters(text), Some(NetworkUsage { received_bytes: 1001, sent_bytes: 23 }));
        assert_eq!(counters("Inter-|\n face |\n    lo: 1 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0\n"), None);
    }
}
