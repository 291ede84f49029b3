//! Intervals and price books. Both ends of an interval are floored to the grid second; overlaps are refused.

use std::collections::BTreeMap;

use async_trait::async_trait;
use wherry_metering::Interval;
use wherry_model::lifecycle::{MeterEdge, MeterKind};
use wherry_model::{Instance, InstanceId, PriceBook, TenantId, Timestamp};
use wherry_store::{MeterStore, PriceBookOutcome, StoreError, UsageQuery};

use crate::MemoryStore;
use crate::database::Verdict;
use crate::state::{IntervalKey, IntervalRow, State, violation};

#[async_trait]
impl MeterStore for MemoryStore {
    async fn intervals(&self, query: &UsageQuery) -> Result<Vec<Interval>, StoreError> {
        self.read("reading metered intervals", |state| {
            let after = query.after.map(|(instance, kind, number)| (instance, kind.as_str(), number));
            let wanted = |(key, row): &(&IntervalKey, &IntervalRow)| {
                row.tenant == query.tenant
                    && query.project.is_none_or(|project| project == row.project)
                    && query.instance.is_none_or(|instance| instance == key.0)
                    && after.is_none_or(|after| **key > after)
                    && row.start_second < query.to_second
                    && row.end_second.is_none_or(|end| end > row.start_second.max(query.from_second))
            };
            let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
            state.intervals.iter().filter(wanted).take(limit).map(|(key, row)| interval(state, key, row)).collect()
        })
        .await
    }

    async fn price_book(&self, id: &str) -> Result<Option<PriceBook>, StoreError> {
        self.read("reading a price book", |state| state.books.get(&id.to_owned()).cloned()).await
    }

    async fn put_price_book(&self, book: &PriceBook) -> Result<PriceBookOutcome, StoreError> {
        self.write("storing a price book", |state| {
            match state.books.get(&book.id) {
                Some(known) if known != book => return Ok(Verdict::Undo(PriceBookOutcome::Differs)),
                Some(_) if state.current_book.get(&()) == Some(&book.id) => {
                    return Ok(Verdict::Undo(PriceBookOutcome::Current));
                }
                Some(_) => {}
                None => state.books.put(book.id.clone(), book.clone()),
            }
            state.books.put(PriceBook::spot_id(&book.id), book.spot());
            state.current_book.put((), book.id.clone());
            Ok(Verdict::Keep(PriceBookOutcome::Current))
        })
        .await
    }

    async fn metered(&self, tenant: TenantId, instances: &[InstanceId]) -> Result<Vec<Interval>, StoreError> {
        self.read("adding up intervals", |state| {
            let mut sums = BTreeMap::new();
            let mut open = Vec::new();
            let own = state.intervals.iter().filter(|(key, row)| row.tenant == tenant && instances.contains(&key.0));
            for (key, row) in own {
                let Some(end) = row.end_second else {
                    open.push(interval(state, key, row));
                    continue;
                };
                let group = (key.0, key.1, row.project, row.cpu.get(), row.memory.get(), row.price_book.clone());
                let sum = sums.entry(group).or_insert_with(|| Interval {
                    number: 0,
                    start_second: 0,
                    end_second: Some(0),
                    proved_until: Timestamp::from_seconds(0),
                    late: false,
                    ..interval(state, key, row)
                });
                let seconds = sum.end_second.unwrap_or(0) + (end - row.start_second);
                sum.end_second = Some(seconds);
                sum.proved_until = Timestamp::from_seconds(seconds);
                sum.generation = sum.generation.max(row.generation);
            }
            sums.into_values().chain(open).collect()
        })
        .await
    }
}

/// All intervals there are.
pub(crate) fn all(state: &State) -> Vec<Interval> {
    state.intervals.iter().map(|(key, row)| interval(state, key, row)).collect()
}

fn interval(state: &State, key: &IntervalKey, row: &IntervalRow) -> Interval {
    let kind = if key.1 == MeterKind::Run.as_str() { MeterKind::Run } else { MeterKind::Pull };
    let proof = || state.nodes.get(&row.node).map_or_else(Timestamp::default, |node| node.record.proof_at);
    Interval {
        instance: key.0,
        name: row.name.clone(),
        tenant: row.tenant,
        project: row.project,
        kind,
        number: key.2,
        generation: row.generation,
        cpu: row.cpu,
        memory: row.memory,
        price_book: row.price_book.clone(),
        start_second: row.start_second,
        end_second: row.end_second,
        proved_until: row.end_second.map_or_else(proof, Timestamp::from_seconds),
        late: row.late,
    }
}

/// Turns the edges of a change into rows.
pub(crate) fn apply_edges(state: &mut State, instance: &Instance, edges: &[MeterEdge]) -> Result<(), StoreError> {
    for edge in edges {
        match *edge {
            MeterEdge::Open { kind, at, late } => open(state, instance, kind, at, late)?,
            MeterEdge::Close { kind, at } => close(state, instance, kind, at)?,
        }
    }
    Ok(())
}

/// Opens the next interval, at the end of the one before if a clock says that this was later.
fn open(state: &mut State, instance: &Instance, kind: MeterKind, at: Timestamp, late: bool) -> Result<(), StoreError> {
    let id = instance.id;
    let node = instance.node.ok_or_else(|| violation(format!("instance {id} is metered on no node")))?;
    let book = state.current_book.get(&()).cloned();
    let book = book.ok_or_else(|| violation("nothing can be metered before a price book is stored"))?;
    let demand = instance.demand();
    let book = if demand.spot { PriceBook::spot_id(&book) } else { book };
    let mut number = 1;
    let mut start_second = at.grid_second();
    for (key, row) in of_meter(state, id, kind) {
        number = key.2 + 1;
        // What is open has no end yet: another one beside it would overlap.
        let end = row.end_second.ok_or_else(|| violation(format!("a {} interval of {id} is open", kind.as_str())))?;
        start_second = start_second.max(end);
    }
    let row = IntervalRow {
        tenant: instance.tenant,
        project: instance.project,
        name: instance.name.clone(),
        node,
        generation: instance.generation,
        cpu: demand.cpu,
        memory: demand.memory,
        price_book: book,
        start_second,
        end_second: None,
        late,
    };
    state.intervals.put((id, kind.as_str(), number), row);
    Ok(())
}

fn close(state: &mut State, instance: &Instance, kind: MeterKind, at: Timestamp) -> Result<(), StoreError> {
    let open = of_meter(state, instance.id, kind).find(|(_, row)| row.end_second.is_none()).map(|(key, _)| *key);
    let key = open.ok_or_else(|| {
        violation(format!("instance {} has no open {} interval to close", instance.id, kind.as_str()))
    })?;
    state.intervals.change(&key, |row| row.end_second = Some(at.grid_second().max(row.start_second)));
    Ok(())
}

fn of_meter(
    state: &State,
    instance: InstanceId,
    kind: MeterKind,
) -> impl DoubleEndedIterator<Item = (&IntervalKey, &IntervalRow)> {
    state.intervals.range((instance, kind.as_str(), 0)..=(instance, kind.as_str(), u32::MAX))
}
