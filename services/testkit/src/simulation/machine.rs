//! A machine: the real agent on the fake engine. The machine outlives its agents, and its disk outlives its power.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use wherry_agent_api::{ControlPlane, PROTOCOL};
use wherry_model::{BootId, InstanceId, NodeId, NodeRecord, ProjectId, TenantId};
use wherry_node_agent::{
    Agent, AgentConfig, AgentParts, BootClock, RecordingFirewall, RecordingNames, RecordingRoutes,
};
use wherry_runtime::fake::{FakeImage, FakeRuntime};
use wherry_runtime::{ContainerId, ContainerRuntime, Labels};

use super::grip::Grip;
use super::network::Link;
use super::oracle::{MachineWitness, Oracle};
use crate::{ManualClock, SeededEntropy};

/// What is pulled in the simulation: at once, slowly, never.
pub(super) const IMAGES: [(&str, u64); 2] =
    [("registry.example/demo/web:1", 0), ("registry.example/demo/slow:1", 2_500)];

/// The last version of the agents' contract without leases.
const WITHOUT_LEASES: u32 = NodeRecord::PROTOCOL_OF_LEASES - 1;

/// The clock that nobody can set.
struct SinceBoot(Instant);

impl BootClock for SinceBoot {
    fn since_boot(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(super) struct Machine {
    pub(super) index: usize,
    pub(super) clock: Arc<ManualClock>,
    pub(super) engine: FakeRuntime,
    firewall: Arc<RecordingFirewall>,
    routes: Arc<RecordingRoutes>,
    /// What the resolver on this machine answers.
    names: Arc<RecordingNames>,
    entropy: Arc<SeededEntropy>,
    pub(super) link: Arc<Link>,
    oracle: Arc<Oracle>,
    config: AgentConfig,
    pub(super) grip: Arc<Grip>,
    pub(super) power: bool,
    /// Operators took it out of the fleet.
    pub(super) removed: bool,
    booted: Instant,
    frozen: bool,
    engine_down: bool,
}

impl Machine {
    pub(super) fn new(
        index: usize,
        config: AgentConfig,
        clock: Arc<ManualClock>,
        entropy: Arc<SeededEntropy>,
        link: Arc<Link>,
        grip: Arc<Grip>,
        oracle: Arc<Oracle>,
    ) -> Self {
        let engine = FakeRuntime::new(Arc::clone(&clock) as _)
            .with_call_timeout(Duration::from_secs(3))
            .with_range(config.machine.range);
        for (reference, pull_millis) in IMAGES {
            let pull_delay = Duration::from_millis(pull_millis);
            engine.publish(reference, FakeImage { size_bytes: 1_000, pull_delay, ..FakeImage::default() });
        }
        engine.show(Arc::new(MachineWitness::new(Arc::clone(&oracle), index)));
        engine.interpose(Arc::clone(&grip) as _);
        let firewall = Arc::new(RecordingFirewall::new());
        let (power, removed, booted, frozen, engine_down) = (true, false, Instant::now(), false, false);
        Self {
            index,
            clock,
            engine,
            firewall,
            routes: Arc::default(),
            names: Arc::default(),
            entropy,
            link,
            oracle,
            config,
            grip,
            power,
            removed,
            booted,
            frozen,
            engine_down,
        }
    }

    pub(super) const fn node(&self) -> NodeId {
        self.config.machine.node
    }

    pub(super) fn name(&self) -> &str {
        &self.config.machine.name
    }

    /// Begins an agent on what the one before has left, if there is power and none.
    pub(super) async fn start(&mut self) {
        if !self.power || self.grip.holds_agent() {
            return;
        }
        // The tasks of one that died just now are still to be ended.
        sleep(Duration::from_millis(1)).await;
        let parts = AgentParts {
            runtime: Arc::new(self.engine.clone()),
            firewall: Arc::clone(&self.firewall) as _,
            routes: Some(Arc::clone(&self.routes) as _),
            names: Some(Arc::clone(&self.names) as _),
            control: Arc::clone(&self.link) as Arc<dyn ControlPlane>,
            clock: Arc::clone(&self.clock) as _,
            boot_clock: Arc::new(SinceBoot(self.booted)),
            entropy: Arc::clone(&self.entropy) as _,
        };
        let agent = Agent::start_with(self.config.clone(), parts);
        self.grip.hold(agent.await.expect("the agent's folder can be used"));
        self.tell_ability();
    }

    /// Ends the agent as `kill -9` does. Containers run on.
    pub(super) async fn crash(&mut self) {
        if let Some(agent) = self.grip.let_go() {
            agent.shut_down(Duration::ZERO).await;
        }
        self.tell_ability();
    }

    /// Another version of the agent takes the place of this one: the last without leases, or the present one again.
    pub(super) async fn exchange_agent(&mut self) {
        if !self.grip.holds_agent() {
            return;
        }
        self.crash().await;
        let protocol = if self.link.protocol() == PROTOCOL { WITHOUT_LEASES } else { PROTOCOL };
        self.oracle.note(format!("machine {}: its agent is replaced by one of protocol {protocol}", self.index));
        self.link.set_protocol(protocol);
        self.start().await;
    }

    /// No power: nothing runs.
    pub(super) async fn power_off(&mut self) {
        self.freeze(false);
        self.crash().await;
        self.power = false;
        self.engine.reboot();
        self.tell_ability();
    }

    pub(super) async fn power_on(&mut self) {
        if !self.power {
            self.power = true;
            self.booted = Instant::now();
            self.config.machine.boot = BootId::generate(&*self.clock, &*self.entropy);
            self.start().await;
        }
    }

    /// SIGSTOP and SIGCONT of the agent.
    pub(super) fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
        self.engine.set_frozen(frozen);
        self.link.set_frozen(frozen);
        self.tell_ability();
    }

    pub(super) fn set_engine_down(&mut self, down: bool) {
        self.engine_down = down;
        self.engine.set_engine_down(down);
        self.tell_ability();
    }

    /// Everything that is wrong with the machine ends.
    pub(super) async fn heal(&mut self) {
        self.engine.heal();
        self.grip.heal();
        self.set_engine_down(false);
        self.freeze(false);
        self.power_on().await;
        self.start().await;
        if self.link.protocol() != PROTOCOL {
            self.exchange_agent().await;
        }
    }

    /// Whether an agent is there that could end what runs.
    fn tell_ability(&self) {
        let able = self.power && self.grip.holds_agent() && !self.frozen && !self.engine_down;
        self.oracle.machine_is(self.index, able);
    }

    /// Containers that run now, with their instances.
    pub(super) fn running_now(&self) -> Vec<(ContainerId, InstanceId)> {
        self.oracle.running_on(self.index)
    }

    /// Instances of which anything is left on the machine, in words.
    pub(super) async fn traces(&self) -> Vec<(InstanceId, String)> {
        let mut traces = Vec::new();
        for container in self.engine.list_containers(&Labels::new()).await.unwrap_or_default() {
            traces.extend(owner(&container.labels).map(|id| (id, format!("container {}", container.id))));
        }
        for sandbox in self.engine.list_sandboxes(&Labels::new()).await.unwrap_or_default() {
            traces.extend(owner(&sandbox.labels).map(|id| (id, format!("sandbox {}", sandbox.id))));
        }
        let rules = self.firewall.in_force().unwrap_or_default();
        traces.extend(rules.instances.iter().map(|(id, _)| (*id, "rules of the packet filter".to_owned())));
        traces.extend(self.logs().into_iter().map(|id| (id, "logs".to_owned())));
        traces
    }

    /// Which addresses the resolver here answers with.
    pub(super) fn answers(&self) -> BTreeSet<Ipv4Addr> {
        let latest = self.names.latest();
        latest.iter().flat_map(|latest| &latest.records).map(|record| record.address).collect()
    }

    /// To which machines there is a way from here.
    pub(super) fn peers(&self) -> BTreeSet<NodeId> {
        self.routes.peers().into_iter().map(|peer| peer.node).collect()
    }

    /// Whom the packet filter counts an instance to.
    pub(super) fn admitted(&self) -> Vec<(InstanceId, TenantId, ProjectId)> {
        let rules = self.firewall.in_force().unwrap_or_default();
        rules.instances.iter().map(|(id, admitted)| (*id, admitted.tenant, admitted.project)).collect()
    }

    fn logs(&self) -> Vec<InstanceId> {
        let folder: PathBuf = self.config.data_folder.join("logs");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut found: Vec<InstanceId> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        found.sort();
        found
    }
}

/// The instance that a label names.
pub(super) fn owner(labels: &Labels) -> Option<InstanceId> {
    labels.get("wherry/instance")?.parse().ok()
}
