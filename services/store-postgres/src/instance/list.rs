//! Pages of a tenant's instances, newest first.
//!
//! Without labels: each wanted state is one range of `instances_by_state`, read in order and no further than the page
//! is long; the ranges are merged. So the cost is that of the page, however many instances there are.
//! With labels: the first label's range of `instance_labels` is walked in order of age, the other labels and the state
//! are checked on the way; the cost is bounded by the instances with that label.

use sqlx::QueryBuilder;
use sqlx::postgres::{PgRow, Postgres};
use wherry_model::InstanceState;
use wherry_store::{Cursor, ListQuery, Page, StoreError};

use super::read;
use crate::columns::Fields;
use crate::readable::readable;

pub(super) fn page(query: &ListQuery, rows: &[PgRow]) -> Result<Page, StoreError> {
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let (page, beyond) = rows.split_at(rows.len().min(limit));
    let next = match page.last() {
        Some(row) if !beyond.is_empty() => {
            let fields = Fields { table: "instances", row };
            Some(Cursor { created_at: fields.time("created_at")?, id: fields.id("id")? })
        }
        _ => None,
    };
    Ok(Page { instances: readable(page, read::record), next })
}

pub(super) fn statement(query: &ListQuery) -> QueryBuilder<Postgres> {
    let mut states: Vec<InstanceState> = if query.states.is_empty() {
        InstanceState::ALL.into_iter().filter(|state| *state != InstanceState::Deleted).collect()
    } else {
        query.states.clone()
    };
    states.sort_unstable();
    states.dedup();
    // One more than asked tells whether there is a next page.
    let wanted = i64::from(query.limit) + 1;
    let mut sql =
        QueryBuilder::new("SELECT id, record::text AS record, created_at FROM instances WHERE id IN (SELECT id FROM (");
    if query.labels.is_empty() {
        by_state(&mut sql, query, &states, wanted);
    } else {
        by_label(&mut sql, query, &states, wanted);
    }
    sql.push(") AS ranges) ORDER BY created_at DESC, id DESC LIMIT ").push_bind(wanted);
    sql
}

fn by_state(sql: &mut QueryBuilder<Postgres>, query: &ListQuery, states: &[InstanceState], wanted: i64) {
    for (position, state) in states.iter().enumerate() {
        if position > 0 {
            sql.push(" UNION ALL ");
        }
        sql.push("SELECT id FROM (SELECT id FROM instances WHERE tenant = ").push_bind(query.tenant.as_uuid());
        sql.push(" AND project = ").push_bind(query.project.as_uuid());
        sql.push(" AND state = ").push_bind(state.as_str());
        if let Some(after) = query.after {
            sql.push(" AND (created_at, id) < (").push_bind(after.created_at.as_micros());
            sql.push(", ").push_bind(after.id.as_uuid()).push(")");
        }
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(wanted).push(") AS range");
    }
}

fn by_label(sql: &mut QueryBuilder<Postgres>, query: &ListQuery, states: &[InstanceState], wanted: i64) {
    let (dead, live): (Vec<InstanceState>, Vec<InstanceState>) =
        states.iter().copied().partition(|state| *state == InstanceState::Deleted);
    let mut first_range = true;
    for (live, states) in [(true, live), (false, dead)] {
        if states.is_empty() {
            continue;
        }
        if !first_range {
            sql.push(" UNION ALL ");
        }
        first_range = false;
        sql.push("SELECT id FROM (SELECT instances.id");
        for (position, (key, value)) in query.labels.iter().enumerate() {
            if position == 0 {
                sql.push(" FROM instance_labels AS label JOIN instances ON instances.id = label.instance");
                sql.push(" WHERE label.tenant = ").push_bind(query.tenant.as_uuid());
                sql.push(" AND label.project = ").push_bind(query.project.as_uuid());
                sql.push(" AND label.key = ").push_bind(key.clone());
                sql.push(" AND label.value = ").push_bind(value.clone());
                sql.push(" AND label.live = ").push_bind(live);
            } else {
                sql.push(" AND EXISTS (SELECT 1 FROM instance_labels AS other WHERE other.instance = label.instance");
                sql.push(" AND other.key = ").push_bind(key.clone());
                sql.push(" AND other.value = ").push_bind(value.clone()).push(")");
            }
        }
        if let Some(after) = query.after {
            sql.push(" AND (label.created_at, label.instance) < (").push_bind(after.created_at.as_micros());
            sql.push(", ").push_bind(after.id.as_uuid()).push(")");
        }
        sql.push(" AND instances.state IN (");
        let mut list = sql.separated(", ");
        for state in states {
            list.push_bind(state.as_str());
        }
        sql.push(") ORDER BY label.created_at DESC, label.instance DESC LIMIT ").push_bind(wanted).push(") AS range");
    }
}
