//! The application: what Wherry does when somebody asks, and what it does by itself.
//!
//! [`Control`] has one method per use case. It knows the store, the clock, the nodes and the zone only as traits, so the
//! same code runs in one process on SQLite and, spread out, on PostgreSQL; and it knows nothing of HTTP.
//!
//! How a request becomes a running container: `instances::create` decides a place (`fleet`) and stores the instance
//! in one transaction; the node's agent waits in `agents` and gets its new desired state; what it reports comes back
//! through `agents`, is applied by the pure functions of `wherry_model::lifecycle`, and `effects` tells the zone and
//! the fleet what changed.
//!
//! What is kept in memory here (placement index, zone, progress of pulls) is a projection of the store, rebuilt at start
//! and never asked when a row can refuse. Several processes on one store are one service: each follows what the others
//! write (`background::following`), work that one is enough for is done by the holder of a lease (`background::lease`), and
//! every write is guarded by itself.
//!
//! There is no thread, no blocking call and no I/O of its own here, every `select!` is biased and every order is that of a
//! `BTreeMap`: the simulation replays a run from its seed.

mod access;
mod agents;
mod auth;
mod background;
mod bells;
mod brake;
mod change;
mod config;
mod cursor;
mod effects;
mod entries;
mod entry_budget;
mod error;
mod events;
mod fleet;
mod fleet_events;
mod instances;
mod lifetimes;
mod loss;
mod making_room;
mod names;
mod neighbours;
mod operator;
mod replica;
mod secrets;
mod shared_read;
mod tenancy;
mod usage;
mod view;
mod watch;
mod webhooks;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use wherry_agent_api::{NodeDirectory, NodeServices};
use wherry_model::{Clock, Entropy, InstanceId, NodeId, NodeRecord, PriceBook, ReplicaId, SpecError};
use wherry_store::{ChangeCursor, PriceBookOutcome, Store};

pub use background::{Background, ReconcilerStatus};
pub use brake::Brake;
pub use config::ControlConfig;
pub use entries::{EntriesRequest, EntryPage, EntryState, EntryView};
pub use error::{Error, StoreContext};
pub use events::{EventStream, EventsRequest};
pub use fleet::ProposalCounts;
pub use fleet_events::{FleetEvent, FleetEventKind};
pub use instances::{
    Awaited, CreateInstance, Created, DryRun, ExecRequest, InstancePage, InstanceSession, InstanceUse, ListInstances,
    LogRequest, LogStream, NEXT_RUNS, ProjectUse, Put, UpdatePreview, Waited,
};
pub use operator::{
    Candidate, DrainProgress, DrainRequest, ExplainInstance, Explanation, FleetEventStream, FleetSummary, Forecast,
    JoinTokenRequest, Move, NewJoinToken, NewNodes, NodeStatus, NodeView, RefusedBy, Resealed, Room, ShapeRoom, WhatIf,
};
pub use tenancy::{NewKey, TenantKeyRequest};
pub use usage::Usage;
pub use view::{Cost, InstanceView, Progress};
pub use webhooks::{
    DeliveryPage, DeliveryPageRequest, NewWebhook, Outgoing, SendOutcome, WebhookCounts, WebhookRequest, WebhookSender,
    WebhookSettings,
};
pub use zone::{ZoneContents, ZonePublisher};
// Parts of the answers above: surfaces name them without knowing the store or the meter.
pub use wherry_agent_api::{ExecOutcome, Session, SessionInput, SessionKind, SessionOutput, SessionSink, TerminalSize};
pub use wherry_metering::{Bill, Line, Resource};
pub use wherry_model::lifecycle::{ContainerRestart, UpdatePlan};
pub use wherry_store::{
    ApiKeyRecord, AttemptRecord, AuditEnd, AuditKind, AuditOutcome, AuditRecord, DeliveryRecord, DeliveryState,
    Disabled, DisabledReason, JoinTokenRecord, ProjectRecord, ReplicaRecord, StoredEvent, Telling, TenantRecord,
    WebhookRecord,
};

use agents::EnrolledCache;
use background::lease::Lease;
use bells::Bells;
use fleet::{FleetIndex, Proposals};
use fleet_events::FleetEvents;
use shared_read::SharedRead;
use watch::Watch;
use zone::Zone;

/// The application. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    config: ControlConfig,
    replica: ReplicaId,
    fleet: Mutex<FleetIndex>,
    proposals: Proposals,
    expected: Mutex<lifetimes::Expected>,
    fleet_events: FleetEvents,
    watch: Mutex<Watch>,
    bells: Bells,
    call_bells: Bells,
    rows: SharedRead<BTreeMap<NodeId, NodeRecord>>,
    called: SharedRead<BTreeSet<NodeId>>,
    /// Held while a machine that joins is given the next free range.
    enrolling: tokio::sync::Mutex<()>,
    zone: Zone,
    /// Up to where the projections have followed the changes.
    followed: Mutex<ChangeCursor>,
    lease: Lease,
    /// Whether the brake was on at the last look.
    braked: AtomicBool,
    /// Whether replicas of a release before were there at the last look.
    older_replicas: AtomicBool,
    /// When this replica last said that it lives.
    present: Mutex<Option<Instant>>,
    start_waits: instances::StartWaits,
    /// Those who are inside of an instance, and the ends that are being written.
    entries: TaskTracker,
    /// How often tenants may still enter.
    entry_budget: Mutex<entry_budget::EntryBudget>,
    enrolled: Mutex<EnrolledCache>,
    /// Agents in this process.
    nodes: RwLock<BTreeMap<NodeId, Arc<dyn NodeServices>>>,
    /// The way to all others.
    directory: RwLock<Option<Arc<dyn NodeDirectory>>>,
    /// Sends what webhooks are told; nothing is sent without.
    webhook_sender: RwLock<Option<Arc<dyn WebhookSender>>>,
    webhook_counters: webhooks::WebhookCounters,
    /// What each node's latest heartbeat said of its pulls.
    progress: Mutex<BTreeMap<NodeId, BTreeMap<InstanceId, Progress>>>,
    /// When room was last made for somebody.
    made_room: Mutex<Option<Instant>>,
    /// What nodes said of what their instances use, for a moment.
    stats: Mutex<instances::Remembered>,
    keys: Mutex<auth::KeyCache>,
    books: Mutex<BTreeMap<String, Arc<PriceBook>>>,
    projects: Mutex<access::KnownProjects>,
}

impl Control {
    /// Builds the application on a store and reads its projections from it.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        publisher: Arc<dyn ZonePublisher>,
        config: ControlConfig,
    ) -> Result<Self, Error> {
        if store.put_price_book(&config.price_book).await? == PriceBookOutcome::Differs {
            let id = &config.price_book.id;
            let message = format!("{id:?} is stored with other prices, which do not change any more: give a new id");
            return Err(SpecError::new("prices.id", message).into());
        }
        settle_fence(store.as_ref(), &config).await?;
        settle_names(store.as_ref(), &config).await?;
        // Before anything is read: what is written from here on is found again by following.
        let followed = store.cursor().await?;
        let inner = Inner {
            zone: Zone::new(publisher, config.apex()),
            replica: ReplicaId::generate(clock.as_ref(), entropy.as_ref()),
            store,
            clock,
            entropy,
            config,
            fleet: Mutex::default(),
            proposals: Proposals::default(),
            expected: Mutex::default(),
            fleet_events: FleetEvents::default(),
            watch: Mutex::default(),
            bells: Bells::default(),
            call_bells: Bells::default(),
            rows: SharedRead::default(),
            called: SharedRead::default(),
            enrolling: tokio::sync::Mutex::default(),
            followed: Mutex::new(followed),
            lease: Lease::default(),
            braked: AtomicBool::default(),
            older_replicas: AtomicBool::default(),
            present: Mutex::default(),
            start_waits: instances::StartWaits::default(),
            entries: TaskTracker::new(),
            entry_budget: Mutex::default(),
            enrolled: Mutex::default(),
            nodes: RwLock::default(),
            directory: RwLock::default(),
            webhook_sender: RwLock::default(),
            webhook_counters: webhooks::WebhookCounters::default(),
            progress: Mutex::default(),
            made_room: Mutex::default(),
            stats: Mutex::default(),
            keys: Mutex::default(),
            books: Mutex::default(),
            projects: Mutex::default(),
        };
        let control = Self { inner: Arc::new(inner) };
        control.load_fleet().await?;
        control.load_lifetimes().await?;
        control.load_residents().await?;
        control.load_zone().await?;
        control.inner.fleet_events.begin();
        control.note_presence().await?;
        control.look_at_replicas().await?;
        Ok(control)
    }

    /// Gives the way to nodes whose agents are in other processes.
    pub fn set_directory(&self, directory: Arc<dyn NodeDirectory>) {
        if let Ok(mut slot) = self.inner.directory.write() {
            *slot = Some(directory);
        }
    }

    /// Gives what sends to webhooks. Until then nothing is sent, and nothing is lost.
    pub fn set_webhook_sender(&self, sender: Arc<dyn WebhookSender>) {
        if let Ok(mut slot) = self.inner.webhook_sender.write() {
            *slot = Some(sender);
        }
    }

    fn webhook_sender(&self) -> Option<Arc<dyn WebhookSender>> {
        self.inner.webhook_sender.read().ok()?.clone()
    }

    /// What this process did for webhooks.
    pub fn webhook_counts(&self) -> WebhookCounts {
        self.inner.webhook_counters.read()
    }

    /// Makes the agent of `node` reachable for what only it can answer, such as logs.
    pub fn attach_node(&self, node: NodeId, services: Arc<dyn NodeServices>) {
        if let Ok(mut nodes) = self.inner.nodes.write() {
            nodes.insert(node, services);
        }
    }

    /// The configuration it runs with.
    pub fn config(&self) -> &ControlConfig {
        &self.inner.config
    }

    fn node_services(&self, node: NodeId) -> Option<Arc<dyn NodeServices>> {
        if let Some(here) = self.inner.nodes.read().ok()?.get(&node) {
            return Some(Arc::clone(here));
        }
        Some(self.inner.directory.read().ok()?.as_ref()?.services(node))
    }

    fn store(&self) -> &dyn Store {
        self.inner.store.as_ref()
    }

    fn now(&self) -> wherry_model::Timestamp {
        self.inner.clock.now()
    }
}

/// All processes on one store, and all agents, must mean the same by the end of a lease: a replica that waited shorter than
/// agents were told would run an instance twice.
async fn settle_fence(store: &dyn Store, config: &ControlConfig) -> Result<(), Error> {
    let own = config.fence_after_seconds.to_string();
    let settled = store.settle("fence_after_seconds", &own).await?;
    if settled == own {
        return Ok(());
    }
    let message = format!("this installation was begun with {settled} s, which its nodes go by: start with that");
    Err(SpecError::new("fence_after_seconds", message).into())
}

/// All replicas answer the same names: one with another zone would tell tenants, agents and resolvers names that no other one
/// knows. Where nodes' ranges are cut from is not settled: whether a new one is free is decided by the store against
/// all that there are, and an operator may give more room, one replica after the other.
async fn settle_names(store: &dyn Store, config: &ControlConfig) -> Result<(), Error> {
    let own = config.apex();
    let settled = store.settle("apex", &own).await?;
    if settled == own {
        return Ok(());
    }
    let message = format!(
        "this installation was begun with names in {settled}, and names.region and names.zone here make {own}: start with \
         the region and the zone of the other replicas"
    );
    Err(SpecError::new("names", message).into())
}

/// A hash that is the same in every process and version: names contents, protects nothing.
fn stable_hash(contents: &impl serde::Serialize) -> u64 {
    let bytes = serde_json::to_vec(contents).unwrap_or_default();
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

/// Takes a lock that protects plain data; a panic elsewhere does not make that data wrong.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
