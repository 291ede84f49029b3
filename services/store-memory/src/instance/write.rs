//! Units of work: each returns what is to be kept, or takes all of it back.

use std::sync::Arc;

use wherry_model::lifecycle::Change;
use wherry_model::{
    Action, Digest, Generation, Instance, InstanceId, InstanceState, JournalId, NodeId, Observation, Timestamp,
};
use wherry_store::{Applied, CreateOutcome, DeferredFact, IdempotencyRecord, Placed, ReportOutcome, StoreError};

use super::read;
use crate::database::Verdict;
use crate::state::{DeferredRow, InstanceRow, State, violation};
use crate::{event, meter, node};

/// Everything that makes an instance exist, or nothing of it.
pub(super) fn place_and_create(state: &mut State, placed: &Placed) -> Result<Verdict<CreateOutcome>, StoreError> {
    let Placed { change, idempotency } = placed;
    let instance = &change.after;
    if let Some((key, fingerprint)) = idempotency
        && let Some(known) = state.idempotency.get(&(instance.tenant, key.clone()))
    {
        if known.fingerprint != *fingerprint {
            return Ok(Verdict::Undo(CreateOutcome::KeyReused));
        }
        let made = state.instances.get(&known.instance).map(|row| Box::new((*row.record).clone()));
        let made = made.ok_or_else(|| violation(format!("idempotency key {key:?} made an instance that is gone")))?;
        return Ok(Verdict::Undo(CreateOutcome::Replayed(made)));
    }
    let taken = read::taken(state, instance);
    if let Some(place) = change.takes
        && !node::take(state, place, instance.demand())
    {
        // A name in use will stay so, a full node may not: the lasting reason is the one to tell.
        return Ok(Verdict::Undo(taken.unwrap_or(CreateOutcome::NodeRefused)));
    }
    if let Some(taken) = taken {
        return Ok(Verdict::Undo(taken));
    }
    if state.instances.has(&instance.id) || !state.projects.has(&(instance.tenant, instance.project)) {
        return Err(violation(format!("instance {} is there, or its project is not", instance.id)));
    }
    store(state, instance)?;
    if let Some((key, fingerprint)) = idempotency {
        let record = IdempotencyRecord {
            key: key.clone(),
            fingerprint: *fingerprint,
            instance: instance.id,
            created_at: instance.created_at,
        };
        state.idempotency.put((instance.tenant, key.clone()), record);
    }
    meter::apply_edges(state, instance, &change.meter)?;
    event::append(state, instance, &change.events);
    if let Some(place) = change.takes {
        node::bump_desired(state, place);
    }
    Ok(Verdict::Keep(CreateOutcome::Created(Box::new(instance.clone()))))
}

/// Writes a change and all that belongs to it. Anything but [`Applied::Yes`] must be undone by the caller.
pub(crate) fn apply(state: &mut State, change: &Change) -> Result<Applied, StoreError> {
    let after = &change.after;
    let before = state.instances.get(&after.id).map(|row| row.read().cloned()).transpose()?;
    let before = before.filter(|before| before.tenant == after.tenant && before.revision == change.from);
    let Some(before) = before else { return Ok(Applied::LostRace) };
    if !settle_resources(state, &before, change)? {
        return Ok(Applied::NodeRefused);
    }
    store(state, after)?;
    meter::apply_edges(state, after, &change.meter)?;
    event::append(state, after, &change.events);
    for node in nodes_to_tell(&before, after) {
        node::bump_desired(state, node);
    }
    Ok(Applied::Yes)
}

/// What a batch of observations changes, exactly once.
pub(super) fn apply_report(
    state: &mut State,
    journal: (NodeId, JournalId),
    (after, through): (u64, u64),
    changes: &[Change],
    deferred: &[Observation],
) -> Result<Verdict<ReportOutcome>, StoreError> {
    let known = state.journals.get(&journal).copied().unwrap_or(0);
    if known != after {
        return Ok(Verdict::Undo(ReportOutcome::Superseded(known)));
    }
    if through < after || !state.nodes.has(&journal.0) {
        return Err(violation(format!("a report takes journal {} back to {through}, or has no node", journal.1)));
    }
    let mut behind: Vec<InstanceId> = changes.iter().map(|change| change.after.id).collect();
    behind.retain(|id| deferred_of(state, *id) > 0);
    behind.sort_unstable();
    behind.dedup();
    if !behind.is_empty() {
        return Ok(Verdict::Undo(ReportOutcome::Behind(behind)));
    }
    for change in changes {
        match apply(state, change)? {
            Applied::Yes => {}
            Applied::LostRace => return Ok(Verdict::Undo(ReportOutcome::LostRace)),
            Applied::NodeRefused => return Err(violation("a report takes resources that its node does not have")),
        }
    }
    for observation in deferred {
        let id = observation.instance;
        let is_own = |row: &InstanceRow| row.record.node == Some(journal.0) && row.record.deleted_at.is_none();
        if !state.instances.get(&id).is_some_and(is_own) {
            continue;
        }
        if deferred_of(state, id) >= usize::try_from(DeferredFact::MAX_PER_INSTANCE).unwrap_or(usize::MAX) {
            return Ok(Verdict::Undo(ReportOutcome::Full(id)));
        }
        state.last_deferred += 1;
        let number = state.last_deferred;
        state.deferred.put(number, DeferredRow { node: journal.0, observation: observation.clone() });
    }
    state.journals.put(journal, through);
    Ok(Verdict::Keep(ReportOutcome::Applied(through)))
}

fn deferred_of(state: &State, instance: InstanceId) -> usize {
    state.deferred.values().filter(|row| row.observation.instance == instance).count()
}

/// What deferred facts change, exactly once.
pub(super) fn apply_deferred(
    state: &mut State,
    instance: InstanceId,
    numbers: &[u64],
    changes: &[Change],
) -> Result<Verdict<Applied>, StoreError> {
    for number in numbers {
        let is_there = state.deferred.get(number).is_some_and(|row| row.observation.instance == instance);
        if !is_there || !state.deferred.remove(number) {
            return Ok(Verdict::Undo(Applied::LostRace));
        }
    }
    for change in changes {
        match apply(state, change)? {
            Applied::Yes => {}
            refused => return Ok(Verdict::Undo(refused)),
        }
    }
    Ok(Verdict::Keep(Applied::Yes))
}

/// Forgets what is past its retention; events and idempotency records go with their instance, intervals stay.
pub(super) fn purge(state: &mut State, before: Timestamp, limit: u32) -> Verdict<u64> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut keys: Vec<_> = state
        .idempotency
        .iter()
        .filter(|(_, record)| record.created_at < before)
        .map(|(key, record)| (record.created_at, key.clone()))
        .collect();
    keys.sort();
    keys.truncate(limit);
    for (_, key) in &keys {
        state.idempotency.remove(key);
    }
    let deleted = |row: &InstanceRow| row.record.deleted_at.filter(|at| *at < before);
    let mut gone: Vec<(Timestamp, InstanceId, u64)> =
        state.instances.iter().filter_map(|(id, row)| Some((deleted(row)?, *id, row.write))).collect();
    gone.sort_unstable();
    gone.truncate(limit);
    for (_, id, write) in &gone {
        state.instances.remove(id);
        state.writes.remove(write);
        state.idempotency.remove_where(|_, record| record.instance == *id);
        let events: Vec<u64> =
            state.events.iter().filter(|(_, event)| event.instance == *id).map(|(seq, _)| *seq).collect();
        for seq in events {
            crate::event::forget(state, seq);
        }
        state.instance_events_forgotten.remove(id);
        state.deferred.remove_where(|_, row| row.observation.instance == *id);
    }
    let rows = u64::try_from(keys.len() + gone.len()).unwrap_or(u64::MAX);
    if rows > 0 { Verdict::Keep(rows) } else { Verdict::Undo(0) }
}

/// Stores the record after what the schema checks of a row.
fn store(state: &mut State, instance: &Instance) -> Result<(), StoreError> {
    let id = instance.id;
    if (instance.state == InstanceState::Deleted) != instance.deleted_at.is_some() {
        return Err(violation(format!("instance {id} is deleted without a time, or has one and is not")));
    }
    if instance.deleted_at.is_some() && instance.holds_resources {
        return Err(violation(format!("instance {id} is deleted and holds resources")));
    }
    if instance.node.is_some_and(|node| !state.nodes.has(&node)) {
        return Err(violation(format!("instance {id} is placed on a node that is not there")));
    }
    if let Some(before) = state.instances.get(&id).map(|row| row.write) {
        state.writes.remove(&before);
    }
    state.last_write += 1;
    let write = state.last_write;
    state.writes.put(write, id);
    state.instances.put(id, InstanceRow { record: Arc::new(instance.clone()), write, broken: false });
    Ok(())
}

/// Gives back, then takes: an instance that is placed anew on its own node may use what it had.
fn settle_resources(state: &mut State, before: &Instance, change: &Change) -> Result<bool, StoreError> {
    let id = before.id;
    let held = if before.holds_resources { before.node } else { None };
    if let Some(node) = change.releases {
        if held != Some(node) {
            return Err(violation(format!("instance {id} gives back to node {node} what it does not hold there")));
        }
        node::give_back(state, node, before.demand())?;
    }
    if let Some(node) = change.takes {
        if held.is_some() && change.releases.is_none() {
            return Err(violation(format!("instance {id} takes from node {node} while it holds resources already")));
        }
        return Ok(node::take(state, node, change.after.demand()));
    }
    Ok(true)
}

/// What of an instance its node is told, as far as it can change.
#[derive(PartialEq)]
struct Task<'i> {
    node: NodeId,
    generation: Generation,
    action: Action,
    digests: Vec<Option<&'i Digest>>,
    revisions: Vec<u32>,
    updates: u64,
}

fn task(instance: &Instance) -> Option<Task<'_>> {
    if instance.deleted_at.is_some() {
        return None;
    }
    Some(Task {
        node: instance.node?,
        generation: instance.generation,
        action: instance.action(),
        digests: instance.containers.iter().map(|container| container.image_digest.as_ref()).collect(),
        revisions: instance.containers.iter().map(|container| container.revision).collect(),
        updates: instance.updates,
    })
}

/// The nodes for which the change makes a difference. A change that only records what a node saw wakes nobody.
fn nodes_to_tell(before: &Instance, after: &Instance) -> Vec<NodeId> {
    let (before, after) = (task(before), task(after));
    if before == after {
        return Vec::new();
    }
    let mut nodes: Vec<NodeId> = before.iter().chain(&after).map(|task| task.node).collect();
    nodes.dedup();
    nodes
}
