//! On a store in memory, which fails single calls: all time is tokio's here, and paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use wherry_agent_api::{ControlPlane, Heartbeat, NodeHello};
use wherry_control::{Background, Control, ControlConfig, DrainRequest, FleetEventKind, ReconcilerStatus};
use wherry_model::{
    Architecture, BootId, Capacity, Clock, DrainThen, Instance, InstanceSpec, InstanceState, JournalId, NodeId,
    NodeRecord, NodeState, OnNodeLoss, Principal, RestartPolicy, Schedule, ScopeSet, Subject, TenantName,
};
use wherry_store::{InstanceStore, NodeStore, StoreError};
use wherry_testkit::{ManualClock, MemoryStore, RecordingZone, SeededEntropy, Stack, Trouble, replaceable, sized};

use crate::support::{asked, seconds};

/// Fails the next call of this name, once it is armed, or one after that. Or holds it, where there is a permit to wait for.
struct FailsOnce {
    call: &'static str,
    armed: AtomicBool,
    passing: AtomicU32,
    holds: Option<Semaphore>,
}

#[async_trait]
impl Trouble for FailsOnce {
    async fn before(&self, call: &'static str) -> Result<(), StoreError> {
        let passes =
            || self.passing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if call == self.call && self.armed.load(Ordering::SeqCst) && !passes() {
            self.armed.store(false, Ordering::SeqCst);
            if let Some(holds) = &self.holds {
                let _held = holds.acquire().await;
                return Ok(());
            }
            return Err(StoreError::Violation { context: "the test wants it so".to_owned(), source: None });
        }
        Ok(())
    }

    async fn after(&self, _call: &'static str, _wrote: bool) -> Result<(), StoreError> {
        Ok(())
    }

    async fn wakes(&self) -> bool {
        true
    }
}

/// Nodes on a store in memory, with nothing on them yet.
struct Fleet {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    trouble: Arc<FailsOnce>,
    control: Control,
    nodes: Vec<NodeHello>,
}

impl Fleet {
    async fn start(count: u8, call: &'static str) -> Self {
        Self::with(count, call, None).await
    }

    async fn with(count: u8, call: &'static str, holds: Option<Semaphore>) -> Self {
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1)));
        clock.run();
        let trouble = Arc::new(FailsOnce { call, armed: AtomicBool::new(false), passing: AtomicU32::new(0), holds });
        let store = Arc::new(MemoryStore::new().handle(Arc::clone(&trouble) as Arc<dyn Trouble>));
        let control = application(&store, &clock, &entropy).await;
        let mut nodes = Vec::new();
        for number in 0..count {
            let hello = NodeHello {
                node: NodeId::generate(clock.as_ref(), entropy.as_ref()),
                name: format!("node-{number}"),
                architecture: Architecture::Amd64,
                capacity: Capacity { cpu_millis: 20_000, memory_mib: 20_480, instances: 1_000 },
                range: (std::net::Ipv4Addr::new(10, 200, number, 0), 24),
                boot: BootId::generate(clock.as_ref(), entropy.as_ref()),
                journal: JournalId::generate(clock.as_ref(), entropy.as_ref()),
                desired_revision: None,
                underlay: None,
                isolation: wherry_model::IsolationSet::default(),
                zone: None,
                disk_mib: None,
                gpus: wherry_model::GpuOffer::default(),
                images: Vec::new(),
                protocol: wherry_agent_api::PROTOCOL,
            };
            control.hello(hello.clone()).await.unwrap();
            nodes.push(hello);
        }
        // As placement does.
        nodes.sort_by_key(|hello| hello.node);
        let fleet = Self { store, clock, entropy, trouble, control, nodes };
        fleet.heard(0).await;
        Stack::background_of(&fleet.control).await;
        fleet
    }

    /// All but the first `silent` prove life.
    async fn heard(&self, silent: usize) {
        for hello in self.nodes.iter().skip(silent) {
            let (node, boot, at) = (hello.node, hello.boot, self.clock.now());
            let life = Heartbeat { node, boot, epoch: 0, at, running: Vec::new(), pulls: Vec::new() };
            self.control.heartbeat(life).await.unwrap();
        }
    }

    /// The first two are silent for so long; then every reconciler works, and one call fails.
    async fn two_are_silent(&self, time: u64) -> Vec<ReconcilerStatus> {
        tokio::time::sleep(seconds(time)).await;
        self.heard(2).await;
        self.trouble.armed.store(true, Ordering::SeqCst);
        let statuses = Stack::background_of(&self.control).await;
        assert!(!self.trouble.armed.load(Ordering::SeqCst), "the call was made");
        statuses
    }

    /// Somebody who may do everything.
    async fn operator(&self) -> Principal {
        let tenant = self.control.ensure_tenant(TenantName::new("operator").unwrap()).await.unwrap().id;
        let subject = Subject::External { issuer: "test".to_owned(), subject: "operator".to_owned() };
        Principal { tenant, subject, scopes: ScopeSet::all() }
    }

    /// Creates one, and says where it is.
    async fn create(&self, principal: &Principal, spec: InstanceSpec) -> NodeId {
        let created = self.control.create_instance(principal, asked(None, spec)).await.unwrap();
        created.view.instance.node.unwrap()
    }

    /// Creates so many small ones that are due at each whole minute, and waits for one.
    async fn some_are_due(&self, count: u32) {
        let operator = self.operator().await;
        let schedule = Some(Schedule::new("* * * * *", "UTC"));
        let small = InstanceSpec { schedule, restart_policy: RestartPolicy::Never, ..sized(10, 4) };
        for _ in 0..count {
            self.control.create_instance(&operator, asked(None, small.clone())).await.unwrap();
        }
        tokio::time::sleep(seconds(60)).await;
        self.heard(0).await;
    }

    /// How many are on any machine.
    async fn placed(&self) -> usize {
        let mut count = 0;
        for hello in &self.nodes {
            count += self.on(hello.node).await.len();
        }
        count
    }

    async fn on(&self, node: NodeId) -> Vec<Instance> {
        self.store.instances_on(node).await.unwrap().unwrap().instances
    }

    /// The first two are silent, and what is on them is unknown: nobody writes it while they are fenced.
    async fn two_are_unknown(&self) {
        tokio::time::sleep(seconds(20)).await;
        self.heard(2).await;
        Stack::background_of(&self.control).await;
    }

    /// How many rows are so.
    async fn count(&self, is_so: impl Fn(&NodeRecord) -> bool) -> usize {
        self.store.nodes().await.unwrap().iter().filter(|node| is_so(node)).count()
    }
}

async fn application(store: &Arc<MemoryStore>, clock: &Arc<ManualClock>, entropy: &Arc<SeededEntropy>) -> Control {
    let store = Arc::clone(store);
    let (clock, entropy, zone) = (Arc::clone(clock), Arc::clone(entropy), Arc::new(RecordingZone::default()));
    Control::open(store, clock, entropy, zone, ControlConfig::new([7; 32])).await.unwrap()
}

fn failures(statuses: &[ReconcilerStatus], name: &str) -> u64 {
    statuses.iter().find(|status| status.name == name).unwrap().failures
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_fenced_does_not_hold_up_those_behind_it() {
    let fleet = Fleet::start(6, "fencing a node").await;
    let statuses = fleet.two_are_silent(400).await;
    assert_eq!(failures(&statuses, "node fencing"), 1, "it is said: {statuses:?}");
    assert_eq!(fleet.count(|node| node.fenced).await, 1);
    Stack::background_of(&fleet.control).await;
    assert_eq!(fleet.count(|node| node.fenced).await, 2, "it is tried again");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_doubted_does_not_hold_up_those_behind_it() {
    let fleet = Fleet::start(6, "raising a doubt about a node").await;
    let statuses = fleet.two_are_silent(20).await;
    assert_eq!(failures(&statuses, "node silence"), 1, "it is said: {statuses:?}");
    assert_eq!(fleet.count(|node| node.state == NodeState::Silent).await, 1);
    Stack::background_of(&fleet.control).await;
    assert_eq!(fleet.count(|node| node.state == NodeState::Silent).await, 2, "it is tried again");
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_a_node_at_one_replica_is_seen_by_the_others_at_once() {
    let fleet = Fleet::start(3, "no such call").await;
    let operator = fleet.operator().await;
    let other = application(&fleet.store, &fleet.clock, &fleet.entropy).await;
    let background = Background::start(&other);
    // Between two of its looks at all rows, which are a second apart.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    fleet.control.cordon_node(&operator, "node-1").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let told = other.fleet_events(&operator, 0, 100).unwrap();
    assert!(told.iter().any(|event| event.kind == FleetEventKind::NodeCordoned), "{told:?}");

    fleet.control.remove_node(&operator, "node-1").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let told = other.fleet_events(&operator, 0, 100).unwrap();
    assert!(told.iter().any(|event| event.kind == FleetEventKind::NodeRemoved), "{told:?}");
    background.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_emptied_does_not_hold_up_those_behind_it() {
    for call in ["changing an instance", "reading a node's instances"] {
        let fleet = Fleet::start(3, call).await;
        let operator = fleet.operator().await;
        // More than half of a machine each.
        let mut nodes = Vec::new();
        for _ in 0..2 {
            nodes.push(fleet.create(&operator, sized(11_000, 64)).await);
        }
        assert_ne!(nodes[0], nodes[1]);
        for node in &nodes {
            let request = DrainRequest { grace: std::time::Duration::ZERO, then: DrainThen::Stop };
            fleet.control.drain_node(&operator, &node.to_string(), request).await.unwrap();
        }
        let leaving = async || {
            let mut count = 0;
            for node in &nodes {
                count += fleet.on(*node).await.iter().filter(|one| one.state == InstanceState::Stopping).count();
            }
            count
        };
        fleet.trouble.armed.store(true, Ordering::SeqCst);
        let statuses = Stack::background_of(&fleet.control).await;
        assert_eq!(failures(&statuses, "node drain"), 1, "it is said: {statuses:?}");
        assert_eq!(leaving().await, 1, "{call}");
        Stack::background_of(&fleet.control).await;
        assert_eq!(leaving().await, 2, "it is tried again: {call}");
    }
}

/// A pass that empties a machine keeps room for what waits, in its own picture: it goes on for long, and what waits gets that room.
#[tokio::test(start_paused = true)]
async fn what_waits_is_placed_while_a_machine_is_emptied() {
    let fleet = Fleet::with(3, "reading a node's instances", Some(Semaphore::new(0))).await;
    let operator = fleet.operator().await;
    // More than half of a machine each.
    let mut nodes = Vec::new();
    for spec in [InstanceSpec { on_node_loss: OnNodeLoss::Replace, ..sized(11_000, 64) }, sized(11_000, 64)] {
        nodes.push(fleet.create(&operator, spec).await);
    }
    assert_eq!(nodes, [fleet.nodes[0].node, fleet.nodes[1].node]);
    // The first is lost, and what was on it waits: the third, which is empty, takes nothing yet.
    let empty = fleet.nodes[2].node;
    fleet.control.cordon_node(&operator, &empty.to_string()).await.unwrap();
    tokio::time::sleep(seconds(400)).await;
    fleet.heard(1).await;
    Stack::background_of(&fleet.control).await;
    let waiting = async || fleet.store.pending(10).await.unwrap().len();
    assert_eq!(waiting().await, 1);
    fleet.control.uncordon_node(&operator, &empty.to_string()).await.unwrap();
    let request = DrainRequest { grace: std::time::Duration::ZERO, then: DrainThen::Move };
    fleet.control.drain_node(&operator, &nodes[1].to_string(), request).await.unwrap();

    // It is read what else leaves the second, and then, with room kept for what waits, what is on it: there the pass stands.
    fleet.trouble.passing.store(1, Ordering::SeqCst);
    fleet.trouble.armed.store(true, Ordering::SeqCst);
    let background = Background::start(&fleet.control);
    for _ in 0..20 {
        fleet.heard(1).await;
        tokio::time::sleep(seconds(1)).await;
    }
    assert!(!fleet.trouble.armed.load(Ordering::SeqCst), "the pass stands");
    assert_eq!((waiting().await, fleet.placed().await), (0, 2), "what waited has its place");
    fleet.trouble.holds.as_ref().unwrap().add_permits(1_000);
    background.stop().await;
    let stays = fleet.on(nodes[1]).await;
    assert_eq!(stays[0].state, InstanceState::Scheduled, "there is no room for the other one");
}

/// Whoever fences dies in the middle of it: what was not taken yet is still where it was, and is taken by the next pass.
#[tokio::test(start_paused = true)]
async fn a_node_with_many_instances_is_fenced_in_batches_and_where_that_broke_off_it_goes_on() {
    let fleet = Fleet::start(6, "fencing a node").await;
    let operator = fleet.operator().await;
    let mut small = replaceable();
    small.containers[0].cpu = wherry_model::CpuMillis::new(10);
    let lost = fleet.nodes[0].node;
    for _ in 0..250 {
        assert_eq!(fleet.create(&operator, small.clone()).await, lost, "one machine is filled first");
    }
    fleet.two_are_unknown().await;
    // The first batch of this node is written, the second is not.
    fleet.trouble.passing.store(1, Ordering::SeqCst);
    let statuses = fleet.two_are_silent(400).await;
    assert_eq!(failures(&statuses, "node fencing"), 1, "{statuses:?}");
    let row = fleet.store.node(lost).await.unwrap().unwrap();
    assert_eq!((row.epoch, row.fenced, row.used.instances), (1, true, 150));
    assert!(fleet.on(lost).await.iter().all(|one| one.generation == wherry_model::Generation(1)));
    Stack::background_of(&fleet.control).await;
    let row = fleet.store.node(lost).await.unwrap().unwrap();
    assert_eq!((row.epoch, row.used.instances, fleet.on(lost).await.len()), (3, 0, 0));
}

/// What comes back between two batches keeps what was not taken.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_heard_between_two_batches_keeps_the_rest() {
    let fleet = Fleet::start(6, "fencing a node").await;
    let operator = fleet.operator().await;
    let mut small = replaceable();
    small.containers[0].cpu = wherry_model::CpuMillis::new(10);
    let hello = fleet.nodes[0].clone();
    for _ in 0..150 {
        assert_eq!(fleet.create(&operator, small.clone()).await, hello.node);
    }
    fleet.two_are_unknown().await;
    fleet.trouble.passing.store(1, Ordering::SeqCst);
    fleet.two_are_silent(400).await;
    let at = fleet.clock.now();
    let life = Heartbeat { node: hello.node, boot: hello.boot, epoch: 1, at, running: Vec::new(), pulls: Vec::new() };
    fleet.control.heartbeat(life).await.unwrap();
    Stack::background_of(&fleet.control).await;
    let row = fleet.store.node(hello.node).await.unwrap().unwrap();
    // What was taken may be given to it again, in another generation.
    let on = fleet.on(hello.node).await;
    let kept = on.iter().filter(|one| one.generation == wherry_model::Generation(1)).count();
    assert_eq!((row.epoch, row.fenced, kept), (1, false, 50));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_be_started_does_not_hold_up_those_behind_it() {
    let fleet = Fleet::start(1, "changing an instance").await;
    fleet.some_are_due(3).await;
    fleet.trouble.armed.store(true, Ordering::SeqCst);
    let statuses = Stack::background_of(&fleet.control).await;
    assert_eq!(failures(&statuses, "schedules"), 1, "it is said: {statuses:?}");
    assert_eq!(fleet.placed().await, 2);
    Stack::background_of(&fleet.control).await;
    assert_eq!(fleet.placed().await, 3, "it is tried again");
}

/// Whole hours come for all at once.
#[tokio::test(start_paused = true)]
async fn more_than_a_batch_is_started_in_one_pass() {
    let fleet = Fleet::start(1, "no such call").await;
    fleet.some_are_due(250).await;
    Stack::background_of(&fleet.control).await;
    assert_eq!(fleet.placed().await, 250);
}
