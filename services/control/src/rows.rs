//! The nodes' rows for many who wait for them. Hundreds of agents wait for news at one replica; each commit wakes all of
//! them. One read of all rows answers them together, and reads keep a distance that grows with the fleet, so what the
//! database is asked does not grow with agents times commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use wherry_model::{NodeId, NodeRecord};

use crate::{Control, Error};

/// An answer is not given for longer than this, also when nothing was said to have changed: a wake-up may be lost.
const MAX_AGE: Duration = Duration::from_millis(900);

/// The distance between two reads for each node of the fleet, and at most.
const DISTANCE_PER_NODE: Duration = Duration::from_micros(40);
const MAX_DISTANCE: Duration = Duration::from_millis(20);

pub(crate) type NodeRows = Arc<BTreeMap<NodeId, NodeRecord>>;

#[derive(Default)]
pub(crate) struct Rows(Mutex<Option<Latest>>);

struct Latest {
    /// Taken before the rows were read.
    position: u64,
    read_at: Instant,
    rows: NodeRows,
}

impl Control {
    /// All rows, read after the store's position was `seen`.
    pub(crate) async fn rows(&self, seen: u64) -> Result<NodeRows, Error> {
        let mut latest = self.inner.rows.0.lock().await;
        if let Some(latest) = latest.as_ref() {
            if latest.position >= seen && latest.read_at.elapsed() < MAX_AGE {
                return Ok(Arc::clone(&latest.rows));
            }
            let nodes = u32::try_from(latest.rows.len()).unwrap_or(u32::MAX);
            let distance = DISTANCE_PER_NODE.saturating_mul(nodes).min(MAX_DISTANCE);
            if nodes > 1 {
                tokio::time::sleep_until(latest.read_at + distance).await;
            }
        }
        let (position, read_at) = (self.store().position(), Instant::now());
        let records = self.store().nodes().await?;
        let rows: NodeRows = Arc::new(records.into_iter().map(|record| (record.id, record)).collect());
        *latest = Some(Latest { position, read_at, rows: Arc::clone(&rows) });
        Ok(rows)
    }
}
