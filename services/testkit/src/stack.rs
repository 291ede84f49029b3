//! The stack itself: looked at, restarted, and moved through time.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tempfile::TempDir;
use wherry_control::{Background, Control, ControlConfig, CreateInstance, InstanceView, ReconcilerStatus};
use wherry_model::{InstanceName, InstanceSpec, InstanceState, NodeId, Principal, Timestamp};
use wherry_store::Store;
use wherry_store_memory::MemoryStore;
use wherry_store_sqlite::SqliteStore;

use crate::{
    Line, ManualClock, Node, RealNode, RecordingZone, ScriptedAgent, SeededEntropy, StackBuilder, Tenant, eventually,
};

pub(crate) const DATABASE: &str = "wherry.db";

/// The whole stack in one process. See the crate's page.
#[derive(Debug)]
pub struct Stack {
    pub(crate) live: Option<Live>,
    /// The store of the application that was crashed, until its last call has ended.
    pub(crate) ended: Weak<dyn Store>,
    /// Where the data is when it is not in the folder.
    pub(crate) memory: Option<MemoryStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    pub(crate) zone: Arc<RecordingZone>,
    pub(crate) line: Arc<Line>,
    pub(crate) config: ControlConfig,
    pub(crate) operator: Principal,
    pub(crate) tenants: [Tenant; 2],
    pub(crate) agents: Vec<ScriptedAgent>,
    pub(crate) real: Vec<RealNode>,
    pub(crate) folder: TempDir,
}

/// What a crash ends.
pub(crate) struct Live {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) control: Control,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    pub(crate) async fn open(
        memory: Option<&MemoryStore>,
        database: PathBuf,
        clock: &Arc<ManualClock>,
        entropy: &Arc<SeededEntropy>,
        zone: &Arc<RecordingZone>,
        config: &ControlConfig,
    ) -> Self {
        let store: Arc<dyn Store> = match memory {
            Some(memory) => Arc::new(memory.clone()),
            None => Arc::new(SqliteStore::open(database).await.expect("the database opens")),
        };
        let control = application(Arc::clone(&store), clock, entropy, zone, config).await;
        Self { store, control }
    }
}

async fn application(
    store: Arc<dyn Store>,
    clock: &Arc<ManualClock>,
    entropy: &Arc<SeededEntropy>,
    zone: &Arc<RecordingZone>,
    config: &ControlConfig,
) -> Control {
    let (clock, entropy, zone) = (Arc::clone(clock), Arc::clone(entropy), Arc::clone(zone));
    Control::open(store, clock, entropy, zone, config.clone()).await.expect("the application opens")
}

impl Stack {
    /// One node of 4 cores and 4 GiB, two tenants.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// The same with the real agent instead of a scripted one.
    pub async fn with_real_agent() -> Self {
        Self::builder().nodes([]).real_nodes([Node::sized(4_000, 4_096)]).start().await
    }

    /// What [`Self::start`] starts, to be changed before it is started.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// The application.
    pub fn control(&self) -> &Control {
        &self.live().control
    }

    /// The store beneath it.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.live().store)
    }

    /// Another application on the same store, as a second replica would be; its zone is its own.
    pub async fn replica(&self) -> Control {
        self.replica_with(&Arc::default(), |_| {}).await
    }

    /// The same with a zone to look at, and a configuration of its own.
    pub async fn replica_with(&self, zone: &Arc<RecordingZone>, configure: impl FnOnce(&mut ControlConfig)) -> Control {
        let mut config = self.config.clone();
        configure(&mut config);
        application(Arc::clone(&self.live().store), &self.clock, &self.entropy, zone, &config).await
    }

    /// The wall clock.
    pub fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    /// The randomness.
    pub fn entropy(&self) -> &Arc<SeededEntropy> {
        &self.entropy
    }

    /// What DNS answers from.
    pub fn zone(&self) -> &RecordingZone {
        &self.zone
    }

    /// The line between agents and application.
    pub fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// The first tenant.
    pub fn acme(&self) -> &Tenant {
        &self.tenants[0]
    }

    /// The second tenant, who must never see anything of the first.
    pub fn blue(&self) -> &Tenant {
        &self.tenants[1]
    }

    /// A caller with every scope, of a tenant of its own.
    pub fn operator(&self) -> &Principal {
        &self.operator
    }

    /// The agent of the first node.
    pub fn agent(&self) -> &ScriptedAgent {
        self.agents.first().expect("the stack has a node")
    }

    /// The agents of all nodes.
    pub fn agents(&self) -> &[ScriptedAgent] {
        &self.agents
    }

    /// The first node with a real agent.
    pub fn real(&mut self) -> &mut RealNode {
        self.real.first_mut().expect("the stack has a node with a real agent")
    }

    /// The nodes with real agents.
    pub fn real_nodes(&mut self) -> &mut [RealNode] {
        &mut self.real
    }

    /// Ends the agent of a node as `kill -9` does, and starts the next one.
    pub async fn restart_agent(&mut self, index: usize) {
        let control = self.control().clone();
        let node = self.real.get_mut(index).expect("the stack has that many nodes with real agents");
        node.crash().await;
        node.start().await;
        node.attach(&control);
    }

    /// Where the database is.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join(DATABASE)
    }

    /// Creates an instance of that name in the tenant's `default` project.
    pub async fn create(&self, tenant: &Tenant, name: &str, spec: InstanceSpec) -> InstanceView {
        let request = CreateInstance {
            project: tenant.project.clone(),
            name: Some(InstanceName::new(name).expect("the test gives a right name")),
            spec,
            idempotency_key: None,
        };
        self.control().create_instance(&tenant.principal, request).await.expect("the instance is created").view
    }

    /// The tenant's instance of that name or id.
    pub async fn read(&self, tenant: &Tenant, name_or_id: &str) -> InstanceView {
        let found = self.control().get_instance(&tenant.principal, &tenant.project, name_or_id).await;
        found.expect("the instance exists")
    }

    /// Waits until the tenant's instance is in `state`, and gives it.
    pub async fn until(&self, tenant: &Tenant, name_or_id: &str, state: InstanceState) -> InstanceView {
        let view = eventually(&format!("{name_or_id} is {state}"), || async {
            let view = self.read(tenant, name_or_id).await;
            (view.instance.state == state).then_some(view)
        })
        .await;
        // DNS is told right after the commit that was just seen.
        self.quiet().await;
        view
    }

    /// Turns the wall clock forward.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Lets time pass on both clocks. Needs a single-threaded runtime, and nobody waiting for the store meanwhile.
    pub async fn let_pass(&self, time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
        if !self.clock.runs() {
            self.clock.advance(time);
        }
    }

    /// Waits until no write is under way that a caller has left behind. Needs a single-threaded runtime.
    pub async fn quiet(&self) {
        const TURNS: u32 = 8;
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        // The store writes in the order of the asking; this node is nobody's.
        let nobody = NodeId::from_uuid(uuid::Uuid::nil());
        self.store().prove_life(nobody, Timestamp::default(), 0).await.expect("the store writes");
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// Activates every background reconciler once and says what each did.
    pub async fn background(&self) -> Vec<ReconcilerStatus> {
        Self::background_of(self.control()).await
    }

    /// The same for a replica.
    pub async fn background_of(control: &Control) -> Vec<ReconcilerStatus> {
        let background = Background::start(control);
        let statuses = eventually("every reconciler is activated once", || async {
            let statuses = background.statuses();
            statuses.iter().all(|status| status.activations > 0).then_some(statuses)
        })
        .await;
        background.stop().await;
        statuses
    }

    /// Ends the application as `kill -9` does: what was not committed is not done. Agents find the line cut.
    pub fn crash(&mut self) {
        self.line.cut();
        if let Some(live) = self.live.take() {
            self.ended = Arc::downgrade(&live.store);
        }
    }

    /// Starts the application again on the same database; agents reach it, but have not said anything yet. No clone of
    /// the old application may be left: two on one database are not what is tested.
    pub async fn restart(&mut self) {
        assert!(self.live.is_none(), "crash the stack before it is restarted");
        let ended = &self.ended;
        eventually("the crashed application has no clones", || async { (ended.strong_count() == 0).then_some(()) })
            .await;
        let memory = self.memory.as_ref();
        let live = Live::open(memory, self.database(), &self.clock, &self.entropy, &self.zone, &self.config).await;
        self.line.plug(live.control.clone());
        self.live = Some(live);
        self.attach();
    }

    /// Crashes and restarts the application.
    pub async fn reopen(&mut self) {
        self.crash();
        self.restart().await;
    }

    /// Every agent says hello and proves life.
    pub async fn greet(&self) {
        self.attach();
        for agent in &self.agents {
            agent.hello().await.expect("the node is registered");
            agent.heartbeat().await.expect("the node's proof of life is taken");
        }
    }

    fn attach(&self) {
        for agent in &self.agents {
            self.control().attach_node(agent.node(), Arc::new(agent.clone()));
        }
        for node in &self.real {
            node.attach(self.control());
        }
    }

    fn live(&self) -> &Live {
        self.live.as_ref().expect("the stack was crashed and not restarted")
    }
}
