//! Building a world and letting it run.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use wherry_control::ControlConfig;
use wherry_model::{
    Architecture, BootId, Capacity, Clock, NodeId, ProjectId, ProjectName, TenantId, TenantName, Timestamp, TokenId,
};
use wherry_node_agent::{AgentConfig, Machine as MachineConfig};
use wherry_store::{
    EnrolOutcome, EnrolmentRecord, EnrolmentStore, JoinTokenRecord, ProjectRecord, TenantRecord, TenantStore,
};
use wherry_store_memory::MemoryStore;

use super::dice::Dice;
use super::faults::Character;
use super::fleet::Joined;
use super::grip::Grip;
use super::machine::Machine;
use super::network::{Link, Network};
use super::oracle::Oracle;
use super::replica::Replica;
use super::users::Users;
use super::{Outcome, ending, faults};
use crate::{ManualClock, SeededEntropy};

/// Silence after which instances are unknown.
const DETECTION: Duration = Duration::from_secs(6);
/// Seconds after which an agent ends what may run elsewhere.
const FENCE_AFTER_SECONDS: u32 = 15;
/// What the control plane waits beyond that.
const FENCE_MARGIN: Duration = Duration::from_secs(12);
/// Steps of the time of troubles.
const STEPS: u64 = 45;

/// One world.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) store: MemoryStore,
    pub(super) oracle: Arc<Oracle>,
    pub(super) network: Arc<Network>,
    pub(super) machines: Vec<Machine>,
    pub(super) users: Arc<Users>,
    pub(super) character: Character,
    pub(super) begun: Instant,
    pub(super) began_at: Timestamp,
    /// Until when a replica may know less than the store.
    pub(super) blind_until: Vec<Instant>,
    pub(super) joined: Arc<Joined>,
    /// Machines that were told to join.
    pub(super) joining: usize,
    entropy: Arc<SeededEntropy>,
    folder: TempDir,
}

/// Plays the world of this seed to its end.
pub(super) async fn play(seed: u64) -> Outcome {
    let mut world = World::new(seed).await;
    for _ in 0..STEPS {
        sleep(world.dice.millis(0..4_000)).await;
        faults::step(&mut world).await;
        world.check();
        if !world.oracle.violations().is_empty() {
            break;
        }
    }
    if world.oracle.violations().is_empty() {
        ending::settle(&mut world).await;
    }
    for machine in &world.machines {
        // An agent holds its engine, which holds the grip that holds the agent.
        drop(machine.grip.let_go());
    }
    let (story, trace) = world.oracle.story();
    Outcome { violations: world.oracle.violations(), trace, story }
}

impl World {
    async fn new(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let character = Character::draw(&dice);
        let folder = scratch_folder();
        let begun = Instant::now();
        let entropy = Arc::new(SeededEntropy::new(seed));
        let fence = Duration::from_secs(u64::from(FENCE_AFTER_SECONDS)) + FENCE_MARGIN;
        let oracle = Arc::new(Oracle::new(fence));
        let store = MemoryStore::new();
        store.show(Arc::clone(&oracle) as _);
        let truth = ManualClock::default();
        let tenants = tenants(&store, &truth, &entropy).await;
        let mut config = ControlConfig::new([7; 32]);
        config.detection = DETECTION;
        config.fence_after_seconds = FENCE_AFTER_SECONDS;
        config.fence_margin = FENCE_MARGIN;
        config.lease_time = Duration::from_secs(3);
        config.settle_wait = Duration::from_secs(5);
        let replicas: Vec<Arc<Replica>> = (0..2 + dice.index(2))
            .map(|index| {
                let (clock, entropy) = (clock(&character, &dice), Arc::clone(&entropy));
                let oracle = Arc::clone(&oracle);
                let replica = Replica::new(index, oracle, store.clone(), clock, entropy, config.clone(), dice.clone());
                replica.start();
                replica.set(character.store);
                Arc::new(replica)
            })
            .collect();
        let network = Arc::new(Network::new(replicas, dice.clone(), character.lossy));
        let users = Users::new(
            Arc::clone(&network),
            Arc::clone(&oracle),
            dice.clone(),
            &tenants,
            (character.replaceable, character.several),
        );
        let blind_until = vec![begun; network.replicas.len()];
        let count = 2 + dice.index(3);
        oracle.note(format!("{} replicas, {count} machines, {character:?}", network.replicas.len()));
        let mut world = Self {
            dice,
            store,
            oracle,
            network,
            machines: Vec::new(),
            users: Arc::new(users),
            character,
            begun,
            began_at: truth.now(),
            blind_until,
            joined: Arc::default(),
            joining: 0,
            entropy,
            folder,
        };
        for index in 0..count {
            let (name, range) = (format!("machine-{index}"), range(index));
            let node = world.enrolled(&truth, &name, range).await;
            world.add_machine(name, node, range).await;
        }
        world
    }

    /// A machine that was enrolled before the world begins.
    async fn enrolled(&self, now: &ManualClock, name: &str, range: (Ipv4Addr, u8)) -> NodeId {
        let (created_at, node) = (now.now(), NodeId::generate(now, &*self.entropy));
        let token = JoinTokenRecord {
            id: TokenId::generate(now, &*self.entropy),
            secret_hash: [0; 32],
            range: None,
            created_at,
            expires_at: created_at.plus(Duration::from_mins(1)),
            used_by: None,
            public_key: None,
        };
        let enrolment = EnrolmentRecord { node, name: name.to_owned(), range, created_at, removed_at: None };
        self.store.create_join_token(&token).await.expect("a token is made");
        let outcome = self.store.enrol(token.id, [0; 32], &enrolment).await.expect("a machine is enrolled");
        assert!(matches!(outcome, EnrolOutcome::Enrolled(_)), "{outcome:?}");
        node
    }

    /// A machine comes, and its agent begins.
    pub(super) async fn add_machine(&mut self, name: String, node: NodeId, range: (Ipv4Addr, u8)) {
        let index = self.machines.len();
        let clock = clock(&self.character, &self.dice);
        clock.advance(self.begun.elapsed());
        let (dice, oracle, entropy) = (self.dice.clone(), Arc::clone(&self.oracle), Arc::clone(&self.entropy));
        let config = MachineConfig {
            node,
            name,
            architecture: Architecture::Amd64,
            capacity: capacity(&self.character, &dice),
            range,
            boot: BootId::generate(&*clock, &*entropy),
            dns_server: Ipv4Addr::from_bits(range.0.to_bits() + 1),
            underlay: u8::try_from(index + 1).ok().map(|last| Ipv4Addr::new(192, 0, 2, last)),
        };
        let mut agent = AgentConfig::new(self.folder.path().join(format!("machine-{index}")), config);
        agent.logs.check_every = Duration::from_mins(1);
        let grip = Arc::new(Grip::new(index, self.character.slow_engines, dice, Arc::clone(&oracle)));
        let link =
            Arc::new(Link::new(Arc::clone(&self.network), index, node, Arc::clone(&grip), Arc::clone(&self.oracle)));
        let mut machine = Machine::new(index, agent, clock, entropy, link, grip, oracle);
        machine.start().await;
        self.machines.push(machine);
    }

    /// Looks at everything that must hold now.
    pub(super) fn check(&self) {
        self.oracle.check(&self.store.contents().nodes);
        for machine in &self.machines {
            self.oracle.check_filter(machine.index, &machine.admitted());
        }
        for (index, replica) in self.network.replicas.iter().enumerate() {
            if self.blind_until.get(index).is_none_or(|until| *until <= Instant::now()) {
                self.oracle.check_zone(index, &replica.zone());
            }
        }
    }
}

/// In memory where the system offers that: what an agent keeps is synced after each write.
fn scratch_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("wherry-simulation-").tempdir_in("/dev/shm");
    folder.or_else(|_| tempfile::tempdir()).expect("a temporary folder is made")
}

/// A clock that runs, and does not quite show the truth.
fn clock(character: &Character, dice: &Dice) -> Arc<ManualClock> {
    let clock = Arc::new(ManualClock::default());
    clock.run();
    let skew = dice.millis(0..character.clock_skew_ms.max(1));
    if dice.happens(500) {
        clock.advance(skew);
    } else {
        clock.turn_back(skew);
    }
    clock
}

fn capacity(character: &Character, dice: &Dice) -> Capacity {
    let most = if character.crowded { 1 } else { 3 };
    let cpu_millis = [1_000, 2_000, 4_000].get(dice.index(most)).copied().unwrap_or(2_000);
    Capacity { cpu_millis, memory_mib: 2_048, instances: 20 }
}

/// Of the machines that are there from the beginning; those that join are given theirs.
fn range(index: usize) -> (Ipv4Addr, u8) {
    let third = u8::try_from(index).expect("a world has few machines");
    (Ipv4Addr::new(10, 128, third, 0), 24)
}

async fn tenants(store: &MemoryStore, clock: &ManualClock, entropy: &SeededEntropy) -> Vec<TenantId> {
    let mut made = Vec::new();
    for name in ["acme", "blue"] {
        let created_at = clock.now();
        let name = TenantName::new(name).expect("it is a name");
        let tenant = TenantRecord { id: TenantId::generate(clock, entropy), name, created_at };
        let (id, name) = (ProjectId::generate(clock, entropy), ProjectName::default_project());
        let project = ProjectRecord { id, tenant: tenant.id, name, created_at };
        store.create_tenant(&tenant, &project).await.expect("a tenant is made");
        made.push(tenant.id);
    }
    made
}
