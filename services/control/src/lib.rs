//! The application: what Wherry does when somebody asks, and what it does by itself.
//!
//! [`Control`] has one method per use case. It knows the store, the clock, the nodes and the zone only as traits, so the
//! same code runs in one process on SQLite and, spread out, on PostgreSQL; and it knows nothing of HTTP.
//!
//! How a request becomes a running container: `instances::create` decides a place (`fleet`) and stores the instance
//! in one transaction; the node's agent waits in `node_link` and gets its new desired state; what it reports comes back
//! through `node_link`, is applied by the pure functions of `wherry_model::lifecycle`, and `effects` tells the zone and
//! the fleet what changed.
//!
//! What is kept in memory here (placement index, zone, progress of pulls) is a projection of the store, rebuilt at start
//! and never asked when a row can refuse.

mod access;
mod auth;
mod background;
mod change;
mod config;
mod cursor;
mod effects;
mod error;
mod events;
mod fleet;
mod instances;
mod names;
mod node_link;
mod operator;
mod tenancy;
mod usage;
mod view;
mod zone;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

use wherry_agent_api::NodeServices;
use wherry_model::{Clock, Entropy, InstanceId, NodeId, PriceBook, SpecError};
use wherry_store::{PriceBookOutcome, Store};

pub use background::{Background, ReconcilerStatus};
pub use config::ControlConfig;
pub use error::{Error, StoreContext};
pub use events::{EventStream, EventsRequest};
pub use instances::{CreateInstance, Created, DryRun, InstancePage, ListInstances, LogRequest, LogStream, Put, Waited};
pub use operator::{FleetSummary, NodeView};
pub use tenancy::{NewKey, TenantKeyRequest};
pub use usage::Usage;
pub use view::{Cost, InstanceView, Progress};
pub use zone::{ZoneContents, ZonePublisher};
// Parts of the answers above: surfaces name them without knowing the store or the meter.
pub use wherry_metering::{Bill, Line, Resource};
pub use wherry_store::{ApiKeyRecord, ProjectRecord, StoredEvent, TenantRecord};

use fleet::FleetIndex;
use node_link::Silence;
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
    fleet: Mutex<FleetIndex>,
    zone: Zone,
    nodes: RwLock<HashMap<NodeId, Arc<dyn NodeServices>>>,
    silence: Mutex<Silence>,
    /// What each node's latest heartbeat said of its pulls.
    progress: Mutex<HashMap<NodeId, HashMap<InstanceId, Progress>>>,
    keys: Mutex<auth::KeyCache>,
    books: Mutex<HashMap<String, Arc<PriceBook>>>,
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
        let inner = Inner {
            zone: Zone::new(publisher, config.apex()),
            store,
            clock,
            entropy,
            config,
            fleet: Mutex::default(),
            nodes: RwLock::default(),
            silence: Mutex::default(),
            progress: Mutex::default(),
            keys: Mutex::default(),
            books: Mutex::default(),
        };
        let control = Self { inner: Arc::new(inner) };
        control.load_fleet().await?;
        control.load_zone().await?;
        Ok(control)
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
        self.inner.nodes.read().ok()?.get(&node).cloned()
    }

    fn store(&self) -> &dyn Store {
        self.inner.store.as_ref()
    }

    fn now(&self) -> wherry_model::Timestamp {
        self.inner.clock.now()
    }
}

/// Takes a lock that protects plain data; a panic elsewhere does not make that data wrong.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
