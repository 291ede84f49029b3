//! A small world to test in: one tenant, its default project, one price book, nodes and instances on demand.
//!
//! Ids are counted, moments are given by the cases: a run is the same every time.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;
use wherry_metering::Interval;
use wherry_model::lifecycle::{self, Ask, Birth, Change, MeterEdge};
use wherry_model::{
    Architecture, BootId, Capacity, ContainerExit, ContainerName, ContainerSpec, CpuMillis, EndReason, Fact, Instance,
    InstanceId, InstanceName, InstanceSpec, InstanceState, IsolationSet, JournalId, Leaving, MemoryMib, NodeId,
    NodeRecord, Observation, PriceBook, ProjectId, ProjectName, Revision, TenantId, TenantName, Timestamp,
};
use wherry_store::{
    Applied, CreateOutcome, EventQuery, NameOutcome, NodeRegistration, Placed, ProjectRecord, Store, StoredEvent,
    TenantRecord, UsageQuery,
};

use crate::Subject;

/// What every instance of the suite asks for, unless a case says otherwise: 100m and 64 MiB.
pub const CPU_MILLIS: u32 = 100;
/// See [`CPU_MILLIS`].
pub const MEMORY_MIB: u32 = 64;

/// More ids than one process of a test takes.
const IDS_OF_A_PROCESS: u32 = 1 << 20;

/// A store with a tenant to work for.
#[derive(Clone)]
pub struct World {
    /// The store under test.
    pub store: Arc<dyn Store>,
    /// The tenant that the helpers act for.
    pub tenant: TenantId,
    /// That tenant's default project.
    pub project: ProjectId,
    ids: Arc<AtomicU32>,
}

/// The moment `seconds` into the test.
pub const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_000_000 + seconds)
}

/// The only container of an instance.
pub fn main_container() -> ContainerName {
    ContainerName::new("main").expect("a fixed name")
}

/// A name.
pub fn name(text: &str) -> InstanceName {
    InstanceName::new(text).expect("cases use valid names")
}

impl World {
    /// A world on a store, of a tenant that need not be there yet.
    pub fn bare(store: Arc<dyn Store>, tenant: TenantId, project: ProjectId) -> Self {
        Self { store, tenant, project, ids: Arc::default() }
    }

    /// The world that an earlier process made on this store; its ids go on above those of all earlier ones.
    pub async fn continued(store: Arc<dyn Store>) -> Self {
        let tenants = store.tenants(None, 1).await.expect("tenants can be read");
        let projects = store.projects(tenants[0].id, 1).await.expect("projects can be read");
        let world = Self::bare(store, tenants[0].id, projects[0].id);
        let first = world.store.reserve("world", IDS_OF_A_PROCESS).await.expect("numbers can be taken");
        world.ids.store(u32::try_from(first).expect("few processes"), Ordering::Relaxed);
        world
    }

    /// The same world on another handle of the store.
    pub fn over(&self, store: Arc<dyn Store>) -> Self {
        Self { store, ..self.clone() }
    }

    /// Stores a price book, a tenant and its default project.
    pub async fn new(subject: &dyn Subject) -> Self {
        let world = Self::bare(subject.store(), TenantId::from_uuid(Uuid::nil()), ProjectId::from_uuid(Uuid::nil()));
        world.store.reserve("world", IDS_OF_A_PROCESS).await.expect("numbers can be taken");
        world.store.put_price_book(&PriceBook::default_book()).await.expect("a price book can be stored");
        world.with_tenant("acme").await
    }

    /// The same world on the store as it is open now.
    pub fn on(&self, subject: &dyn Subject) -> Self {
        self.over(subject.store())
    }

    /// The same world seen by another, new tenant.
    pub async fn with_tenant(&self, name: &str) -> Self {
        let tenant = TenantRecord {
            id: TenantId::from_uuid(self.uuid()),
            name: TenantName::new(name).expect("cases use valid names"),
            created_at: at(0),
        };
        let project = ProjectRecord {
            id: ProjectId::from_uuid(self.uuid()),
            tenant: tenant.id,
            name: ProjectName::default_project(),
            created_at: at(0),
        };
        let stored = self.store.create_tenant(&tenant, &project).await.expect("a tenant can be stored");
        assert_eq!(stored, NameOutcome::Created);
        Self { tenant: tenant.id, project: project.id, ..self.clone() }
    }

    /// The same world seen from another, new project of the tenant.
    pub async fn with_project(&self, name: &str) -> Self {
        let project = ProjectRecord {
            id: ProjectId::from_uuid(self.uuid()),
            tenant: self.tenant,
            name: ProjectName::new(name).expect("cases use valid names"),
            created_at: at(0),
        };
        let stored = self.store.create_project(&project).await.expect("a project can be stored");
        assert_eq!(stored, NameOutcome::Created);
        Self { project: project.id, ..self.clone() }
    }

    /// The same tenant asking with the id of `project`, be it its own or not.
    pub fn in_project(&self, project: ProjectId) -> Self {
        Self { project, ..self.clone() }
    }

    /// A new UUID, above all that came before.
    pub fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.ids.fetch_add(1, Ordering::Relaxed)) + (7 << 76))
    }

    /// A new journal.
    pub fn journal(&self) -> JournalId {
        JournalId::from_uuid(self.uuid())
    }

    /// What a new node of this size would say of itself.
    pub fn registration(&self, capacity: Capacity) -> NodeRegistration {
        NodeRegistration {
            held_revision: 0,
            id: NodeId::from_uuid(self.uuid()),
            name: "node".to_owned(),
            architecture: Architecture::Amd64,
            capacity,
            range: (Ipv4Addr::new(10, 7, 0, 0), 24),
            boot: BootId::from_uuid(self.uuid()),
            underlay: None,
            protocol: NodeRecord::PROTOCOL_OF_REVISIONS,
            isolation: IsolationSet::default(),
            zone: None,
            disk_mib: None,
            gpus: wherry_model::GpuOffer::default(),
            overcommit: wherry_model::Overcommit::default(),
        }
    }

    /// A new node with room for `instances` of the usual size, and to spare of everything but CPU.
    pub async fn node_for(&self, instances: u32) -> NodeId {
        let registration = self.registration(Capacity {
            cpu_millis: u64::from(instances) * u64::from(CPU_MILLIS),
            memory_mib: 1 << 20,
            instances: instances + 1_000,
        });
        self.registered(&registration, 0).await.id
    }

    /// The row of a node that says this of itself and is not refused.
    pub async fn registered(&self, registration: &NodeRegistration, second: i64) -> NodeRecord {
        let stored = self.store.register_node(registration, at(second)).await.expect("a node can be stored");
        stored.expect("the node was not removed")
    }

    /// The node's row.
    pub async fn node(&self, node: NodeId) -> NodeRecord {
        self.store.node(node).await.expect("a node can be read").expect("the node is there")
    }

    /// How many instances of the usual size are taken from the node; the three sums must agree.
    pub async fn used(&self, node: NodeId) -> u32 {
        let used = self.node(node).await.used;
        assert_eq!(used.cpu_millis, u64::from(used.instances) * u64::from(CPU_MILLIS), "CPU and count differ");
        assert_eq!(used.memory_mib, u64::from(used.instances) * u64::from(MEMORY_MIB), "memory and count differ");
        used.instances
    }

    /// A create on `node`, made at second `second`.
    pub fn create(&self, name: &str, node: NodeId, second: i64) -> Placed {
        self.create_with(name, node, second, |_| ())
    }

    /// The same with another spec.
    pub fn create_with(&self, name: &str, node: NodeId, second: i64, edit: impl FnOnce(&mut InstanceSpec)) -> Placed {
        let image = "registry.example/web:1".parse().expect("a fixed reference");
        let (cpu, memory) = (CpuMillis::new(CPU_MILLIS), MemoryMib::new(MEMORY_MIB));
        let mut spec = InstanceSpec::new(vec![ContainerSpec::new(main_container(), image, cpu, memory)]);
        edit(&mut spec);
        self.placed(name, spec, Some(node), second)
    }

    /// One that waits for its time, nowhere.
    pub fn create_waiting(&self, name: &str, second: i64, edit: impl FnOnce(&mut InstanceSpec)) -> Placed {
        let mut spec = self.create_with(name, NodeId::from_uuid(self.uuid()), second, |_| ()).change.after.spec;
        edit(&mut spec);
        self.placed(name, spec, None, second)
    }

    fn placed(&self, name: &str, spec: InstanceSpec, node: Option<NodeId>, second: i64) -> Placed {
        let birth = Birth {
            id: InstanceId::from_uuid(self.uuid()),
            tenant: self.tenant,
            project: self.project,
            project_name: ProjectName::default_project(),
            name: self::name(name),
            spec,
            node,
            actor: "key:test".to_owned(),
        };
        Placed { change: lifecycle::create(birth, at(second)), idempotency: None }
    }

    /// Stores a create that must succeed.
    pub async fn created(&self, placed: &Placed) -> Instance {
        match self.store.place_and_create(placed).await.expect("a create can be stored") {
            CreateOutcome::Created(instance) => *instance,
            other => panic!("the create of {} ended as {other:?}", placed.change.after.name),
        }
    }

    /// Makes an instance of the usual size.
    pub async fn instance(&self, name: &str, node: NodeId, second: i64) -> Instance {
        self.created(&self.create(name, node, second)).await
    }

    /// Stores a change that must succeed; the record afterwards.
    pub async fn applied(&self, change: Change) -> Instance {
        let outcome = self.store.apply(&change).await.expect("a change can be stored");
        assert_eq!(outcome, Applied::Yes, "{change:?}");
        change.after
    }

    /// A running instance: its sandbox has an address, its container runs since `second`.
    pub async fn running(&self, instance: &Instance, second: i64) -> Instance {
        let address =
            Ipv4Addr::from_bits(0x0a07_0000 | u32::try_from(instance.id.as_uuid().as_u128() & 0xffff).expect("masked"));
        let ready = self.applied(seen(instance, second, Fact::SandboxReady { address })).await;
        self.applied(seen(&ready, second, started(1, second))).await
    }

    /// The instance has left its node, which is confirmed off, and waits for a place.
    pub async fn displaced(&self, instance: &Instance, second: i64) -> Instance {
        let leaving = lifecycle::leave(instance, Leaving::Move, at(second)).expect("it can be moved");
        let leaving = self.applied(leaving).await;
        let waiting = lifecycle::lose(&leaving, at(second), true, at(second)).expect("its node is off");
        assert_eq!(waiting.after.state, InstanceState::Pending);
        self.applied(waiting).await
    }

    /// An instance that was placed on `node` and waits for another place.
    pub async fn waiting(&self, name: &str, node: NodeId, second: i64) -> Instance {
        self.displaced(&self.instance(name, node, second).await, second).await
    }

    /// Takes the instance out of the world, through all its states.
    pub async fn deleted(&self, instance: &Instance, second: i64) -> Instance {
        let deleting = self.applied(asked(instance, Ask::Delete, second)).await;
        self.applied(seen(&deleting, second, Fact::Removed)).await
    }

    /// The record as it is stored now.
    pub async fn read(&self, id: InstanceId) -> Instance {
        let found = self.store.instance(self.tenant, id).await.expect("an instance can be read");
        found.expect("the instance is there")
    }

    /// All events of the project.
    pub async fn events(&self) -> Vec<StoredEvent> {
        let query = EventQuery { tenant: self.tenant, project: self.project, instance: None, after: 0, limit: 100_000 };
        self.store.events(&query).await.expect("events can be read")
    }

    /// A query for all intervals of the tenant.
    pub fn usage(&self) -> UsageQuery {
        UsageQuery {
            tenant: self.tenant,
            project: None,
            instance: None,
            from_second: i64::MIN,
            to_second: i64::MAX,
            limit: 100_000,
            after: None,
        }
    }

    /// All intervals of one instance.
    pub async fn intervals(&self, instance: InstanceId) -> Vec<Interval> {
        let query = UsageQuery { instance: Some(instance), ..self.usage() };
        self.store.intervals(&query).await.expect("intervals can be read")
    }
}

/// The change that a fact makes; it must make one.
pub fn seen(instance: &Instance, second: i64, fact: Fact) -> Change {
    let observation = Observation {
        seq: 1,
        instance: instance.id,
        generation: instance.generation,
        revision: 0,
        at: at(second),
        fact,
    };
    lifecycle::observe(instance, &observation, at(second)).expect("the fact changes something")
}

/// The change that an ask makes; it must make one.
pub fn asked(instance: &Instance, ask: Ask, second: i64) -> Change {
    let change = lifecycle::intend(instance, ask, "key:test", at(second)).expect("the ask is not refused");
    change.expect("the ask changes something")
}

/// A run has begun.
pub fn started(run: u32, second: i64) -> Fact {
    Fact::ContainerStarted { container: main_container(), run, started_at: at(second) }
}

/// A run has ended.
pub fn exited(run: u32, from: i64, to: i64, exit_code: i32) -> Fact {
    Fact::ContainerExited {
        container: main_container(),
        run,
        started_at: at(from),
        exit: ContainerExit { finished_at: at(to), exit_code, signal: None, reason: EndReason::Exited, message: None },
        restart_at: None,
    }
}

/// A change that only carries meter edges: for sequences that the lifecycle would not make.
pub fn edges(instance: &Instance, meter: Vec<MeterEdge>) -> Change {
    let mut after = instance.clone();
    after.revision = Revision(instance.revision.0 + 1);
    Change { from: instance.revision, after, releases: None, takes: None, meter, events: Vec::new() }
}
