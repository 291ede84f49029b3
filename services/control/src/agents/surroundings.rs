//! Down: what a node must know of the fleet around it. Answered from memory only: each commit concerns every node.

use tokio::time::{Duration, Instant};
use wherry_agent_api::{ControlError, NameRecord, Neighbours, Peer, Surroundings};
use wherry_model::NodeId;

use super::NEWS_WAIT;
use crate::{Control, Error, lock, stable_hash};

/// Changes that come closer together than this are told together.
const GATHER: Duration = Duration::from_millis(5);

impl Control {
    pub(super) async fn surroundings_of(
        &self,
        node: NodeId,
        have: Option<u64>,
    ) -> Result<Option<Surroundings>, ControlError> {
        if lock(&self.inner.watch).record(node).is_none() {
            let record = self.store().node(node).await.map_err(Error::from)?;
            self.see_node(&record.ok_or(ControlError::UnknownNode)?);
        }
        let deadline = Instant::now() + NEWS_WAIT;
        let mut news = self.inner.zone.news();
        loop {
            news.borrow_and_update();
            let found = self.surroundings_unless(node, have);
            if found.is_some() {
                return Ok(found);
            }
            match tokio::time::timeout_at(deadline, news.changed()).await {
                Ok(Ok(())) => tokio::time::sleep(GATHER).await,
                Ok(Err(_)) | Err(_) => return Ok(None),
            }
        }
    }

    /// What is around the node now, unless that is what `have` names.
    fn surroundings_unless(&self, node: NodeId, have: Option<u64>) -> Option<Surroundings> {
        let ways = lock(&self.inner.watch).ways();
        let zone = &self.inner.zone;
        zone.read(|names| {
            let neighbours: Vec<Neighbours> = names.neighbourhood.of(node);
            let tag = stable_hash(&(zone.apex(), names.hash(), ways.hash, &neighbours));
            (have != Some(tag)).then(|| {
                let records: Vec<NameRecord> = names.visible().cloned().collect();
                let peers: Vec<Peer> = ways.peers.iter().filter(|peer| peer.node != node).cloned().collect();
                let (apex, serial) = (zone.apex().to_owned(), names.serial());
                Surroundings { tag, apex, serial, names: records, peers, neighbours }
            })
        })
    }
}
