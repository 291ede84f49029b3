//! Follows what any replica writes: the zone and the picture of the fleet learn of it, right after the commit that the store's
//! wake-up tells of, and within a second when that was lost. Own writes come by here too; what is known already changes nothing.
//! What operators and machines change of a node (cordon, drain, join, removal) comes with no instance, so the rows are looked at too.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wherry_model::{NodeId, NodeRecord};

use super::Statuses;
use crate::{Control, Error, lock};

/// Instances that are read at once.
const PAGE: u32 = 500;

/// Pages of one turn.
const MAX_PAGES: u32 = 20;

/// Commits that come closer together than this are followed together.
const GATHER: Duration = Duration::from_millis(3);

/// Nodes of a large fleet whose rows are read one by one; of more, all rows are read at once.
const MAX_READ_APART: usize = 100;

/// The distance of two tries while the store does not answer.
const RETRY: Duration = Duration::from_secs(1);

pub(super) const NAME: &str = "changes of others";

/// Follows until it is stopped.
pub(super) async fn follow(control: Control, index: usize, statuses: Statuses, stop: CancellationToken) {
    let mut caught_up = None;
    if control.inner.config.is_alone {
        // What this process commits it has told itself (`effects`).
        super::told(&statuses, index, Ok(None));
        return stop.cancelled().await;
    }
    loop {
        let seen = control.store().position();
        let done = control.catch_up(seen, caught_up != Some(seen)).await;
        let failed = done.is_err();
        if !failed {
            caught_up = Some(seen);
        }
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
    /// Takes in all that was written since the last time; `seen` is the store's position before, and `news` whether it has
    /// moved since.
    async fn catch_up(&self, seen: u64, news: bool) -> Result<(), Error> {
        let mut nodes: BTreeSet<NodeId> = BTreeSet::new();
        for _ in 0..MAX_PAGES {
            let after = *lock(&self.inner.followed);
            let changes = self.store().changes(after, PAGE).await?;
            self.inner.zone.observe_all(&changes.instances, |instance| self.inner.config.fqdn(instance));
            {
                let mut index = lock(&self.inner.fleet);
                changes.instances.iter().for_each(|instance| index.observe(instance));
            }
            self.learn_lives(&changes.instances);
            nodes.extend(changes.instances.iter().filter_map(|instance| instance.node));
            *lock(&self.inner.followed) = changes.next;
            if !changes.more {
                break;
            }
        }
        if !news && nodes.is_empty() {
            return Ok(());
        }
        if !self.inner.bells.few() {
            // A look at all rows at each commit would be most of the work of a large fleet. Those that were written to are read, the
            // others are seen by the look of each second.
            if nodes.len() <= MAX_READ_APART {
                for node in nodes {
                    self.learn_node(node).await?;
                }
                return Ok(());
            }
        }
        let rows = self.rows(seen).await?;
        // With a commit since, these may be older than what this replica has seen of its own: the next turn reads them again.
        let latest = news && self.store().position() == seen;
        for record in rows.values() {
            if nodes.contains(&record.id) || (latest && lock(&self.inner.watch).is_news(record)) {
                self.see_node(record);
            }
        }
        let gone = |known: &NodeRecord| !rows.contains_key(&known.id);
        let gone: Vec<NodeId> =
            lock(&self.inner.watch).records().filter(|known| gone(known)).map(|one| one.id).collect();
        for node in gone {
            // A read of its own: it may have joined since the rows were read.
            lock(&self.inner.enrolled).forget(node);
            self.learn_node(node).await?;
        }
        Ok(())
    }
}
