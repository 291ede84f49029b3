//! What this machine is and what it hands out.

use std::path::Path;

use anyhow::Context as _;
use wherry_model::{Architecture, Capacity};

use crate::settings::Node;

/// Share of the memory that is left to the system and to Wherry itself, one part in so many.
const SYSTEM_SHARE: u64 = 16;

/// Share of the disk that is left to images, logs and the system, one part in so many.
const DISK_SHARE: u64 = 4;

/// Instances of one machine unless the operator says otherwise: a shim and a sandbox each cost a few MiB.
const DEFAULT_INSTANCES: u32 = 500;

/// The machine's capacity as configured, or as read from the machine.
pub(crate) fn capacity(node: &Node) -> anyhow::Result<Capacity> {
    let memory_mib = node.memory_mib.map_or_else(usable_memory_mib, Ok)?;
    let cpu_millis = node.cpu_millis.map_or_else(all_cpu_millis, Ok)?;
    Ok(Capacity { cpu_millis, memory_mib, instances: node.instances.unwrap_or(DEFAULT_INSTANCES) })
}

fn usable_memory_mib() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let total = total_memory_mib(&text).context("/proc/meminfo has no MemTotal")?;
    Ok(total - total / SYSTEM_SHARE)
}

fn all_cpu_millis() -> anyhow::Result<u64> {
    let cores = std::thread::available_parallelism().context("cannot count the processors")?.get();
    Ok(u64::try_from(cores).unwrap_or(u64::MAX).saturating_mul(1_000))
}

fn total_memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// What is handed out of the file system on which instances write: all but what images, logs and the system need. None when it cannot
/// be read: then it is not counted.
pub(crate) fn disk_mib(folder: &Path) -> Option<u64> {
    let seen = rustix::fs::statvfs(folder).ok()?;
    let total_mib = seen.f_blocks.saturating_mul(seen.f_frsize) >> 20;
    Some(total_mib - total_mib / DISK_SHARE)
}

/// The machine's kind.
pub(crate) fn architecture() -> anyhow::Result<Architecture> {
    std::env::consts::ARCH
        .parse()
        .map_err(|_| anyhow::anyhow!("Wherry runs on x86-64 and AArch64, not on this machine"))
}

/// The machine's name: the configured one, or its host name.
pub(crate) fn name(node: &Node) -> String {
    node.name.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
        let host = host.trim();
        if host.is_empty() { "node".to_owned() } else { host.to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(total_memory_mib("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_000));
        assert_eq!(total_memory_mib("nothing"), None);
    }

    #[test]
    fn settings_win_over_the_machine() {
        let node = Node {
            name: Some("n1".into()),
            cpu_millis: Some(1),
            memory_mib: Some(2),
            instances: Some(3),
            ..Node::default()
        };
        assert_eq!(capacity(&node).unwrap(), Capacity { cpu_millis: 1, memory_mib: 2, instances: 3 });
        assert_eq!(name(&node), "n1");
        let read = capacity(&Node::default()).unwrap();
        assert!(read.cpu_millis >= 1_000 && read.memory_mib > 0);
    }
}
