//! Putting a stack together.

use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};

use wherry_agent_api::NodeHello;
use wherry_control::{Control, ControlConfig, NewKey, TenantKeyRequest};
use wherry_model::{
    Architecture, BootId, Capacity, JournalId, NodeId, Principal, ProjectName, ScopeSet, Subject, TenantName,
};
use wherry_node_agent::Machine;
use wherry_sealing::{Keyring, SealingKey};
use wherry_store::TenantRecord;
use wherry_store_memory::MemoryStore;

use crate::stack::{DATABASE, Live};
use crate::{Line, ManualClock, RealNode, RecordingZone, ScriptedAgent, SeededEntropy, Stack};

/// Where the engine in memory takes addresses from, whichever node it serves.
const ENGINE_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 77, 0, 0), 16);

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
    real_nodes: Vec<Node>,
    config: ControlConfig,
    memory: Option<MemoryStore>,
}

impl Default for StackBuilder {
    fn default() -> Self {
        let nodes = vec![Node::sized(4_000, 4_096)];
        let mut config = ControlConfig::new([7; 32]);
        config.sealing = Keyring::of(SealingKey::generate("1", &SeededEntropy::new(7)));
        Self { seed: 1, nodes, real_nodes: Vec::new(), config, memory: None }
    }
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

    /// These nodes with real agents, beside the others. The clock runs then.
    pub fn real_nodes(mut self, nodes: impl IntoIterator<Item = Node>) -> Self {
        self.real_nodes = nodes.into_iter().collect();
        self
    }

    /// Changes the application's configuration.
    pub fn configure(mut self, change: impl FnOnce(&mut ControlConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Keeps the data here instead of in a file: for rows by the ten thousand, and for records that are broken.
    pub fn on(mut self, memory: &MemoryStore) -> Self {
        self.memory = Some(memory.clone());
        self
    }

    /// Builds it: the application is open, two tenants exist, every node has said hello and proved life.
    pub async fn start(self) -> Stack {
        let folder = tempfile::Builder::new().prefix("wherry-testkit-").tempdir().expect("a temporary folder is made");
        let clock = Arc::new(ManualClock::default());
        let entropy = Arc::new(SeededEntropy::new(self.seed));
        let zone = Arc::new(RecordingZone::default());
        let line = Arc::new(Line::default());
        let database = folder.path().join(DATABASE);
        let live = Live::open(self.memory.as_ref(), database, &clock, &entropy, &zone, &self.config).await;
        line.plug(live.control.clone());
        let operator = Principal {
            tenant: live.control.ensure_tenant(name("operator")).await.expect("the operator's tenant is made").id,
            subject: Subject::External { issuer: "testkit".to_owned(), subject: "operator".to_owned() },
            scopes: ScopeSet::all(),
        };
        let tenants = [tenant(&live.control, "acme").await, tenant(&live.control, "blue").await];
        let mut agents = Vec::new();
        for (index, node) in self.nodes.into_iter().enumerate() {
            let hello = hello(machine(index, node, &clock, &entropy), &clock, &entropy);
            agents.push(ScriptedAgent::new(Arc::clone(&line), Arc::clone(&clock), Arc::clone(&entropy), hello));
        }
        let mut real = Vec::new();
        for (index, node) in self.real_nodes.into_iter().enumerate() {
            clock.run();
            let data = folder.path().join(format!("real-node-{index}"));
            let mut machine = machine(agents.len() + index, node, &clock, &entropy);
            machine.range = ENGINE_RANGE;
            let (line, clock, entropy) = (Arc::clone(&line), Arc::clone(&clock), Arc::clone(&entropy));
            let mut node = RealNode::new(data, machine, line, clock, entropy);
            node.start().await;
            node.heard().await;
            real.push(node);
        }
        let stack = Stack {
            live: Some(live),
            ended: Weak::<MemoryStore>::new(),
            memory: self.memory,
            clock,
            entropy,
            zone,
            line,
            config: self.config,
            operator,
            tenants,
            agents,
            real,
            folder,
        };
        stack.greet().await;
        stack
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

fn machine(index: usize, node: Node, clock: &ManualClock, entropy: &SeededEntropy) -> Machine {
    let third = u8::try_from(index).expect("a test has fewer than 256 nodes");
    let range = (Ipv4Addr::new(10, 200, third, 0), 24);
    Machine {
        node: NodeId::generate(clock, entropy),
        name: format!("node-{index}"),
        architecture: node.architecture,
        capacity: node.capacity,
        range,
        boot: BootId::generate(clock, entropy),
        dns_server: Ipv4Addr::new(10, 200, third, 1),
        underlay: Some(Ipv4Addr::new(192, 0, 2, third)),
    }
}

fn hello(machine: Machine, clock: &ManualClock, entropy: &SeededEntropy) -> NodeHello {
    NodeHello {
        node: machine.node,
        name: machine.name,
        architecture: machine.architecture,
        capacity: machine.capacity,
        range: machine.range,
        boot: machine.boot,
        journal: JournalId::generate(clock, entropy),
        desired_revision: None,
        underlay: machine.underlay,
        isolation: wherry_model::IsolationSet::default(),
        zone: None,
        disk_mib: None,
        gpus: wherry_model::GpuOffer::default(),
        images: Vec::new(),
        protocol: wherry_agent_api::PROTOCOL,
    }
}
