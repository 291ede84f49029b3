//! Events. Their numbers are in commit order because units run one after another.

use std::ops::Bound;

use async_trait::async_trait;
use wherry_model::{Event, Instance, InstanceId};
use wherry_store::{EventQuery, EventStore, StoreError, StoredEvent, Trimmed};

use crate::MemoryStore;
use crate::database::Verdict;
use crate::state::{EventRow, State};

#[async_trait]
impl EventStore for MemoryStore {
    async fn events(&self, query: &EventQuery) -> Result<Vec<StoredEvent>, StoreError> {
        self.read("reading events", |state| {
            let wanted = |row: &EventRow| {
                (row.tenant, row.project) == (query.tenant, query.project)
                    && query.instance.is_none_or(|instance| instance == row.instance)
            };
            let found = state.events.range(query.after.saturating_add(1)..).filter(|(_, row)| wanted(row));
            let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
            let stored = |(seq, row): (&u64, &EventRow)| StoredEvent {
                seq: *seq,
                instance: row.instance,
                name: row.name.clone(),
                event: row.event.clone(),
            };
            found.take(limit).map(stored).collect()
        })
        .await
    }

    async fn events_forgotten(&self, query: &EventQuery) -> Result<u64, StoreError> {
        self.read("reading which events were forgotten", |state| {
            let found = match query.instance {
                None => state.events_forgotten.get(&(query.tenant, query.project)),
                Some(instance) => state.instance_events_forgotten.get(&instance),
            };
            found.copied().unwrap_or(0)
        })
        .await
    }

    async fn trim_events(
        &self,
        after: Option<InstanceId>,
        keep: u32,
        instances: u32,
        limit: u32,
    ) -> Result<Trimmed, StoreError> {
        self.write_quietly("forgetting old events", |state| {
            let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
            let rest = state.instances.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
            let found: Vec<InstanceId> = rest.map(|(id, _)| *id).take(size(instances)).collect();
            let (mut next, mut left) = (after, size(limit));
            for id in &found {
                let of_it = state.events.iter().filter(|(_, row)| row.instance == *id).map(|(seq, _)| *seq);
                let of_it: Vec<u64> = of_it.collect();
                let goes = of_it.len().saturating_sub(size(keep)).min(left);
                for seq in of_it.iter().take(goes) {
                    forget(state, *seq);
                }
                left -= goes;
                if goes > 0 && left == 0 {
                    return Ok(Verdict::Keep(Trimmed { events: u64::from(limit), next, is_end: false }));
                }
                next = Some(*id);
            }
            let events = u64::try_from(size(limit) - left).unwrap_or(u64::MAX);
            let is_end = found.len() < size(instances);
            Ok(Verdict::Keep(Trimmed { events, next: next.filter(|_| !is_end), is_end }))
        })
        .await
    }
}

/// Removes an event and remembers that it was there.
pub(crate) fn forget(state: &mut State, seq: u64) {
    let Some(row) = state.events.get(&seq).cloned() else { return };
    let higher = |known: Option<&u64>| known.copied().unwrap_or(0).max(seq);
    let of_project = higher(state.events_forgotten.get(&(row.tenant, row.project)));
    state.events_forgotten.put((row.tenant, row.project), of_project);
    let of_instance = higher(state.instance_events_forgotten.get(&row.instance));
    state.instance_events_forgotten.put(row.instance, of_instance);
    state.events.remove(&seq);
}

/// Numbers and stores the events of a change.
pub(crate) fn append(state: &mut State, instance: &Instance, events: &[Event]) {
    for event in events {
        state.last_event += 1;
        let row = EventRow {
            tenant: instance.tenant,
            project: instance.project,
            instance: instance.id,
            name: instance.name.clone(),
            event: event.clone(),
        };
        state.events.put(state.last_event, row);
    }
}
