//! `[logs]`: how much of what containers print is kept.

use std::time::Duration;

use serde::Deserialize;
use wherry_node_agent::LogLimits;

/// Bounds for each container and instance on this machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Logs {
    pub(crate) container_mib: u64,
    pub(crate) instance_mib: u64,
    /// Runs of one container.
    pub(crate) runs: u32,
    /// What a container may print in a second, in the long run.
    pub(crate) rate_kib: u64,
    /// What it may print at once.
    pub(crate) burst_kib: u64,
    /// How long the logs of deleted instances are kept.
    pub(crate) keep_deleted_seconds: u64,
    /// Most of the disk that these take, in hundredths.
    pub(crate) deleted_disk_percent: u8,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

impl Default for Logs {
    fn default() -> Self {
        let limits = LogLimits::default();
        Self {
            container_mib: limits.container_bytes / MIB,
            instance_mib: limits.instance_bytes / MIB,
            runs: limits.runs,
            rate_kib: limits.rate_bytes / KIB,
            burst_kib: limits.burst_bytes / KIB,
            keep_deleted_seconds: limits.keep_deleted.as_secs(),
            deleted_disk_percent: limits.deleted_disk_percent,
        }
    }
}

impl Logs {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=1 << 20).contains(&self.container_mib), "container_mib: it is 1 to 1048576");
        let instance = self.container_mib..=1 << 20;
        anyhow::ensure!(instance.contains(&self.instance_mib), "instance_mib: it is container_mib to 1048576");
        anyhow::ensure!((1..=1_000).contains(&self.runs), "runs: it is 1 to 1000");
        anyhow::ensure!((1..=1 << 30).contains(&self.rate_kib), "rate_kib: it is 1 to 1073741824");
        anyhow::ensure!((64..=1 << 30).contains(&self.burst_kib), "burst_kib: it is 64 to 1073741824");
        let most = 366 * 86_400;
        anyhow::ensure!(self.keep_deleted_seconds <= most, "keep_deleted_seconds: the most is {most}");
        anyhow::ensure!(self.deleted_disk_percent <= 50, "deleted_disk_percent: the most is 50");
        Ok(())
    }

    /// As the agent takes them.
    pub(crate) fn limits(&self) -> LogLimits {
        LogLimits {
            container_bytes: self.container_mib * MIB,
            instance_bytes: self.instance_mib * MIB,
            runs: self.runs,
            rate_bytes: self.rate_kib * KIB,
            burst_bytes: self.burst_kib * KIB,
            keep_deleted: Duration::from_secs(self.keep_deleted_seconds),
            deleted_disk_percent: self.deleted_disk_percent,
            ..LogLimits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_agents_and_allowed() {
        let logs = Logs::default();
        logs.check().unwrap();
        assert_eq!(logs.limits(), LogLimits::default());
        let wrong = Logs { container_mib: 64, instance_mib: 63, ..Logs::default() };
        assert!(wrong.check().unwrap_err().to_string().starts_with("instance_mib"));
        assert!(Logs { burst_kib: 1, ..Logs::default() }.check().is_err());
    }
}
