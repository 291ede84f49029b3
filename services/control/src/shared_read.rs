//! One read of the store for many who wait for the same. Hundreds of agents wait for news at one replica, and each commit wakes
//! all of them. Whoever comes first reads for all, and reads keep a distance that grows with the fleet, so what the database
//! is asked does not grow with agents times commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use wherry_model::{NodeId, NodeRecord};

use crate::{Control, Error, lock};

/// An answer is not given for longer than this, also when nothing was said to have changed: a wake-up may be lost.
const MAX_AGE: Duration = Duration::from_millis(900);

/// The distance between two reads for each node of the fleet, and at most.
const DISTANCE_PER_NODE: Duration = Duration::from_micros(40);
const MAX_DISTANCE: Duration = Duration::from_millis(20);

/// What was read last.
pub(crate) struct SharedRead<T>(Mutex<Option<Latest<T>>>);

struct Latest<T> {
    /// The store's position before it was read.
    position: u64,
    read_at: Instant,
    found: Arc<T>,
}

impl<T> Default for SharedRead<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> SharedRead<T> {
    /// What a read that began after the store's position was `seen` has found.
    async fn get(
        &self,
        control: &Control,
        seen: u64,
        read: impl Future<Output = Result<T, Error>>,
    ) -> Result<Arc<T>, Error> {
        let mut latest = self.0.lock().await;
        if let Some(latest) = latest.as_ref() {
            if latest.position >= seen && latest.read_at.elapsed() < MAX_AGE {
                return Ok(Arc::clone(&latest.found));
            }
            let distance = control.read_distance();
            if !distance.is_zero() {
                tokio::time::sleep_until(latest.read_at + distance).await;
            }
        }
        let (position, read_at) = (control.store().position(), Instant::now());
        let found = Arc::new(read.await?);
        *latest = Some(Latest { position, read_at, found: Arc::clone(&found) });
        Ok(found)
    }
}

impl Control {
    /// The rows of all nodes, read after the store's position was `seen`.
    pub(crate) async fn rows(&self, seen: u64) -> Result<Arc<BTreeMap<NodeId, NodeRecord>>, Error> {
        let read = async {
            let records = self.store().nodes().await?;
            Ok(records.into_iter().map(|record| (record.id, record)).collect())
        };
        self.inner.rows.get(self, seen, read).await
    }

    /// The row of one node, likewise. In a large fleet it is read for itself: to read all of them for each would be to read each for
    /// all.
    pub(crate) async fn row(&self, node: NodeId, seen: u64) -> Result<Option<NodeRecord>, Error> {
        if self.inner.bells.few() {
            return Ok(self.rows(seen).await?.get(&node).cloned());
        }
        Ok(self.store().node(node).await?)
    }

    /// Nodes for which calls wait, likewise.
    pub(crate) async fn called(&self, seen: u64) -> Result<Arc<BTreeSet<NodeId>>, Error> {
        let read = async {
            let nodes = self.store().called_nodes(self.now()).await?;
            Ok(nodes.into_iter().collect())
        };
        self.inner.called.get(self, seen, read).await
    }

    fn read_distance(&self) -> Duration {
        let nodes = u32::try_from(lock(&self.inner.watch).count()).unwrap_or(u32::MAX);
        if nodes <= 1 { Duration::ZERO } else { DISTANCE_PER_NODE.saturating_mul(nodes).min(MAX_DISTANCE) }
    }
}
