//! This machine as a node: its containerd, its firewall, its agent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wherry_agent_api::ControlPlane;
use wherry_api_server::ReadinessCheck;
use wherry_control::Control;
use wherry_node_agent::{Agent, AgentConfig, Firewall, Machine, NftConfig, NftFirewall, read_boot_id};
use wherry_runtime::{ContainerRuntime, Labels, Readiness, SandboxState};
use wherry_runtime_cri::CriRuntime;
use wherry_runtime_cri::containerd::{Containerd, ContainerdOptions, OciRuntime};

use super::{Surroundings, engine, machine};
use crate::data::DataFolder;
use crate::settings::{SHUTDOWN_GRACE, Settings, parse_range};

/// What runs on this machine because it is a node.
pub(super) struct LocalNode {
    data: DataFolder,
    agent: Arc<Agent>,
    containerd: Arc<Containerd>,
    firewall: Arc<NftFirewall>,
    tasks: TaskTracker,
}

/// Finds the programs and names the folders; starts nothing.
pub(crate) fn engine_of(data: &DataFolder, settings: &Settings) -> anyhow::Result<Containerd> {
    let oci_runtime = match settings.containerd.runtime.as_deref() {
        None => OciRuntime::Automatic,
        Some("crun") => OciRuntime::Crun,
        Some("runc") => OciRuntime::Runc,
        Some(other) => anyhow::bail!("containerd.runtime: {other:?} is not known, write \"crun\" or \"runc\""),
    };
    let options = ContainerdOptions {
        data_dir: data.containerd(),
        run_dir: data.run(),
        address_range: settings.network.range.clone(),
        cgroup_root: format!("/wherry-{}", data.short_id()),
        oci_runtime,
    };
    Ok(Containerd::new(options)?.with_warm_sandboxes(settings.containerd.warm_sandboxes))
}

/// The packet filter of this installation.
pub(crate) fn firewall_of(data: &DataFolder, settings: &Settings) -> anyhow::Result<NftFirewall> {
    let range = parse_range(&settings.network.range)?;
    let gateway = std::net::Ipv4Addr::from(u32::from(range.0) + 1);
    let mut config = NftConfig::new(format!("wherry_{}", data.short_id()), range, gateway);
    config.egress_allow =
        settings.network.egress_allow.iter().map(|range| parse_range(range)).collect::<anyhow::Result<_>>()?;
    Ok(NftFirewall::new(config))
}

/// Brings containerd up, or finds it running.
pub(super) async fn start_engine(surroundings: &Surroundings) -> anyhow::Result<Arc<Containerd>> {
    let containerd = Arc::new(engine_of(&surroundings.data, &surroundings.settings)?);
    let outcome = containerd.ensure_running().await.context("the container engine does not come up")?;
    tracing::debug!(?outcome, "containerd runs");
    Ok(containerd)
}

impl LocalNode {
    pub(super) async fn start(
        surroundings: &Surroundings,
        containerd: Arc<Containerd>,
        control: &Control,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let Surroundings { data, settings, clock, entropy, range, gateway } = surroundings;
        let id = data.node_id(clock.as_ref(), entropy.as_ref())?;
        let machine = Machine {
            node: id,
            name: machine::name(&settings.node),
            architecture: machine::architecture()?,
            capacity: machine::capacity(&settings.node)?,
            range: *range,
            boot: read_boot_id().context("cannot read the kernel's boot id")?,
            dns_server: *gateway,
            underlay: None,
        };
        crate::forwarding::switch_on(data)?;
        let firewall = Arc::new(firewall_of(data, settings)?);
        let agent = Agent::start(
            AgentConfig::new(data.node(), machine),
            containerd.runtime(),
            Arc::clone(&firewall) as Arc<dyn Firewall>,
            Arc::new(control.clone()) as Arc<dyn ControlPlane>,
            Arc::clone(clock),
            Arc::clone(entropy),
        )
        .await
        .context("the node agent cannot start")?;
        let agent = Arc::new(agent);
        control.attach_node(id, Arc::clone(&agent) as Arc<dyn wherry_agent_api::NodeServices>);
        let tasks = TaskTracker::new();
        tasks.spawn(engine::keep_running(Arc::clone(&containerd), stop.clone()));
        Ok(Self { data: data.clone(), agent, containerd, firewall, tasks })
    }

    pub(super) fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Whether new instances can be started: the container engine answers.
    pub(super) fn readiness(&self) -> Arc<dyn ReadinessCheck> {
        Arc::new(EngineCheck(self.containerd.runtime()))
    }

    /// Ends the agent, and containerd too if there is nothing that needs it. Says how many sandboxes run on.
    pub(super) async fn stop(self) -> anyhow::Result<usize> {
        self.agent.shut_down(SHUTDOWN_GRACE).await;
        self.tasks.close();
        self.tasks.wait().await;
        leave_clean(&self.data, &self.containerd, self.firewall.as_ref()).await
    }
}

/// Stops containerd and removes its traces unless a sandbox needs it. Says how many run on.
pub(super) async fn leave_clean(
    data: &DataFolder,
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
    crate::forwarding::put_back(data)?;
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
