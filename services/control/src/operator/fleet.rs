//! A look at the whole fleet: in numbers, as events, and which processes answer for it.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use wherry_model::{Capacity, NodeState, Principal, Scope};
use wherry_store::ReplicaRecord;

use crate::{Control, Error, FleetEvent};

/// Waiting instances that are counted.
const MAX_PENDING_COUNTED: u32 = 1_000;

/// Events that are read at once.
const PAGE: usize = 200;

/// The whole fleet in numbers, for metrics and operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FleetSummary {
    /// Nodes that take new instances.
    pub ready_nodes: u32,
    /// Nodes that do not.
    pub other_nodes: u32,
    /// Of those: nodes that keep what they have.
    pub cordoned_nodes: u32,
    /// Of those: nodes that are being emptied.
    pub draining_nodes: u32,
    /// Of those: nodes that are not heard of.
    pub silent_nodes: u32,
    /// What all nodes can hand out.
    pub capacity: Capacity,
    /// What all nodes have handed out.
    pub used: Capacity,
    /// GPUs of all nodes.
    pub gpus: u32,
    /// What is handed out of them, in thousandths of one.
    pub gpus_used_permille: u64,
    /// Instances that wait for a place, counted up to 1000.
    pub pending_instances: u32,
    /// Whether too many nodes are silent for any to be replaced. An alarm belongs on it.
    pub brake: bool,
}

/// Events of the fleet as they come.
pub type FleetEventStream = BoxStream<'static, FleetEvent>;

impl Control {
    /// The fleet in numbers. No principal: the operator port serves it, which tenants cannot reach.
    pub async fn fleet_summary(&self) -> Result<FleetSummary, Error> {
        let add = |a: Capacity, b: Capacity| Capacity {
            cpu_millis: a.cpu_millis.saturating_add(b.cpu_millis),
            memory_mib: a.memory_mib.saturating_add(b.memory_mib),
            instances: a.instances.saturating_add(b.instances),
        };
        let pending = self.store().pending(MAX_PENDING_COUNTED).await?.len();
        let mut summary = FleetSummary {
            pending_instances: u32::try_from(pending).unwrap_or(MAX_PENDING_COUNTED),
            brake: self.brake().is_some(),
            ..FleetSummary::default()
        };
        for node in self.store().nodes().await? {
            let count = match node.state {
                NodeState::Ready => &mut summary.ready_nodes,
                NodeState::Cordoned => &mut summary.cordoned_nodes,
                NodeState::Draining => &mut summary.draining_nodes,
                NodeState::Silent => &mut summary.silent_nodes,
            };
            *count += 1;
            summary.other_nodes += u32::from(node.state != NodeState::Ready);
            summary.capacity = add(summary.capacity, node.capacity);
            summary.used = add(summary.used, node.used);
            let gpus = &node.offer.gpus;
            summary.gpus += u32::from(gpus.count);
            let used = gpus.used_permille.iter().take(usize::from(gpus.count));
            summary.gpus_used_permille += used.map(|used| u64::from(*used)).sum::<u64>();
        }
        Ok(summary)
    }

    /// The processes that answer for the control plane and were seen lately.
    pub async fn replicas(&self, principal: &Principal) -> Result<Vec<ReplicaRecord>, Error> {
        Self::require(principal, Scope::Admin)?;
        self.live_replicas().await
    }

    /// What this replica has seen happen to the fleet after its event number `after`, oldest first, at most `limit`. The
    /// numbers are this replica's own and begin anew when it does.
    pub fn fleet_events(&self, principal: &Principal, after: u64, limit: usize) -> Result<Vec<FleetEvent>, Error> {
        Self::require(principal, Scope::Admin)?;
        Ok(self.inner.fleet_events.after(after, limit))
    }

    /// The same, and then each new one as it happens. Ends only when the reader goes away; one that reads so slowly that more
    /// than are kept happen meanwhile misses the oldest.
    pub fn fleet_event_stream(&self, principal: &Principal, after: u64) -> Result<FleetEventStream, Error> {
        Self::require(principal, Scope::Admin)?;
        let news = self.inner.fleet_events.news();
        let pages = stream::unfold((self.clone(), news, after), |(control, mut news, mut after)| async move {
            loop {
                news.borrow_and_update();
                let page = control.inner.fleet_events.after(after, PAGE);
                if let Some(last) = page.last() {
                    after = last.seq;
                    return Some((stream::iter(page), (control, news, after)));
                }
                news.changed().await.ok()?;
            }
        });
        Ok(pages.flatten().boxed())
    }
}
