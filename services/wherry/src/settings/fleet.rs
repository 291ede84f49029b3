//! `[agents]` and `[fleet]`: what is only of interest when there is more than one machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use wherry_model::Overcommit;

use super::parse_range;

/// Where a control plane takes agents' calls unless told otherwise.
pub(crate) const DEFAULT_AGENTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7443);

/// `[agents]`: how other machines reach the control plane.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Agents {
    /// Where agents' calls are taken. `wherry up` takes none unless this is given.
    pub(crate) listen: Option<SocketAddr>,
    /// What agents are told to call, `https://HOST:PORT`; from `listen` when absent.
    pub(crate) advertise: Option<String>,
    /// How long a node's certificate lives. It is renewed at two thirds of it.
    pub(crate) certificate_seconds: u64,
    /// Certificate (or chain) and key of an authority of the operator's own; one is made in `keys/` when absent.
    pub(crate) ca_certificate: Option<PathBuf>,
    pub(crate) ca_key: Option<PathBuf>,
}

impl Default for Agents {
    fn default() -> Self {
        Self { listen: None, advertise: None, certificate_seconds: 24 * 3_600, ca_certificate: None, ca_key: None }
    }
}

impl Agents {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        // Shorter ones would be renewed all the time, longer ones would not be short-lived.
        anyhow::ensure!(
            (10..=90 * 86_400).contains(&self.certificate_seconds),
            "certificate_seconds: from 10 seconds to 90 days"
        );
        anyhow::ensure!(
            self.ca_certificate.is_some() == self.ca_key.is_some(),
            "ca_certificate and ca_key belong together"
        );
        if let Some(url) = &self.advertise {
            let host = url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/')).unwrap_or_default();
            let is_right =
                host.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            anyhow::ensure!(is_right && !host.contains('/'), "advertise: write https://HOST:PORT");
        }
        Ok(())
    }
}

/// `[fleet]`: what all replicas and nodes must mean the same by.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fleet {
    /// What nodes' ranges are cut from.
    pub(crate) range: String,
    /// Prefix length of one node's range.
    pub(crate) node_prefix: u8,
    /// Silence after which a node's instances are `unknown`.
    pub(crate) detection_seconds: u64,
    /// After so long without a renewed lease a node ends its instances of `on_node_loss: replace` by itself.
    pub(crate) fence_after_seconds: u32,
    /// How much later they are run elsewhere.
    pub(crate) fence_margin_seconds: u64,
    /// How long the background work of a replica that died waits for another.
    pub(crate) lease_seconds: u64,
    /// How long deleted instances can be read, with their events, and idempotency keys are remembered.
    pub(crate) deleted_days: u64,
    /// How long one round of forgetting what is past its time may take.
    pub(crate) forget_seconds: u64,
    /// How long it stays on record who entered an instance.
    pub(crate) audit_days: u64,
    /// Events of one instance that are kept.
    pub(crate) events_per_instance: u32,
    /// How often instances of one tenant may be entered within an hour, through each replica.
    pub(crate) entries_per_hour: u32,
    /// Whether `limits` of a container may be above what is reserved for it.
    pub(crate) allow_limits_above_request: bool,
    /// How much of what machines have they hand out, in percent: of CPU, memory and disk.
    pub(crate) overcommit_cpu_percent: u16,
    pub(crate) overcommit_memory_percent: u16,
    pub(crate) overcommit_disk_percent: u16,
    /// Whether it is learnt how long instances run, so that those of a machine end together.
    pub(crate) learn_lifetimes: bool,
    /// From the event that tells a spot instance to make room to its stop.
    pub(crate) spot_notice_seconds: u64,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            range: "10.128.0.0/10".to_owned(),
            node_prefix: 24,
            detection_seconds: 15,
            fence_after_seconds: 300,
            fence_margin_seconds: 45,
            lease_seconds: 5,
            deleted_days: 7,
            forget_seconds: 20,
            audit_days: 90,
            events_per_instance: 2_000,
            entries_per_hour: 7_200,
            allow_limits_above_request: false,
            overcommit_cpu_percent: 100,
            overcommit_memory_percent: 100,
            overcommit_disk_percent: 100,
            learn_lifetimes: true,
            spot_notice_seconds: 30,
        }
    }
}

impl Fleet {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let (_, bits) = parse_range(&self.range).context("range")?;
        anyhow::ensure!(
            (bits..=28).contains(&self.node_prefix),
            "node_prefix: from {bits}, the prefix length of the range, to 28"
        );
        // An agent proves life every two seconds: one that was late once is not silent.
        anyhow::ensure!((5..=600).contains(&self.detection_seconds), "detection_seconds: from 5 to 600");
        anyhow::ensure!(
            (10..=86_400).contains(&self.fence_after_seconds)
                && u64::from(self.fence_after_seconds) >= self.detection_seconds,
            "fence_after_seconds: from 10 to 86400, and not less than detection_seconds"
        );
        // The guard of a dead agent acts ten seconds after the agent should have, and ending containers takes a moment.
        anyhow::ensure!((20..=3_600).contains(&self.fence_margin_seconds), "fence_margin_seconds: from 20 to 3600");
        anyhow::ensure!((1..=60).contains(&self.lease_seconds), "lease_seconds: from 1 to 60");
        // Idempotency keys are promised for a day.
        anyhow::ensure!((1..=3_650).contains(&self.deleted_days), "deleted_days: from 1 to 3650");
        anyhow::ensure!((1..=50).contains(&self.forget_seconds), "forget_seconds: from 1 to 50");
        anyhow::ensure!((1..=3_650).contains(&self.audit_days), "audit_days: from 1 to 3650");
        anyhow::ensure!(
            (100..=1_000_000).contains(&self.events_per_instance),
            "events_per_instance: from 100 to 1000000"
        );
        anyhow::ensure!((60..=1_000_000).contains(&self.entries_per_hour), "entries_per_hour: from 60 to 1000000");
        anyhow::ensure!((1..=3_600).contains(&self.spot_notice_seconds), "spot_notice_seconds: from 1 to 3600");
        for (key, percent) in [
            ("overcommit_cpu_percent", self.overcommit_cpu_percent),
            ("overcommit_memory_percent", self.overcommit_memory_percent),
            ("overcommit_disk_percent", self.overcommit_disk_percent),
        ] {
            anyhow::ensure!((100..=1_000).contains(&percent), "{key}: from 100 to 1000");
        }
        Ok(())
    }

    pub(crate) const fn overcommit(&self) -> Overcommit {
        Overcommit {
            cpu_percent: self.overcommit_cpu_percent,
            memory_percent: self.overcommit_memory_percent,
            disk_percent: self.overcommit_disk_percent,
        }
    }

    pub(crate) const fn detection(&self) -> Duration {
        Duration::from_secs(self.detection_seconds)
    }

    pub(crate) const fn fence_margin(&self) -> Duration {
        Duration::from_secs(self.fence_margin_seconds)
    }

    pub(crate) const fn audit_retention(&self) -> Duration {
        Duration::from_hours(24 * self.audit_days)
    }

    pub(crate) const fn deleted_retention(&self) -> Duration {
        Duration::from_hours(24 * self.deleted_days)
    }

    pub(crate) const fn forgetting(&self) -> Duration {
        Duration::from_secs(self.forget_seconds)
    }

    pub(crate) const fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }
}

/// How packets to other nodes' instances travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NetworkMode {
    /// A route to each node's range by that node's address: all nodes are on one network, without routers between.
    #[default]
    HostRoutes,
    /// In UDP packets, over any routers.
    Vxlan,
    /// The operator's network knows every node's range.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ranges_that_contradict_each_other_are_refused() {
        Fleet::default().check().unwrap();
        let wrong = [
            Fleet { node_prefix: 9, ..Fleet::default() },
            Fleet { range: "10.128.0.0/40".to_owned(), ..Fleet::default() },
            Fleet { detection_seconds: 60, fence_after_seconds: 30, ..Fleet::default() },
            Fleet { fence_margin_seconds: 0, ..Fleet::default() },
            Fleet { lease_seconds: 0, ..Fleet::default() },
            Fleet { audit_days: 0, ..Fleet::default() },
            Fleet { deleted_days: 0, ..Fleet::default() },
            Fleet { forget_seconds: 60, ..Fleet::default() },
            Fleet { entries_per_hour: 59, ..Fleet::default() },
            Fleet { events_per_instance: 99, ..Fleet::default() },
            Fleet { overcommit_cpu_percent: 99, ..Fleet::default() },
            Fleet { spot_notice_seconds: 0, ..Fleet::default() },
            Fleet { overcommit_memory_percent: 1_001, ..Fleet::default() },
        ];
        for fleet in wrong {
            assert!(fleet.check().is_err(), "{fleet:?}");
        }
    }

    #[test]
    fn what_agents_are_told_to_call_is_a_whole_url() {
        Agents::default().check().unwrap();
        let advertise = |url: &str| Agents { advertise: Some(url.to_owned()), ..Agents::default() }.check();
        advertise("https://control.example:7443").unwrap();
        advertise("https://[2001:db8::1]:7443/").unwrap();
        for wrong in
            ["control.example:7443", "http://a:1", "https://a", "https://:7443", "https://a:x", "https://a:1/b"]
        {
            assert!(advertise(wrong).is_err(), "{wrong}");
        }
        assert!(Agents { ca_key: Some("/k".into()), ..Agents::default() }.check().is_err());
    }
}
