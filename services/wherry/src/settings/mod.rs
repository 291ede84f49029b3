//! What an operator can set: `wherry.toml` in the data folder, or the file that `--config` names. Every key has a
//! default, an unknown key is an error, and flags win over the file.

mod at_once;
mod fleet;
mod gpus;
mod images;
mod logs;
#[cfg(test)]
mod page;
mod secrets;
mod store;
mod webhooks;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use wherry_model::{Isolation, Limits, MemoryMib, PriceBook, ZoneName};
use wherry_node_agent::AgentConfig;
use wherry_runtime_cri::containerd::Handler;

pub(crate) use fleet::{Agents, DEFAULT_AGENTS, Fleet, NetworkMode};
pub(crate) use images::Images;
pub(crate) use logs::Logs;
pub(crate) use secrets::Secrets;
pub(crate) use store::{Store, without_password};
pub(crate) use webhooks::Webhooks;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) listen: Listen,
    pub(crate) store: Store,
    pub(crate) secrets: Secrets,
    pub(crate) agents: Agents,
    pub(crate) fleet: Fleet,
    pub(crate) names: Names,
    pub(crate) node: Node,
    pub(crate) network: Network,
    pub(crate) containerd: Containerd,
    pub(crate) images: Images,
    pub(crate) logs: Logs,
    pub(crate) webhooks: Webhooks,
    pub(crate) auth: Auth,
    pub(crate) prices: Option<PriceBook>,
}

/// `[listen]`: where Wherry answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// The public API.
    pub(crate) api: SocketAddr,
    /// Metrics and health, for operators only.
    pub(crate) operator: SocketAddr,
    /// Instance names, over UDP and TCP.
    pub(crate) dns: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { api: local(7070), operator: local(7071), dns: local(7053) }
    }
}

/// `[names]`: `<name>.<project>.<region>.<zone>`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Names {
    pub(crate) region: String,
    pub(crate) zone: String,
    /// Seconds that an answer may be kept, 0 to 30.
    pub(crate) ttl_seconds: u32,
}

impl Default for Names {
    fn default() -> Self {
        Self { region: "local".to_owned(), zone: "wherry.internal".to_owned(), ttl_seconds: 5 }
    }
}

/// `[node]`: what this machine hands out. Absent values are read from the machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    pub(crate) name: Option<String>,
    pub(crate) cpu_millis: Option<u64>,
    pub(crate) memory_mib: Option<u64>,
    pub(crate) instances: Option<u32>,
    /// What an instance may write to the disk that does not say how much.
    pub(crate) ephemeral_disk_mib: Option<u32>,
    /// Processes and threads of an instance that does not say how many.
    pub(crate) pids: Option<u32>,
    /// How much goes on inside of instances at the same time.
    pub(crate) at_once: at_once::Inside,
    /// The part of the fleet in which it stands.
    pub(crate) zone: Option<ZoneName>,
    /// What it hands out to instances that ask for an amount of disk; a part of the data folder's file system when absent.
    pub(crate) disk_mib: Option<u64>,
    /// The GPUs that it hands out; none when absent.
    pub(crate) gpus: gpus::Gpus,
}

impl Node {
    fn check(&self) -> anyhow::Result<()> {
        let sizes = MemoryMib::MIN.get()..=MemoryMib::MAX.get();
        let is_a_size = self.ephemeral_disk_mib.is_none_or(|mib| sizes.contains(&mib));
        anyhow::ensure!(is_a_size, "ephemeral_disk_mib: it is {} to {}", sizes.start(), sizes.end());
        let (least, most) = Limits::PIDS;
        let is_a_count = self.pids.is_none_or(|pids| (least..=most).contains(&pids));
        anyhow::ensure!(is_a_count, "pids: it is {least} to {most}");
        self.at_once.check()?;
        self.gpus.check()
    }

    /// Tells the agent what instances may that do not say themselves.
    pub(crate) fn bound(&self, config: &mut AgentConfig) {
        config.disk.ephemeral = self.ephemeral_disk_mib.map_or(config.disk.ephemeral, MemoryMib::new);
        config.pids_max = self.pids.unwrap_or(config.pids_max);
        config.at_once = self.at_once.bounds();
        config.zone = self.zone;
        config.disk_mib = self.disk_mib;
        config.gpus = self.gpus.of_machine();
    }
}

/// `[network]`: addresses of instances.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    /// The range that instances of `wherry up` get addresses from, for example `10.77.0.0/16`. A node that joins gets its own
    /// from the control plane.
    pub(crate) range: String,
    /// How packets to other nodes' instances travel.
    pub(crate) mode: NetworkMode,
    /// The address at which the other nodes reach this one; found out when absent.
    pub(crate) underlay: Option<Ipv4Addr>,
    /// With `vxlan`: number and UDP port of the network, the same on all nodes.
    pub(crate) vxlan_id: u32,
    pub(crate) vxlan_port: u16,
    /// Private ranges outside Wherry that instances may reach, for example `192.168.1.0/24`. None by default.
    pub(crate) egress_allow: Vec<String>,
    /// Resolvers for names outside the zone; the system's when empty.
    pub(crate) upstream_dns: Vec<SocketAddr>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            range: "10.77.0.0/16".to_owned(),
            mode: NetworkMode::default(),
            underlay: None,
            vxlan_id: 7_443,
            vxlan_port: 4_789,
            egress_allow: Vec::new(),
            upstream_dns: Vec::new(),
        }
    }
}

/// `[containerd]`: the container engine that Wherry starts for itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Containerd {
    /// `crun` or `runc`; the faster one that is installed when absent.
    pub(crate) runtime: Option<String>,
    /// Sandboxes that are kept ready, so that a start does not wait for one. Each costs a few MiB.
    pub(crate) warm_sandboxes: u32,
    /// What keeps instances apart whose class is not the shared one, by class: `crun`, `runc`, `runsc` or `kata`.
    pub(crate) isolation: BTreeMap<String, String>,
}

impl Containerd {
    /// What keeps each class apart beside the shared one.
    pub(crate) fn handlers(&self) -> anyhow::Result<BTreeMap<Isolation, Handler>> {
        let read = |(class, handler): (&String, &String)| {
            let read: Isolation = class.parse().map_err(anyhow::Error::msg)?;
            anyhow::ensure!(!read.is_shared(), "the class shared is kept by containerd.runtime");
            Ok((read, handler.parse().map_err(|error: String| anyhow::anyhow!("{class}: {error}"))?))
        };
        self.isolation.iter().map(read).collect()
    }
}

impl Default for Containerd {
    fn default() -> Self {
        Self { runtime: None, warm_sandboxes: 2, isolation: BTreeMap::new() }
    }
}

/// `[auth]`: who may ask.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// The base URL that tokens are issued under; `http://<listen.api>` when absent.
    pub(crate) issuer: Option<String>,
    /// Outside issuers whose tokens are accepted, see `docs/configuration.md`.
    pub(crate) trusted: Vec<TrustedIssuer>,
}

/// `[[auth.trusted]]`: one outside OpenID Connect issuer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrustedIssuer {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// Where its keys are: exactly one of the two.
    pub(crate) jwks_url: Option<String>,
    pub(crate) jwks_file: Option<PathBuf>,
    /// What it may sign with, for example `["RS256"]`.
    pub(crate) algorithms: Vec<String>,
    /// The claim that says whose a token is.
    pub(crate) tenant_claim: String,
    /// That claim's values, each with the tenant that it stands for.
    pub(crate) tenants: std::collections::BTreeMap<String, String>,
    /// Space-separated scopes that its tokens get.
    pub(crate) scopes: String,
}

impl Settings {
    /// Reads `explicit` if given, else `<data>/wherry.toml` if it is there, else takes the defaults.
    pub(crate) fn load(explicit: Option<&Path>, data: &Path) -> anyhow::Result<Self> {
        let path = match explicit {
            Some(path) => path.to_owned(),
            None => data.join("wherry.toml"),
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && explicit.is_none() => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let settings: Self = toml::from_str(&text).with_context(|| format!("{} is not right", path.display()))?;
        settings.check().with_context(|| format!("{} is not right", path.display()))?;
        Ok(settings)
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.containerd.handlers().context("containerd.isolation")?;
        anyhow::ensure!(self.names.ttl_seconds <= 30, "names.ttl_seconds: the most is 30");
        anyhow::ensure!(self.containerd.warm_sandboxes <= 64, "containerd.warm_sandboxes: the most is 64");
        for name in self.names.region.split('.').chain(self.names.zone.split('.')) {
            wherry_model::ProjectName::new(name).with_context(|| format!("names: {name:?} is no DNS label"))?;
        }
        parse_range(&self.network.range).context("network.range")?;
        let id = self.network.vxlan_id;
        anyhow::ensure!((1..1 << 24).contains(&id), "network.vxlan_id: it is 1 to 16777215");
        self.node.check().context("node")?;
        self.store.check().context("store")?;
        self.agents.check().context("agents")?;
        self.fleet.check().context("fleet")?;
        self.images.check().context("images")?;
        self.logs.check().context("logs")?;
        self.webhooks.check().context("webhooks")?;
        for range in &self.network.egress_allow {
            parse_range(range).context("network.egress_allow")?;
        }
        Ok(())
    }
}

/// Reads `10.77.0.0/16`.
pub(crate) fn parse_range(text: &str) -> anyhow::Result<(Ipv4Addr, u8)> {
    let (address, bits) = text.split_once('/').context("a range is written ADDRESS/BITS, for example 10.77.0.0/16")?;
    let address: Ipv4Addr = address.parse().with_context(|| format!("{address:?} is no IPv4 address"))?;
    let bits: u8 = bits.parse().with_context(|| format!("{bits:?} is no prefix length"))?;
    anyhow::ensure!((8..=28).contains(&bits), "a range has a prefix length of 8 to 28");
    let host_bits = u32::from(address) & (u32::MAX >> bits);
    anyhow::ensure!(host_bits == 0, "{text} has bits set behind its prefix");
    Ok((address, bits))
}

/// How long requests and the agent's steps may go on after Ctrl-C; a little longer than the API's own grace of 10 s.
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("10.77.0.0/16").unwrap(), (Ipv4Addr::new(10, 77, 0, 0), 16));
        for wrong in ["", "10.77.0.0", "10.77.0.1/16", "10.0.0.0/33", "x/16", "10.0.0.0/30"] {
            assert!(parse_range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("wherry.toml"), "[listen]\nap = \"127.0.0.1:1\"\n").unwrap();
        let error = format!("{:#}", Settings::load(None, folder.path()).unwrap_err());
        assert!(error.contains("ap") && error.contains("wherry.toml"), "{error}");
    }

    #[test]
    fn what_an_instance_may_by_default_is_within_what_it_can_ask_for() {
        let with = |ephemeral_disk_mib, pids| Node { ephemeral_disk_mib, pids, ..Node::default() };
        with(None, None).check().unwrap();
        with(Some(4), Some(16)).check().unwrap();
        for (wrong, named) in [(with(Some(3), None), "ephemeral_disk_mib"), (with(None, Some(16_385)), "pids")] {
            assert!(wrong.check().unwrap_err().to_string().starts_with(named), "{wrong:?}");
        }
    }

    #[test]
    fn no_file_means_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::load(None, folder.path()).unwrap();
        assert_eq!(settings.listen.api.port(), 7070);
        assert!(Settings::load(Some(&folder.path().join("absent.toml")), folder.path()).is_err());
    }
}
