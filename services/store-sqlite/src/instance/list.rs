//! Pages of a tenant's instances, newest first.
//!
//! Without labels: each wanted state is one range of `instances_by_state`, read in order and no further than the page
//! is long; the ranges are merged. So the cost is that of the page, however many instances there are.
//! With labels: the first label's range of `instance_labels` is walked in order of age, the other labels and the state
//! are checked on the way; the cost is bounded by the instances with that label.

use sqlx::QueryBuilder;
use sqlx::sqlite::{Sqlite, SqliteConnection};
use wherry_model::InstanceState;
use wherry_store::{Cursor, ListQuery, Page, StoreError};

use super::read;
use crate::columns::{Blob, Fields};
use crate::error::Context;
use crate::readable::readable;

pub(super) async fn page(connection: &mut SqliteConnection, query: &ListQuery) -> Result<Page, StoreError> {
    let rows = statement(query).build().fetch_all(connection).await.context("listing instances")?;
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

fn statement(query: &ListQuery) -> QueryBuilder<Sqlite> {
    let mut states: Vec<InstanceState> = if query.states.is_empty() {
        InstanceState::ALL.into_iter().filter(|state| *state != InstanceState::Deleted).collect()
    } else {
        query.states.clone()
    };
    states.sort_unstable();
    states.dedup();
    // One more than asked tells whether there is a next page.
    let wanted = i64::from(query.limit) + 1;
    let mut sql = QueryBuilder::new("SELECT id, record, created_at FROM instances WHERE id IN (SELECT id FROM (");
    if query.labels.is_empty() {
        by_state(&mut sql, query, &states, wanted);
    } else {
        by_label(&mut sql, query, &states, wanted);
    }
    sql.push(")) ORDER BY created_at DESC, id DESC LIMIT ").push_bind(wanted);
    sql
}

fn by_state(sql: &mut QueryBuilder<Sqlite>, query: &ListQuery, states: &[InstanceState], wanted: i64) {
    for (position, state) in states.iter().enumerate() {
        if position > 0 {
            sql.push(" UNION ALL ");
        }
        sql.push("SELECT id FROM (SELECT id FROM instances WHERE tenant = ").push_bind(query.tenant.blob());
        sql.push(" AND project = ").push_bind(query.project.blob());
        sql.push(" AND state = ").push_bind(state.as_str());
        if let Some(after) = query.after {
            sql.push(" AND (created_at, id) < (").push_bind(after.created_at.as_micros());
            sql.push(", ").push_bind(after.id.blob()).push(")");
        }
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(wanted).push(")");
    }
}

fn by_label(sql: &mut QueryBuilder<Sqlite>, query: &ListQuery, states: &[InstanceState], wanted: i64) {
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
                sql.push(" FROM instance_labels AS label CROSS JOIN instances ON instances.id = label.instance");
                sql.push(" WHERE label.tenant = ").push_bind(query.tenant.blob());
                sql.push(" AND label.project = ").push_bind(query.project.blob());
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
            sql.push(", ").push_bind(after.id.blob()).push(")");
        }
        sql.push(" AND instances.state IN (");
        let mut list = sql.separated(", ");
        for state in states {
            list.push_bind(state.as_str());
        }
        sql.push(") ORDER BY label.created_at DESC, label.instance DESC LIMIT ").push_bind(wanted).push(")");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;
    use wherry_model::{InstanceId, ProjectId, TenantId, Timestamp};

    use super::*;
    use crate::plan::assert_plan;

    /// Only the page itself is sorted: each range is read in its order, and ends where the page is full.
    #[tokio::test]
    async fn ranges_are_read_in_order_from_an_index() {
        let cursor = Cursor { created_at: Timestamp::from_seconds(1), id: InstanceId::from_uuid(Uuid::nil()) };
        let labels: BTreeMap<_, _> = [("app", "shop"), ("tier", "web")].map(|(k, v)| (k.into(), v.into())).into();
        for after in [None, Some(cursor)] {
            let all = ListQuery {
                tenant: TenantId::from_uuid(Uuid::nil()),
                project: ProjectId::from_uuid(Uuid::nil()),
                states: Vec::new(),
                labels: BTreeMap::new(),
                after,
                limit: 10,
            };
            let labelled = ListQuery { labels: labels.clone(), states: InstanceState::ALL.to_vec(), ..all.clone() };
            let page = "SEARCH instances USING INDEX sqlite_autoindex_instances_1 (id=?)";
            let range = if after.is_some() { " AND (created_at,id)<(?,?))" } else { ")" };
            let by_state =
                "SEARCH instances USING COVERING INDEX instances_by_state (tenant=? AND project=? AND state=?";
            assert_plan(statement(&all), &[page, &format!("{by_state}{range}"), "USE TEMP B-TREE FOR ORDER BY"]).await;
            let range = range.replace(",id)", ",instance)");
            let by_label = "SEARCH label USING PRIMARY KEY (tenant=? AND project=? AND key=? AND value=? AND live=?";
            let by_label = &format!("{by_label}{range}");
            let others = "SEARCH other EXISTS USING COVERING INDEX instance_labels_by_instance (instance=? AND key=?)";
            assert_plan(statement(&labelled), &[page, by_label, others, "USE TEMP B-TREE FOR ORDER BY"]).await;
        }
    }
}
