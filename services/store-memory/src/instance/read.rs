//! Look-ups and pages.

use std::cmp::Reverse;
use std::sync::Arc;

use wherry_model::{Instance, InstanceName, InstanceState, NodeId, ProjectId, TenantId};
use wherry_store::{CreateOutcome, Cursor, ListQuery, Page};

use crate::state::{InstanceRow, State};

/// The tenant's live instance of that name.
pub(super) fn by_name<'s>(
    state: &'s State,
    tenant: TenantId,
    project: ProjectId,
    name: &InstanceName,
) -> Option<&'s InstanceRow> {
    state.instances.values().find(|row| {
        let record = &row.record;
        record.deleted_at.is_none() && (record.tenant, record.project) == (tenant, project) && record.name == *name
    })
}

/// Which of the names that `instance` asks for is another's.
pub(super) fn taken(state: &State, instance: &Instance) -> Option<CreateOutcome> {
    if by_name(state, instance.tenant, instance.project, &instance.name).is_some() {
        return Some(CreateOutcome::NameTaken);
    }
    let mut others = state.instances.values().map(|row| &row.record).filter(|record| record.deleted_at.is_none());
    let same =
        |record: &Instance| (record.dns_scope(), record.dns_label()) == (instance.dns_scope(), instance.dns_label());
    others.any(|record| same(record)).then_some(CreateOutcome::DnsNameTaken)
}

/// Every instance whose place is this node and that is not deleted, by id.
pub(crate) fn placed_on(state: &State, node: NodeId) -> impl Iterator<Item = &Instance> {
    rows_on(state, node).map(|row| &*row.record)
}

pub(super) fn rows_on(state: &State, node: NodeId) -> impl Iterator<Item = &InstanceRow> {
    state.instances.values().filter(move |row| row.record.node == Some(node) && row.record.deleted_at.is_none())
}

pub(super) fn page(state: &State, query: &ListQuery) -> Page {
    let wanted = |record: &Instance| {
        let in_state = if query.states.is_empty() {
            record.state != InstanceState::Deleted
        } else {
            query.states.contains(&record.state)
        };
        in_state
            && (record.tenant, record.project) == (query.tenant, query.project)
            && query.labels.iter().all(|(key, value)| record.spec.labels.get(key) == Some(value))
            && query.after.is_none_or(|after| (record.created_at, record.id) < (after.created_at, after.id))
    };
    let mut found: Vec<&Arc<Instance>> =
        state.instances.values().filter_map(InstanceRow::readable).filter(|record| wanted(record)).collect();
    found.sort_by_key(|record| Reverse((record.created_at, record.id)));
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|last| Cursor { created_at: last.created_at, id: last.id });
    Page { instances: found.into_iter().map(|r| (**r).clone()).collect(), next: last.filter(|_| more) }
}
