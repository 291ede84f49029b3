//! A node with the real agent, on an engine in memory.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use wherry_agent_api::{
    ControlPlane, ExecOutcome, ExecQuery, InstanceStats, LogQuery, LogStream, NodeError, NodeServices, Session,
    SessionQuery, StatsQuery,
};
use wherry_control::Control;
use wherry_model::{InstanceId, NodeId};
use wherry_node_agent::{Agent, AgentConfig, AgentError, Machine, RecordingFirewall};
use wherry_runtime::fake::{FakeImage, FakeRuntime};
use wherry_runtime::{ContainerRuntime, ContainerState, Labels};

use crate::{Line, ManualClock, PATIENCE, SeededEntropy, eventually, spec};

/// The label by which containers name their instance; the agent's, part of what a crash leaves behind.
const INSTANCE_LABEL: &str = "wherry/instance";

/// Often, so that nothing in a test waits for it.
const OFTEN: Duration = Duration::from_millis(20);

/// How long a stop in order may take.
const GRACE: Duration = Duration::from_secs(5);

/// The real agent on the fake engine, with a recording firewall. The machine outlives its agents.
pub struct RealNode {
    agent: Option<Arc<Agent>>,
    engine: FakeRuntime,
    firewall: Arc<RecordingFirewall>,
    config: AgentConfig,
    line: Arc<Line>,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
}

impl std::fmt::Debug for RealNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RealNode").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl RealNode {
    pub(crate) fn new(
        data_folder: PathBuf,
        machine: Machine,
        line: Arc<Line>,
        clock: Arc<ManualClock>,
        entropy: Arc<SeededEntropy>,
    ) -> Self {
        let engine = FakeRuntime::new(Arc::clone(&clock) as _).with_call_timeout(OFTEN * 5);
        for container in spec().containers {
            let image = FakeImage { size_bytes: 1_000_000, ..FakeImage::default() };
            engine.publish(&container.image.to_string(), image);
        }
        let config =
            AgentConfig { heartbeat_every: OFTEN, poll_every: OFTEN, ..AgentConfig::new(data_folder, machine) };
        Self { agent: None, engine, firewall: Arc::new(RecordingFirewall::new()), config, line, clock, entropy }
    }

    /// Its id.
    pub const fn node(&self) -> NodeId {
        self.config.machine.node
    }

    /// The engine, to look at and to break.
    pub const fn engine(&self) -> &FakeRuntime {
        &self.engine
    }

    /// The packet filter, to look at and to break.
    pub fn firewall(&self) -> &RecordingFirewall {
        &self.firewall
    }

    /// Starts an agent on what the one before has left.
    pub async fn start(&mut self) {
        assert!(self.agent.is_none(), "a machine has one agent");
        let this = &*self;
        // Within one process a crash does not end the write to disk that a thread is in; its lock goes with it.
        let agent = eventually("the agent starts", || async {
            match this.begin().await {
                Ok(agent) => Some(agent),
                Err(AgentError::DataFolder { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => None,
                Err(error) => panic!("the agent does not start: {error:?}"),
            }
        });
        self.agent = Some(Arc::new(agent.await));
    }

    async fn begin(&self) -> Result<Agent, AgentError> {
        Agent::start(
            self.config.clone(),
            Arc::new(self.engine.clone()),
            Arc::clone(&self.firewall) as _,
            Arc::clone(&self.line) as Arc<dyn ControlPlane>,
            Arc::clone(&self.clock) as _,
            Arc::clone(&self.entropy) as _,
        )
        .await
    }

    /// Waits until the control plane has taken a proof of life of this agent.
    pub async fn heard(&self) {
        let mut status = self.agent.as_ref().expect("the machine has an agent").status();
        let proved = status.wait_for(|status| status.last_heartbeat.is_some());
        drop(tokio::time::timeout(PATIENCE, proved).await.expect("the agent's proof of life is taken"));
    }

    /// Ends the agent at once, wherever it is. Containers run on.
    pub async fn crash(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.shut_down(Duration::ZERO).await;
        }
    }

    /// Stops the agent in order. Containers run on.
    pub async fn stop(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.shut_down(GRACE).await;
        }
    }

    pub(crate) fn attach(&self, control: &Control) {
        if let Some(agent) = &self.agent {
            control.attach_node(self.node(), Arc::new(Services(Arc::downgrade(agent))));
        }
    }

    /// The instance of every container that runs now; one that is named twice runs twice.
    pub async fn running(&self) -> Vec<InstanceId> {
        let listed = self.engine.list_containers(&Labels::new()).await.unwrap_or_default();
        let running = listed.iter().filter(|container| container.state == ContainerState::Running);
        let instance = |labels: &Labels| labels.get(INSTANCE_LABEL).and_then(|id| id.parse().ok());
        running.map(|container| instance(&container.labels).expect("a container names its instance")).collect()
    }

    /// Ends the running container of the instance with this code; false when none runs.
    pub async fn exit(&self, instance: InstanceId, exit_code: i32) -> bool {
        let listed = self.engine.list_containers(&Labels::new()).await.unwrap_or_default();
        let of_instance = |labels: &Labels| labels.get(INSTANCE_LABEL) == Some(&instance.to_string());
        let mut found = listed.iter().filter(|container| of_instance(&container.labels));
        found.any(|container| self.engine.exit_container(&container.id, exit_code))
    }

    /// What is left on the machine, in words; nothing when it is as it was before the first instance came.
    pub async fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for container in self.engine.list_containers(&Labels::new()).await.unwrap_or_default() {
            left.push(format!("container {}", container.id));
        }
        for sandbox in self.engine.list_sandboxes(&Labels::new()).await.unwrap_or_default() {
            left.push(format!("sandbox {}", sandbox.id));
        }
        for instance in self.firewall.in_force().unwrap_or_default().instances {
            left.push(format!("packet filter of {instance:?}"));
        }
        let logs = std::fs::read_dir(self.config.data_folder.join("logs")).into_iter().flatten().flatten();
        left.extend(logs.map(|entry| format!("logs {}", entry.path().display())));
        left
    }
}

/// What the application holds of an agent; it does not keep a crashed one alive.
struct Services(Weak<Agent>);

#[async_trait]
impl NodeServices for Services {
    async fn logs(&self, query: LogQuery) -> Result<LogStream, NodeError> {
        match self.0.upgrade() {
            Some(agent) => agent.logs(query).await,
            None => Err(NodeError::Unavailable("the agent is gone".to_owned())),
        }
    }

    async fn exec(&self, query: ExecQuery) -> Result<ExecOutcome, NodeError> {
        match self.0.upgrade() {
            Some(agent) => agent.exec(query).await,
            None => Err(NodeError::Unavailable("the agent is gone".to_owned())),
        }
    }

    async fn session(&self, query: SessionQuery) -> Result<Session, NodeError> {
        match self.0.upgrade() {
            Some(agent) => agent.session(query).await,
            None => Err(NodeError::Unavailable("the agent is gone".to_owned())),
        }
    }

    async fn stats(&self, query: StatsQuery) -> Result<Vec<InstanceStats>, NodeError> {
        match self.0.upgrade() {
            Some(agent) => agent.stats(query).await,
            None => Err(NodeError::Unavailable("the agent is gone".to_owned())),
        }
    }
}
