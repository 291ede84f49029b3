//! Building a world and letting it run.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use wherry_control::ControlConfig;
use wherry_model::{
    Architecture, BootId, Capacity, Clock, NodeId, ProjectId, ProjectName, TenantId, TenantName, Timestamp,
};
use wherry_node_agent::{AgentConfig, Machine as MachineConfig};
use wherry_store::{ProjectRecord, TenantRecord, TenantStore};
use wherry_store_memory::MemoryStore;

use super::dice::Dice;
use super::faults::Character;
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
    _folder: TempDir,
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
        let mut machines = Vec::new();
        for index in 0..2 + dice.index(3) {
            let clock = clock(&character, &dice);
            let machine = machine(index, &character, &dice, &clock, &entropy);
            let mut agent = AgentConfig::new(folder.path().join(format!("machine-{index}")), machine);
            agent.logs.check_every = Duration::from_mins(1);
            let link = Arc::new(Link::new(Arc::clone(&network), index));
            let (entropy, oracle) = (Arc::clone(&entropy), Arc::clone(&oracle));
            let mut machine = Machine::new(index, agent, clock, entropy, link, oracle);
            machine.start().await;
            machines.push(machine);
        }
        let users =
            Users::new(Arc::clone(&network), Arc::clone(&oracle), dice.clone(), &tenants, character.replaceable);
        let blind_until = vec![begun; network.replicas.len()];
        oracle.note(format!("{} replicas, {} machines, {character:?}", network.replicas.len(), machines.len()));
        Self {
            dice,
            store,
            oracle,
            network,
            machines,
            users: Arc::new(users),
            character,
            begun,
            began_at: truth.now(),
            blind_until,
            _folder: folder,
        }
    }

    /// Looks at everything that must hold now.
    pub(super) fn check(&self) {
        self.oracle.check(&self.store.contents().nodes);
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

fn machine(
    index: usize,
    character: &Character,
    dice: &Dice,
    clock: &ManualClock,
    entropy: &SeededEntropy,
) -> MachineConfig {
    let third = u8::try_from(index).expect("a world has few machines");
    let most = if character.crowded { 1 } else { 3 };
    let cpu_millis = [1_000, 2_000, 4_000].get(dice.index(most)).copied().unwrap_or(2_000);
    MachineConfig {
        node: NodeId::generate(clock, entropy),
        name: format!("machine-{index}"),
        architecture: Architecture::Amd64,
        capacity: Capacity { cpu_millis, memory_mib: 2_048, instances: 20 },
        range: (Ipv4Addr::new(10, 128, third, 0), 24),
        boot: BootId::generate(clock, entropy),
        dns_server: Ipv4Addr::new(10, 128, third, 1),
        underlay: Some(Ipv4Addr::new(192, 0, 2, third + 1)),
    }
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
