//! Up: facts from a node's journal.
//!
//! A fact is acknowledged when what it changes is stored. One that is about a record that cannot be read (damaged, or written by a
//! newer release) would hold up all that its node says of others: it is put off, which is stored with the acknowledgement, and those
//! that follow of the same instance queue up behind it. [`Control::apply_deferred`] applies them in order when the record can be read.
//! Rejected: refusing them (bills and states of a whole machine would wait for one damaged row), and passing them over (the meter of
//! that instance would run to a silence or for ever).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use wherry_agent_api::{Ack, ControlError, Report};
use wherry_model::lifecycle::{self, Change};
use wherry_model::{Fact, Instance, InstanceId, NodeId, Observation, Timestamp};
use wherry_store::{Applied, DeferredFact, ReportOutcome, StoreError};

use super::ranges;
use crate::{Control, Error, lock};

/// How often a report whose records changed meanwhile is computed again.
const MAX_ATTEMPTS: u32 = 16;
/// Facts that were put off and are applied at once.
const AT_ONCE: u32 = 256;

/// What facts come to.
#[derive(Default)]
struct Sum {
    /// Each computed on top of the ones before.
    changes: Vec<Change>,
    /// What cannot be applied yet.
    deferred: Vec<Observation>,
}

impl Control {
    pub(super) async fn take_report(&self, report: Report) -> Result<Ack, ControlError> {
        if report.observations.len() > Report::MAX_OBSERVATIONS {
            return Err(ControlError::Refused(format!("a report has at most {} facts", Report::MAX_OBSERVATIONS)));
        }
        let mut behind = BTreeSet::new();
        // From this number on nothing is taken now.
        let mut held = None;
        for _ in 0..MAX_ATTEMPTS {
            let after = self.store().acknowledged(report.node, report.journal).await.map_err(Error::from)?;
            let fresh: Vec<&Observation> = report.observations.iter().filter(|fact| fact.seq > after).collect();
            if !fresh.windows(2).all(|pair| matches!(pair, [one, two] if one.seq < two.seq)) {
                return Err(ControlError::Refused("the facts of a report are in order of their numbers".to_owned()));
            }
            let taken: Vec<&Observation> =
                fresh.iter().copied().take_while(|fact| held.is_none_or(|held| fact.seq < held)).collect();
            let Some(last) = taken.last() else {
                return if fresh.is_empty() { Ok(Ack { through: after }) } else { Err(full()) };
            };
            let through = last.seq;
            let Some(Sum { changes, deferred }) = self.sum_of(report.node, &taken, &behind).await? else { continue };
            let stored = self.write_report((report.node, report.journal), (after, through), changes, deferred).await;
            if stored.is_err() && self.store().node(report.node).await.map_err(Error::from)?.is_none() {
                return Err(ControlError::UnknownNode);
            }
            match stored? {
                ReportOutcome::Applied(through) => return Ok(Ack { through }),
                ReportOutcome::Superseded(_) | ReportOutcome::LostRace => {}
                ReportOutcome::Behind(instances) => behind.extend(instances),
                // What comes before it is not held up.
                ReportOutcome::Full(instance) => {
                    tracing::error!(%instance, "no more facts are put off: its node keeps them until its record can be read");
                    held = taken.iter().find(|fact| fact.instance == instance).map(|fact| fact.seq);
                }
            }
        }
        Err(ControlError::Unavailable("the instances of this report are being changed by many at once".to_owned()))
    }

    /// What the facts change, and which of them are put off: those of instances that are `behind`, or cannot be read. Facts about
    /// instances that are not this node's are skipped: a node speaks only of what is assigned to it. `None`: a record has changed
    /// meanwhile.
    async fn sum_of(
        &self,
        node: NodeId,
        facts: &[&Observation],
        behind: &BTreeSet<InstanceId>,
    ) -> Result<Option<Sum>, Error> {
        let now = self.now();
        let mut records: BTreeMap<InstanceId, Option<Instance>> = BTreeMap::new();
        let mut waits = behind.clone();
        let mut sum = Sum::default();
        for fact in facts {
            let id = fact.instance;
            if !waits.contains(&id)
                && let Entry::Vacant(unknown) = records.entry(id)
            {
                let found = match self.store().instance_of_any_tenant(id).await {
                    Err(error @ StoreError::Corrupt { table: "instances", .. }) => {
                        tracing::error!(%error, instance = %id, "what its node says of it is put off");
                        waits.insert(id);
                        None
                    }
                    found => found?,
                };
                unknown.insert(found.filter(|instance| instance.node == Some(node)));
            }
            if waits.contains(&id) {
                sum.deferred.push((*fact).clone());
                continue;
            }
            let Some(Some(record)) = records.get_mut(&id) else {
                tracing::warn!(instance = %id, "a node spoke of an instance that is not its own");
                continue;
            };
            if let Some(change) = self.change_of(node, record, fact, now).await? {
                *record = change.after.clone();
                sum.changes.push(change);
                continue;
            }
            // It changes nothing of this record. Only what changes something is held against what waits when it is stored.
            if !self.store().deferred_facts(id, 1).await?.is_empty() {
                waits.insert(id);
                sum.deferred.push((*fact).clone());
            } else if !sum.changes.iter().any(|change| change.after.id == id)
                && self.store().instance_of_any_tenant(id).await?.as_ref() != Some(&*record)
            {
                return Ok(None);
            }
        }
        Ok(Some(sum))
    }

    /// What a fact of its node changes of a record, if anything.
    async fn change_of(
        &self,
        node: NodeId,
        record: &Instance,
        fact: &Observation,
        now: Timestamp,
    ) -> Result<Option<Change>, Error> {
        if !self.may_say(node, fact).await? {
            tracing::warn!(%node, instance = %fact.instance, "a node claimed an address that is not of its range");
            return Ok(None);
        }
        match lifecycle::observe(record, fact, now) {
            Ok(change) => Ok(Some(change)),
            Err(ignored) => {
                tracing::debug!(instance = %fact.instance, seq = fact.seq, %ignored, "fact ignored");
                Ok(None)
            }
        }
    }

    /// Applies facts of an instance that were put off, the oldest first, some hundred of them. Says how many; none while its record
    /// cannot be read.
    pub(crate) async fn apply_deferred(&self, id: InstanceId) -> Result<Option<usize>, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let facts = self.store().deferred_facts(id, AT_ONCE).await?;
            let mut record = match self.store().instance_of_any_tenant(id).await {
                Err(StoreError::Corrupt { table: "instances", .. }) => return Ok(None),
                // Forgotten, and they with it.
                Ok(None) => return Ok(Some(0)),
                Ok(Some(record)) => record,
                Err(error) => return Err(error.into()),
            };
            if facts.is_empty() {
                return Ok(Some(0));
            }
            let (now, mut changes) = (self.now(), Vec::new());
            for DeferredFact { node, observation, .. } in &facts {
                if record.node != Some(*node) {
                    tracing::warn!(%node, instance = %id, "an instance has left its node before a fact could be applied");
                } else if let Some(change) = self.change_of(*node, &record, observation, now).await? {
                    record = change.after.clone();
                    changes.push(change);
                }
            }
            let numbers = facts.iter().map(|fact| fact.number).collect();
            match self.write_deferred(id, numbers, changes).await? {
                Applied::Yes => return Ok(Some(facts.len())),
                Applied::LostRace => {}
                Applied::NodeRefused => return Err(Error::internal("facts that were put off take resources")),
            }
        }
        Err(Error::unavailable("an instance is being changed by many at once"))
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

fn full() -> ControlError {
    let most = DeferredFact::MAX_PER_INSTANCE;
    ControlError::Unavailable(format!("{most} facts of an instance wait already until its record can be read"))
}
