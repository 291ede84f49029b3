//! The stack itself: put together, restarted, and moved through time.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tempfile::TempDir;
use wherry_agent_api::NodeHello;
use wherry_control::{
    Background, Control, ControlConfig, CreateInstance, InstanceView, NewKey, ReconcilerStatus, TenantKeyRequest,
};
use wherry_model::{
    Architecture, BootId, Capacity, InstanceName, InstanceSpec, JournalId, NodeId, Principal, ProjectName, ScopeSet,
    Subject, TenantName, Timestamp,
};
use wherry_store::{Store, TenantRecord};
use wherry_store_sqlite::SqliteStore;

use crate::{Line, ManualClock, RecordingZone, ScriptedAgent, SeededEntropy, eventually};

/// A node of the played fleet.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// What it hands out.
    pub capacity: Capacity,
    /// Its kind.
    pub architecture: Architecture,
}

impl Node {
    /// An amd64 node of this size, with room for 100 instances.
    pub const fn sized(cpu_millis: u64, memory_mib: u64) -> Self {
        Self { capacity: Capacity { cpu_millis, memory_mib, instances: 100 }, architecture: Architecture::Amd64 }
    }
}

/// A tenant with a key of its own.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The tenant.
    pub record: TenantRecord,
    /// Its key with every scope that a tenant can have, and the secret.
    pub key: NewKey,
    /// The caller that the key stands for.
    pub principal: Principal,
    /// Its `default` project.
    pub project: ProjectName,
}

impl Tenant {
    /// The same caller with other scopes.
    pub fn with_scopes(&self, scopes: ScopeSet) -> Principal {
        Principal { scopes, ..self.principal.clone() }
    }
}

/// What a stack is made of; see [`Stack::builder`].
#[derive(Debug)]
pub struct StackBuilder {
    seed: u64,
    nodes: Vec<Node>,
    config: ControlConfig,
}

impl StackBuilder {
    /// Seeds ids and secrets.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// These nodes instead of the one.
    pub fn nodes(mut self, nodes: impl IntoIterator<Item = Node>) -> Self {
        self.nodes = nodes.into_iter().collect();
        self
    }

    /// Changes the application's configuration.
    pub fn configure(mut self, change: impl FnOnce(&mut ControlConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Builds it: the application is open, two tenants exist, every node has said hello and proved life.
    pub async fn start(self) -> Stack {
        let folder = tempfile::Builder::new().prefix("wherry-testkit-").tempdir().expect("a temporary folder is made");
        let clock = Arc::new(ManualClock::default());
        let entropy = Arc::new(SeededEntropy::new(self.seed));
        let zone = Arc::new(RecordingZone::default());
        let line = Arc::new(Line::default());
        let live = Live::open(folder.path().join(DATABASE), &clock, &entropy, &zone, &self.config).await;
        line.plug(live.control.clone());
        let operator = Principal {
            tenant: live.control.ensure_tenant(name("operator")).await.expect("the operator's tenant is made").id,
            subject: Subject::External { issuer: "testkit".to_owned(), subject: "operator".to_owned() },
            scopes: ScopeSet::all(),
        };
        let tenants = [tenant(&live.control, "acme").await, tenant(&live.control, "blue").await];
        let mut agents = Vec::new();
        for (index, node) in self.nodes.into_iter().enumerate() {
            let hello = hello(index, node, &clock, &entropy);
            agents.push(ScriptedAgent::new(Arc::clone(&line), Arc::clone(&clock), Arc::clone(&entropy), hello));
        }
        let stack = Stack {
            live: Some(live),
            ended: Weak::new(),
            clock,
            entropy,
            zone,
            line,
            config: self.config,
            operator,
            tenants,
            agents,
            folder,
        };
        stack.greet().await;
        stack
    }
}

const DATABASE: &str = "wherry.db";

/// The whole stack in one process. See the crate's page.
#[derive(Debug)]
pub struct Stack {
    live: Option<Live>,
    /// The store of the application that was crashed, until its last call has ended.
    ended: Weak<SqliteStore>,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    zone: Arc<RecordingZone>,
    line: Arc<Line>,
    config: ControlConfig,
    operator: Principal,
    tenants: [Tenant; 2],
    agents: Vec<ScriptedAgent>,
    folder: TempDir,
}

/// What a crash ends.
struct Live {
    store: Arc<SqliteStore>,
    control: Control,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    async fn open(
        database: PathBuf,
        clock: &Arc<ManualClock>,
        entropy: &Arc<SeededEntropy>,
        zone: &Arc<RecordingZone>,
        config: &ControlConfig,
    ) -> Self {
        let store = Arc::new(SqliteStore::open(database).await.expect("the database opens"));
        let control = application(Arc::clone(&store), clock, entropy, zone, config).await;
        Self { store, control }
    }
}

async fn application(
    store: Arc<SqliteStore>,
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

    /// What [`Self::start`] starts, to be changed before it is started.
    pub fn builder() -> StackBuilder {
        StackBuilder { seed: 1, nodes: vec![Node::sized(4_000, 4_096)], config: ControlConfig::new([7; 32]) }
    }

    /// The application.
    pub fn control(&self) -> &Control {
        &self.live().control
    }

    /// The store beneath it.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.live().store) as Arc<dyn Store>
    }

    /// Another application on the same store, as a second replica would be; its zone is its own.
    pub async fn replica(&self) -> Control {
        let zone = Arc::new(RecordingZone::default());
        application(Arc::clone(&self.live().store), &self.clock, &self.entropy, &zone, &self.config).await
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

    /// Turns the wall clock forward.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Lets time pass on both clocks. Needs a single-threaded runtime, and nobody waiting for the store meanwhile.
    pub async fn let_pass(&self, time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
        self.clock.advance(time);
    }

    /// Waits until no write is under way that a caller has left behind. Needs a single-threaded runtime.
    pub async fn quiet(&self) {
        const TURNS: u32 = 8;
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        // The store writes in the order of the asking.
        let node = self.agent().node();
        self.store().prove_life(node, Timestamp::default()).await.expect("the store writes");
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// Activates every background reconciler once and says what each did.
    pub async fn background(&self) -> Vec<ReconcilerStatus> {
        let background = Background::start(self.control());
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
        self.ended = self.live.take().map_or_else(Weak::new, |live| Arc::downgrade(&live.store));
    }

    /// Starts the application again on the same database; agents reach it, but have not said anything yet. No clone of
    /// the old application may be left: two on one database are not what is tested.
    pub async fn restart(&mut self) {
        assert!(self.live.is_none(), "crash the stack before it is restarted");
        let ended = &self.ended;
        eventually("the crashed application has no clones", || async { (ended.strong_count() == 0).then_some(()) })
            .await;
        let live = Live::open(self.database(), &self.clock, &self.entropy, &self.zone, &self.config).await;
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
    }

    fn live(&self) -> &Live {
        self.live.as_ref().expect("the stack was crashed and not restarted")
    }
}

fn name(text: &str) -> TenantName {
    TenantName::new(text).expect("the kit's names are right")
}

async fn tenant(control: &Control, text: &str) -> Tenant {
    let record = control.ensure_tenant(name(text)).await.expect("the tenant is made");
    let request = TenantKeyRequest { name: "first".to_owned(), scopes: ScopeSet::tenant(), expires_at: None };
    let key = control.issue_key(record.id, request).await.expect("the tenant's key is made");
    let principal = Principal { tenant: record.id, subject: Subject::Key(key.record.id), scopes: ScopeSet::tenant() };
    Tenant { record, key, principal, project: ProjectName::default_project() }
}

fn hello(index: usize, node: Node, clock: &ManualClock, entropy: &SeededEntropy) -> NodeHello {
    let third = u8::try_from(index).expect("a test has fewer than 256 nodes");
    NodeHello {
        node: NodeId::generate(clock, entropy),
        name: format!("node-{index}"),
        architecture: node.architecture,
        capacity: node.capacity,
        range: (Ipv4Addr::new(10, 200, third, 0), 24),
        boot: BootId::generate(clock, entropy),
        journal: JournalId::generate(clock, entropy),
    }
}
