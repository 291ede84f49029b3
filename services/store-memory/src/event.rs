//! Events. Their numbers are in commit order because units run one after another.

use async_trait::async_trait;
use wherry_model::{Event, Instance};
use wherry_store::{EventQuery, EventStore, StoreError, StoredEvent};

use crate::MemoryStore;
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
