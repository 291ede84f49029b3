//! Up: facts from a node's journal.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use wherry_agent_api::{Ack, ControlError, Report};
use wherry_model::lifecycle::{self, Change};
use wherry_model::{Fact, Instance, InstanceId, NodeId, Observation};
use wherry_store::{ReportOutcome, StoreError};

use super::ranges;
use crate::{Control, Error, lock};

/// How often a report whose records changed meanwhile is computed again.
const MAX_ATTEMPTS: u32 = 16;

impl Control {
    pub(super) async fn take_report(&self, report: Report) -> Result<Ack, ControlError> {
        if report.observations.len() > Report::MAX_OBSERVATIONS {
            return Err(ControlError::Refused(format!("a report has at most {} facts", Report::MAX_OBSERVATIONS)));
        }
        for _ in 0..MAX_ATTEMPTS {
            let after = self.store().acknowledged(report.node, report.journal).await.map_err(Error::from)?;
            let fresh: Vec<&Observation> = report.observations.iter().filter(|fact| fact.seq > after).collect();
            let Some(last) = fresh.last() else { return Ok(Ack { through: after }) };
            if !fresh.windows(2).all(|pair| matches!(pair, [one, two] if one.seq < two.seq)) {
                return Err(ControlError::Refused("the facts of a report are in order of their numbers".to_owned()));
            }
            let through = last.seq;
            let changes = self.changes_of(report.node, &fresh).await?;
            let stored = self.write_report((report.node, report.journal), after, through, changes).await;
            if stored.is_err() && self.store().node(report.node).await.map_err(Error::from)?.is_none() {
                return Err(ControlError::UnknownNode);
            }
            match stored? {
                ReportOutcome::Applied(through) => return Ok(Ack { through }),
                ReportOutcome::Superseded(_) | ReportOutcome::LostRace => {}
            }
        }
        Err(ControlError::Unavailable("the instances of this report are being changed by many at once".to_owned()))
    }

    /// What the facts change, each change computed on top of the ones before. Facts about instances that are not this
    /// node's are skipped: a node speaks only of what is assigned to it.
    async fn changes_of(&self, node: NodeId, facts: &[&Observation]) -> Result<Vec<Change>, Error> {
        let now = self.now();
        let mut records: BTreeMap<InstanceId, Option<Instance>> = BTreeMap::new();
        let mut changes = Vec::new();
        for fact in facts {
            let record = match records.entry(fact.instance) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let found = match self.store().instance_of_any_tenant(fact.instance).await {
                        // The facts behind it are of others: a bill and a state each that would wait for this one.
                        Err(error @ StoreError::Corrupt { table: "instances", .. }) => {
                            tracing::error!(%error, instance = %fact.instance, "what its node says of it is passed over");
                            None
                        }
                        found => found?,
                    };
                    unknown.insert(found.filter(|instance| instance.node == Some(node)))
                }
            };
            let Some(record) = record else {
                tracing::warn!(instance = %fact.instance, "a node spoke of an instance that is not its own");
                continue;
            };
            if !self.may_say(node, fact).await? {
                tracing::warn!(%node, instance = %fact.instance, "a node claimed an address that is not of its range");
                continue;
            }
            match lifecycle::observe(record, fact, now) {
                Ok(change) => {
                    *record = change.after.clone();
                    changes.push(change);
                }
                Err(ignored) => tracing::debug!(instance = %fact.instance, seq = fact.seq, %ignored, "fact ignored"),
            }
        }
        Ok(changes)
    }

    /// An address must be of the node's own range: names and packet filters of others follow it. A replica that has not seen
    /// the node yet reads its row; without one there is no range to be of.
    async fn may_say(&self, node: NodeId, fact: &Observation) -> Result<bool, Error> {
        let Fact::SandboxReady { address } = &fact.fact else { return Ok(true) };
        let seen = lock(&self.inner.watch).record(node).map(|record| record.range);
        let range = match seen {
            Some(range) => Some(range),
            None => self.store().node(node).await?.map(|record| record.range),
        };
        Ok(range.is_some_and(|range| ranges::contains(range, *address)))
    }
}
