//! The replicas, the machines, and those who create and delete through all of them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use wherry_agent_api::{ControlPlane as _, Heartbeat, NodeHello, Report};
use wherry_control::{Background, Control, ControlConfig, CreateInstance};
use wherry_model::{
    Action, Architecture, BootId, Capacity, Clock as _, Fact, InstanceId, JournalId, NodeId, Observation, Principal,
    ProjectName, ScopeSet, Subject, TenantName,
};
use wherry_store::Store;
use wherry_testkit::{ManualClock, RecordingZone, SeededEntropy, sized};

pub(crate) const REPLICAS: usize = 4;

const MACHINES: u8 = 12;
const ROOM: Capacity = Capacity { cpu_millis: 2_000, memory_mib: 2_048, instances: 12 };

/// Callers of each replica at once, and what each of them asks for.
const CALLERS: u64 = 4;
const ASKS: u32 = 30;

/// A machine that starts nothing and says of what is to be removed that it is.
struct Machine {
    node: NodeId,
    journal: JournalId,
    told: AtomicU64,
}

/// What one caller got.
#[derive(Default)]
struct Got {
    kept: BTreeSet<InstanceId>,
    refused: u32,
}

pub(crate) struct Fleet {
    store: Arc<dyn Store>,
    controls: Vec<Control>,
    clock: Arc<ManualClock>,
    machines: Vec<Machine>,
    caller: Principal,
    seed: u64,
}

impl Fleet {
    /// No replica follows what the others write: what they know of it is from before.
    pub(crate) async fn open(stores: [Arc<dyn Store>; REPLICAS], seed: u64) -> Self {
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(seed)));
        let mut controls = Vec::new();
        for store in &stores {
            let (clock, entropy, zone) = (Arc::clone(&clock), Arc::clone(&entropy), Arc::new(RecordingZone::default()));
            let config = ControlConfig::new([7; 32]);
            controls.push(Control::open(Arc::clone(store), clock, entropy, zone, config).await.unwrap());
        }
        let mut machines = Vec::new();
        for number in 0..MACHINES {
            let node = NodeId::generate(clock.as_ref(), entropy.as_ref());
            let journal = JournalId::generate(clock.as_ref(), entropy.as_ref());
            let boot = BootId::generate(clock.as_ref(), entropy.as_ref());
            let hello = NodeHello {
                node,
                name: format!("node-{number}"),
                architecture: Architecture::Amd64,
                capacity: ROOM,
                range: (Ipv4Addr::new(10, 200, number, 0), 24),
                boot,
                journal,
                desired_revision: None,
                underlay: None,
                isolation: wherry_model::IsolationSet::default(),
                zone: None,
                disk_mib: None,
                gpus: wherry_model::GpuOffer::default(),
                images: Vec::new(),
                protocol: wherry_agent_api::PROTOCOL,
            };
            for control in &controls {
                control.hello(hello.clone()).await.unwrap();
                let (running, pulls) = (Vec::new(), Vec::new());
                let alive = Heartbeat { node, boot, epoch: 0, at: clock.now(), running, pulls };
                control.heartbeat(alive).await.unwrap();
            }
            machines.push(Machine { node, journal, told: AtomicU64::new(0) });
        }
        let tenant = controls[0].ensure_tenant(TenantName::new("acme").unwrap()).await.unwrap().id;
        let subject = Subject::External { issuer: "test".to_owned(), subject: "caller".to_owned() };
        let caller = Principal { tenant, subject, scopes: ScopeSet::tenant() };
        let [store, ..] = stores;
        Self { store, controls, clock, machines, caller, seed }
    }

    /// All of them at once: half of the time no replica learns anything but refusals, then some follow, as replicas do that are slow
    /// by different amounts.
    pub(crate) async fn race(self) {
        let fleet = Arc::new(self);
        let first = fleet.round(0).await;
        let following = fleet.controls[..2].iter().map(Background::start).collect::<Vec<_>>();
        let second = fleet.round(1).await;
        for background in following {
            background.stop().await;
        }
        let mut kept = first;
        kept.extend(second);
        fleet.check(&kept).await;
        let refused: u64 = fleet.controls.iter().map(|control| control.proposal_counts().refused).sum();
        assert!(refused > 0, "seed {}: no picture was stale, so nothing was shown", fleet.seed);
    }

    async fn round(self: &Arc<Self>, round: u64) -> BTreeMap<InstanceId, usize> {
        let mut callers = JoinSet::new();
        for replica in 0..REPLICAS {
            for caller in 0..CALLERS {
                let (fleet, number) = (Arc::clone(self), u64::try_from(replica).unwrap() * CALLERS + caller);
                let random = StdRng::seed_from_u64(self.seed ^ ((round * 100 + number) << 32));
                callers.spawn(async move { (replica, fleet.call(replica, random).await) });
            }
        }
        let (mut kept, mut refused) = (BTreeMap::new(), 0);
        while !callers.is_empty() {
            tokio::select! {
                biased;
                Some(done) = callers.join_next() => {
                    let (replica, got) = done.unwrap();
                    refused += got.refused;
                    for id in got.kept {
                        assert_eq!(kept.insert(id, replica), None, "{id} was made twice");
                    }
                }
                () = self.machines_work() => {}
            }
        }
        self.machines_work().await;
        assert!(refused > 0, "seed {}: more is asked for than there is", self.seed);
        kept
    }

    /// Creates, and deletes what it has made.
    async fn call(&self, replica: usize, mut random: StdRng) -> Got {
        let (control, project) = (&self.controls[replica], ProjectName::default_project());
        let mut got = Got::default();
        for _ in 0..ASKS {
            if let Some(id) = got.kept.first().copied().filter(|_| random.random_range(0..10) < 3) {
                control.delete_instance(&self.caller, &project, &id.to_string()).await.unwrap();
                got.kept.remove(&id);
                continue;
            }
            let spec = sized(random.random_range(20..700), random.random_range(16..500));
            let request = CreateInstance { project: project.clone(), name: None, spec, idempotency_key: None };
            match control.create_instance(&self.caller, request).await {
                Ok(created) => assert!(got.kept.insert(created.view.instance.id)),
                Err(error) => {
                    assert_eq!(error.code(), "capacity_unavailable", "{error}");
                    got.refused += 1;
                }
            }
        }
        got
    }

    /// Every machine says once that what it was to remove is gone, to whichever replica; and no row says more than the machine has.
    async fn machines_work(&self) {
        for (number, machine) in self.machines.iter().enumerate() {
            let control = &self.controls[number % REPLICAS];
            let desired = control.desired(machine.node, None).await.unwrap().unwrap();
            let goes = desired.instances.iter().filter(|instance| instance.action == Action::Remove);
            let first = machine.told.load(Ordering::Relaxed);
            let observations: Vec<Observation> = (first + 1..)
                .zip(goes)
                .take(Report::MAX_OBSERVATIONS)
                .map(|(seq, instance)| Observation {
                    seq,
                    instance: instance.id,
                    generation: instance.generation,
                    revision: 0,
                    at: self.clock.now(),
                    fact: Fact::Removed,
                })
                .collect();
            let Some(last) = observations.last().map(|last| last.seq) else { continue };
            let (node, journal) = (machine.node, machine.journal);
            if control.report(Report { node, journal, observations }).await.is_ok() {
                machine.told.store(last, Ordering::Relaxed);
            }
        }
        for row in self.store.nodes().await.unwrap() {
            let (used, has) = (row.used, row.capacity);
            let fits = used.cpu_millis <= has.cpu_millis
                && used.memory_mib <= has.memory_mib
                && used.instances <= has.instances;
            assert!(fits, "seed {}: {} has handed out {used:?} of {has:?}", self.seed, row.name);
        }
    }

    /// What is stored is what was acknowledged, and the rows say what is on them.
    async fn check(&self, kept: &BTreeMap<InstanceId, usize>) {
        wherry_store_contract::invariants::check(&self.store).await.unwrap();
        let mut stored = BTreeSet::new();
        for row in self.store.nodes().await.unwrap() {
            let there = self.store.instances_on(row.id).await.unwrap().unwrap().instances;
            for instance in there.iter().filter(|instance| instance.action() == Action::Run) {
                assert!(stored.insert(instance.id), "{} is in two places", instance.id);
            }
        }
        let acknowledged: BTreeSet<InstanceId> = kept.keys().copied().collect();
        assert_eq!(stored, acknowledged, "seed {}", self.seed);
    }
}
