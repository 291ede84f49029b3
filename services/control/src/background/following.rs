//! Follows what any replica writes: the zone and the picture of the fleet learn of it, right after the commit that the store's
//! wake-up tells of, and within a second when that was lost. Own writes come by here too; what is known already changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wherry_model::NodeId;

use super::Statuses;
use crate::{Control, Error, lock};

/// Instances that are read at once.
const PAGE: u32 = 500;

/// Pages of one turn.
const MAX_PAGES: u32 = 20;

/// Commits that come closer together than this are followed together.
const GATHER: Duration = Duration::from_millis(3);

/// The distance of two tries while the store does not answer.
const RETRY: Duration = Duration::from_secs(1);

pub(super) const NAME: &str = "changes of others";

/// Follows until it is stopped.
pub(super) async fn follow(control: Control, index: usize, statuses: Statuses, stop: CancellationToken) {
    loop {
        let seen = control.store().position();
        let done = control.catch_up(seen).await;
        let failed = done.is_err();
        super::told(&statuses, index, done.map(|()| None));
        let pause = async {
            if failed {
                tokio::time::sleep(RETRY).await;
            } else {
                control.store().changed(seen).await;
                tokio::time::sleep(GATHER).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = pause => {}
        }
    }
}

impl Control {
    /// Takes in all that was written since the last time; `seen` is the store's position before.
    async fn catch_up(&self, seen: u64) -> Result<(), Error> {
        let mut nodes: BTreeSet<NodeId> = BTreeSet::new();
        for _ in 0..MAX_PAGES {
            let after = *lock(&self.inner.followed);
            let changes = self.store().changes(after, PAGE).await?;
            self.inner.zone.observe_all(&changes.instances, |instance| self.inner.config.fqdn(instance));
            nodes.extend(changes.instances.iter().filter_map(|instance| instance.node));
            *lock(&self.inner.followed) = changes.next;
            if !changes.more {
                break;
            }
        }
        if !nodes.is_empty() {
            let rows = self.rows(seen).await?;
            for record in nodes.iter().filter_map(|node| rows.get(node)) {
                self.see_node(record);
            }
        }
        Ok(())
    }
}
