//! The node part of a process: this machine's containerd, firewall, routes, agent and resolver.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wherry_agent_api::ControlPlane;
use wherry_api_server::ReadinessCheck;
use wherry_dns_server::{Ipv4Range, NodeResolver, NodeResolverConfig, Upstream, ZoneHandle};
use wherry_model::NodeId;
use wherry_node_agent::{
    Agent, AgentConfig, AgentParts, Firewall, KernelBootClock, Machine, NamesSink, NftConfig, NftFirewall, RouteTable,
    read_boot_id,
};
use wherry_runtime::{ContainerRuntime, Labels, Readiness, SandboxState};
use wherry_runtime_cri::CriRuntime;
use wherry_runtime_cri::containerd::{Containerd, ContainerdOptions, OciRuntime};

use super::{engine, guard, machine, ways};
use crate::base::Base;
use crate::data::DataFolder;
use crate::metrics::{NodeSource, SecondsLeft};
use crate::settings::{SHUTDOWN_GRACE, Settings, parse_range};

/// Which node this machine is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    /// First address and prefix length of the range of its instances.
    pub(crate) range: (Ipv4Addr, u8),
    /// The address at which the other nodes reach it.
    pub(crate) underlay: Option<Ipv4Addr>,
}

impl Place {
    /// First address of the range: the gateway of every instance, where its resolver listens.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        gateway(self.range)
    }
}

fn gateway(range: (Ipv4Addr, u8)) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.0) + 1)
}

/// How the agent hears of the rest.
pub(crate) struct Surface {
    /// The line to the control plane.
    pub(crate) control: Arc<dyn ControlPlane>,
    /// Who answers the names that it tells; none where they are answered from the control plane's own zone.
    pub(crate) names: Option<Arc<dyn NamesSink>>,
}

/// What runs on this machine because it is a node.
pub(crate) struct NodePart {
    base: Base,
    range: (Ipv4Addr, u8),
    agent: Arc<Agent>,
    containerd: Arc<Containerd>,
    firewall: Arc<NftFirewall>,
    tasks: TaskTracker,
    /// It stops when it is dropped.
    resolver: NodeResolver,
}

/// Finds the programs and names the folders; starts nothing.
pub(crate) fn engine_of(data: &DataFolder, settings: &Settings, range: (Ipv4Addr, u8)) -> anyhow::Result<Containerd> {
    let oci_runtime = match settings.containerd.runtime.as_deref() {
        None => OciRuntime::Automatic,
        Some("crun") => OciRuntime::Crun,
        Some("runc") => OciRuntime::Runc,
        Some(other) => anyhow::bail!("containerd.runtime: {other:?} is not known, write \"crun\" or \"runc\""),
    };
    let handlers = settings.containerd.handlers().context("containerd.isolation")?;
    let options = ContainerdOptions {
        data_dir: data.containerd(),
        run_dir: data.run(),
        address_range: format!("{}/{}", range.0, range.1),
        cgroup_root: format!("/wherry-{}", data.short_id()),
        oci_runtime,
        handlers: handlers.into_iter().map(|(class, handler)| (class.to_string(), handler)).collect(),
    };
    Ok(Containerd::new(options)?.with_warm_sandboxes(settings.containerd.warm_sandboxes))
}

/// The packet filter of this installation.
pub(crate) fn firewall_of(
    data: &DataFolder,
    settings: &Settings,
    range: (Ipv4Addr, u8),
) -> anyhow::Result<NftFirewall> {
    let mut config = NftConfig::new(format!("wherry_{}", data.short_id()), range, gateway(range));
    config.egress_allow =
        settings.network.egress_allow.iter().map(|range| parse_range(range)).collect::<anyhow::Result<_>>()?;
    Ok(NftFirewall::new(config))
}

/// Brings containerd up, or finds it running.
pub(crate) async fn start_engine(base: &Base, range: (Ipv4Addr, u8)) -> anyhow::Result<Arc<Containerd>> {
    let containerd = Arc::new(engine_of(&base.data, &base.settings, range)?);
    let outcome = containerd.ensure_running().await.context("the container engine does not come up")?;
    tracing::debug!(?outcome, "containerd runs");
    Ok(containerd)
}

/// Answers the names that instances ask for: those of the zone from `zones`, all others from upstream.
pub(crate) fn resolver(
    base: &Base,
    range: (Ipv4Addr, u8),
    zones: &Arc<ZoneHandle>,
    stop: &CancellationToken,
) -> anyhow::Result<NodeResolver> {
    let clients = Ipv4Range::new(range.0, range.1).context("the range of this node's instances")?;
    let mut config = NodeResolverConfig::new(SocketAddrV4::new(gateway(range), 53), clients);
    let upstream = &base.settings.network.upstream_dns;
    if !upstream.is_empty() {
        config.upstream = Upstream::Servers(upstream.clone());
    }
    NodeResolver::bind(&config, Arc::clone(zones), stop)
        .context("instances cannot be given a resolver: is their range (--range or network.range) in use?")
}

impl NodePart {
    /// Begins the agent. It puts back at once what should run here, so nothing that can still fail comes after it.
    pub(crate) async fn start(
        base: &Base,
        place: &Place,
        containerd: Arc<Containerd>,
        resolver: NodeResolver,
        surface: Surface,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let Base { data, settings, clock, entropy } = base;
        let machine = Machine {
            node: place.node,
            name: place.name.clone(),
            architecture: machine::architecture()?,
            capacity: machine::capacity(&settings.node)?,
            range: place.range,
            boot: read_boot_id().context("cannot read the kernel's boot id")?,
            dns_server: place.gateway(),
            underlay: place.underlay,
        };
        crate::forwarding::switch_on(data)?;
        let firewall = Arc::new(firewall_of(data, settings, place.range)?);
        let routes = match place.underlay {
            Some(underlay) => {
                let table = ways::make(data, settings, place.range, underlay)?;
                Some(Arc::new(table) as Arc<dyn RouteTable>)
            }
            None => None,
        };
        let parts = AgentParts {
            runtime: containerd.runtime(),
            firewall: Arc::clone(&firewall) as Arc<dyn Firewall>,
            routes,
            names: surface.names,
            control: surface.control,
            clock: Arc::clone(clock),
            boot_clock: Arc::new(KernelBootClock),
            entropy: Arc::clone(entropy),
        };
        let isolation = settings.containerd.handlers()?.into_keys().collect();
        let (logs, images) = (settings.logs.limits(), settings.images.limits());
        let mut config = AgentConfig { logs, images, isolation, ..AgentConfig::new(data.node(), machine) };
        settings.node.bound(&mut config);
        let missing = settings.node.gpus.missing();
        anyhow::ensure!(missing.is_empty(), "[node] gpus: there is no such device: {}", missing.join(", "));
        config.disk_mib = config.disk_mib.or_else(|| machine::disk_mib(data.node().as_path()));
        let agent = Agent::start_with(config, parts).await.context("the node agent cannot start")?;
        let tasks = TaskTracker::new();
        tasks.spawn(engine::keep_running(Arc::clone(&containerd), stop.clone()));
        tasks.spawn(guard::keep(data.clone(), place.node, place.range, agent.status(), stop.clone()));
        let (base, range, agent) = (base.clone(), place.range, Arc::new(agent));
        Ok(Self { base, range, agent, containerd, firewall, tasks, resolver })
    }

    pub(crate) const fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Waits for the control plane to take a proof of this agent's life, `most` long; says whether it did.
    pub(crate) async fn is_heard(&self, most: Duration) -> bool {
        let mut status = self.agent.status();
        let heard = status.wait_for(|status| status.last_heartbeat.is_some());
        tokio::time::timeout(most, heard).await.is_ok_and(|found| found.is_ok())
    }

    /// Where its numbers come from.
    pub(crate) fn numbers(&self, certificate_expires_in: Option<SecondsLeft>) -> NodeSource {
        let dns = Arc::clone(self.resolver.counters());
        NodeSource { agent: self.agent.status(), dns, certificate_expires_in }
    }

    /// Whether new instances can be started: the container engine answers.
    pub(crate) fn readiness(&self) -> Arc<dyn ReadinessCheck> {
        Arc::new(EngineCheck(self.containerd.runtime()))
    }

    /// Ends the agent, and containerd too if there is nothing that needs it. Says how many sandboxes run on.
    pub(crate) async fn stop(self) -> anyhow::Result<usize> {
        self.agent.shut_down(SHUTDOWN_GRACE).await;
        self.tasks.close();
        self.tasks.wait().await;
        drop(self.resolver);
        leave_clean(&self.base, self.range, &self.containerd, self.firewall.as_ref()).await
    }
}

/// Stops containerd and removes its traces unless a sandbox needs it. Says how many run on.
pub(crate) async fn leave_clean(
    base: &Base,
    range: (Ipv4Addr, u8),
    containerd: &Containerd,
    firewall: &dyn Firewall,
) -> anyhow::Result<usize> {
    if containerd.pid().is_some() {
        let sandboxes = match containerd.runtime().list_sandboxes(&Labels::new()).await {
            Ok(sandboxes) => sandboxes,
            Err(error) => {
                tracing::warn!(%error, "containerd does not say what runs, so it is left as it is");
                return Ok(0);
            }
        };
        if !sandboxes.is_empty() {
            return Ok(sandboxes.iter().filter(|sandbox| sandbox.state == SandboxState::Ready).count());
        }
    }
    firewall.remove().await?;
    ways::remove(&base.data, &base.settings, range).await?;
    crate::forwarding::put_back(&base.data)?;
    let left = containerd.destroy().await?;
    if !left.is_empty() {
        tracing::warn!(?left, "not everything could be cleaned up, `wherry down` tries again");
    }
    Ok(0)
}

/// Whoever asks for readiness waits some seconds at most; a containerd that takes longer is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

struct EngineCheck(Arc<CriRuntime>);

#[async_trait]
impl ReadinessCheck for EngineCheck {
    fn name(&self) -> &'static str {
        "containerd"
    }

    async fn check(&self) -> Result<(), String> {
        match tokio::time::timeout(READY_WITHIN, self.0.status()).await {
            Ok(Ok(Readiness::Ready)) => Ok(()),
            Ok(Ok(Readiness::NotReady { reason })) => Err(reason),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("containerd has not answered for {} s", READY_WITHIN.as_secs())),
        }
    }
}
