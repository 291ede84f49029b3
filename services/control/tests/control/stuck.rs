//! On a store in memory, which fails single calls: all time is tokio's here, and paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use wherry_agent_api::{ControlPlane, Heartbeat, NodeHello};
use wherry_control::{Background, Control, ControlConfig, ReconcilerStatus};
use wherry_model::{
    Architecture, BootId, Capacity, Clock, JournalId, NodeId, NodeRecord, NodeState, Principal, ScopeSet, Subject,
    TenantName,
};
use wherry_store::{NodeStore, StoreError};
use wherry_testkit::{ManualClock, MemoryStore, RecordingZone, SeededEntropy, Stack, Trouble};

use crate::support::seconds;

/// Fails the next call of this name, once it is armed.
struct FailsOnce {
    call: &'static str,
    armed: AtomicBool,
}

#[async_trait]
impl Trouble for FailsOnce {
    async fn before(&self, call: &'static str) -> Result<(), StoreError> {
        if call == self.call && self.armed.swap(false, Ordering::SeqCst) {
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

/// Nodes on a store in memory, without anything on them.
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
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1)));
        clock.run();
        let trouble = Arc::new(FailsOnce { call, armed: AtomicBool::new(false) });
        let store = Arc::new(MemoryStore::new().handle(Arc::clone(&trouble) as Arc<dyn Trouble>));
        let control = application(&store, &clock, &entropy).await;
        let mut nodes = Vec::new();
        for number in 0..count {
            let hello = NodeHello {
                node: NodeId::generate(clock.as_ref(), entropy.as_ref()),
                name: format!("node-{number}"),
                architecture: Architecture::Amd64,
                capacity: Capacity { cpu_millis: 1_000, memory_mib: 1_024, instances: 10 },
                range: (std::net::Ipv4Addr::new(10, 200, number, 0), 24),
                boot: BootId::generate(clock.as_ref(), entropy.as_ref()),
                journal: JournalId::generate(clock.as_ref(), entropy.as_ref()),
                desired_revision: None,
                underlay: None,
            };
            control.hello(hello.clone()).await.unwrap();
            nodes.push(hello);
        }
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
    let tenant = fleet.control.ensure_tenant(TenantName::new("operator").unwrap()).await.unwrap().id;
    let subject = Subject::External { issuer: "test".to_owned(), subject: "operator".to_owned() };
    let operator = Principal { tenant, subject, scopes: ScopeSet::all() };
    let other = application(&fleet.store, &fleet.clock, &fleet.entropy).await;
    let background = Background::start(&other);
    // Between two of its looks at all rows, which are a second apart.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    fleet.control.cordon_node(&operator, "node-1").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let told = other.fleet_events(&operator, 0, 100).unwrap();
    assert!(told.iter().any(|event| event.kind.as_str() == "node_cordoned"), "{told:?}");
    background.stop().await;
}
