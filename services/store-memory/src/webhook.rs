//! Webhooks and their deliveries.

use std::ops::Bound;

use async_trait::async_trait;
use wherry_model::{DeliveryId, ProjectId, TenantId, Timestamp, WebhookId, WebhookName};
use wherry_store::{DeliveryRecord, Lagging, NameOutcome, Settlement, StoreError, WebhookRecord, WebhookStore};

use crate::MemoryStore;
use crate::database::Verdict;
use crate::state::{State, violation};

/// A webhook and the number of the last event that it was told of.
#[derive(Clone)]
pub(crate) struct WebhookRow {
    record: WebhookRecord,
    followed: u64,
}

#[async_trait]
impl WebhookStore for MemoryStore {
    async fn create_webhook(&self, webhook: &WebhookRecord) -> Result<NameOutcome, StoreError> {
        self.write("creating a webhook", |state| {
            let (tenant, project) = (webhook.tenant, webhook.project);
            if of_project(state, tenant, project).any(|known| known.name == webhook.name) {
                return Ok(Verdict::Undo(NameOutcome::NameTaken));
            }
            if state.webhooks.has(&webhook.id) || !state.projects.has(&(tenant, project)) {
                return Err(violation(format!("webhook {} is there, or its project is not", webhook.id)));
            }
            let followed = last_event(state, tenant, project);
            state.webhooks.put(webhook.id, WebhookRow { record: webhook.clone(), followed });
            Ok(Verdict::Keep(NameOutcome::Created))
        })
        .await
    }

    async fn webhook(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: &WebhookName,
    ) -> Result<Option<WebhookRecord>, StoreError> {
        self.read("reading a webhook", |state| {
            of_project(state, tenant, project).find(|webhook| webhook.name == *name).cloned()
        })
        .await
    }

    async fn webhooks(
        &self,
        tenant: TenantId,
        project: ProjectId,
        limit: u32,
    ) -> Result<Vec<WebhookRecord>, StoreError> {
        self.read("listing webhooks", |state| {
            let mut all: Vec<_> = of_project(state, tenant, project).cloned().collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            all.truncate(bound(limit));
            all
        })
        .await
    }

    async fn every_webhook(&self, after: Option<WebhookId>, limit: u32) -> Result<Vec<WebhookRecord>, StoreError> {
        self.read("reading webhooks by their ids", |state| {
            let rest = state.webhooks.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
            rest.take(bound(limit)).map(|(_, row)| row.record.clone()).collect()
        })
        .await
    }

    async fn change_webhook(&self, webhook: &WebhookRecord, anew: bool) -> Result<bool, StoreError> {
        self.write("changing a webhook", |state| {
            let done = change(state, webhook, anew);
            Ok(if done { Verdict::Keep(true) } else { Verdict::Undo(false) })
        })
        .await
    }

    async fn delete_webhook(&self, tenant: TenantId, id: WebhookId) -> Result<bool, StoreError> {
        self.write("deleting a webhook", |state| {
            if state.webhooks.get(&id).is_none_or(|row| row.record.tenant != tenant) {
                return Ok(Verdict::Undo(false));
            }
            state.deliveries.remove_where(|_, delivery| delivery.webhook == id);
            state.webhooks.remove(&id);
            Ok(Verdict::Keep(true))
        })
        .await
    }

    async fn lagging_webhooks(
        &self,
        after: Option<WebhookId>,
        most: u32,
        limit: u32,
    ) -> Result<Vec<Lagging>, StoreError> {
        self.read("looking for webhooks that lag", |state| {
            let lags = |row: &&WebhookRow| last_event(state, row.record.tenant, row.record.project) > row.followed;
            enabled(state, after)
                .filter(lags)
                .take(bound(limit))
                .map(|row| Lagging {
                    webhook: row.record.clone(),
                    followed: row.followed,
                    open: open(state, row.record.id).min(most),
                })
                .collect()
        })
        .await
    }

    async fn follow_events(
        &self,
        webhook: WebhookId,
        from: u64,
        to: u64,
        deliveries: &[DeliveryRecord],
    ) -> Result<bool, StoreError> {
        self.write_quietly("following events for a webhook", |state| {
            let there = |row: &WebhookRow| row.followed == from && row.record.disabled.is_none();
            if !state.webhooks.get(&webhook).is_some_and(there) {
                return Ok(Verdict::Undo(false));
            }
            state.webhooks.change(&webhook, |row| row.followed = to);
            for delivery in deliveries {
                insert(state, delivery)?;
            }
            Ok(Verdict::Keep(true))
        })
        .await
    }

    async fn due_webhooks(
        &self,
        now: Timestamp,
        after: Option<WebhookId>,
        limit: u32,
    ) -> Result<Vec<WebhookRecord>, StoreError> {
        self.read("looking for webhooks with work", |state| {
            let due = |row: &&WebhookRow| {
                state.deliveries.values().any(|delivery| delivery.webhook == row.record.id && is_due(delivery, now))
            };
            enabled(state, after).filter(due).take(bound(limit)).map(|row| row.record.clone()).collect()
        })
        .await
    }

    async fn due_deliveries(
        &self,
        webhook: WebhookId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        self.read("looking for deliveries that are due", |state| {
            let open: Vec<_> = of_webhook(state, webhook).filter(|delivery| delivery.is_open()).collect();
            let first = |delivery: &&&DeliveryRecord| {
                delivery.lane.is_none()
                    || open.iter().all(|other| other.lane != delivery.lane || other.number() >= delivery.number())
            };
            let mut due: Vec<DeliveryRecord> =
                open.iter().filter(|delivery| is_due(delivery, now)).filter(first).map(|one| (*one).clone()).collect();
            due.sort_by_key(|delivery| (delivery.next_at, delivery.number(), delivery.id));
            due.truncate(bound(limit));
            due
        })
        .await
    }

    async fn add_delivery(&self, delivery: &DeliveryRecord, most: u32) -> Result<bool, StoreError> {
        self.write("storing a delivery", |state| {
            let stored = open(state, delivery.webhook) < most && insert(state, delivery)?;
            Ok(if stored { Verdict::Keep(true) } else { Verdict::Undo(false) })
        })
        .await
    }

    async fn settle_delivery(&self, settlement: &Settlement) -> Result<bool, StoreError> {
        self.write("settling a delivery", |state| {
            let Settlement { before, after, webhook, also } = settlement;
            let same =
                |known: &DeliveryRecord| known.is_open() == before.is_open() && known.attempts == before.attempts;
            if !state.deliveries.get(&before.id).is_some_and(same) {
                return Ok(Verdict::Undo(false));
            }
            state.deliveries.put(after.id, after.clone());
            if webhook.as_ref().is_some_and(|webhook| !change(state, webhook, false)) {
                return Ok(Verdict::Undo(false));
            }
            for delivery in also {
                insert(state, delivery)?;
            }
            Ok(Verdict::Keep(true))
        })
        .await
    }

    async fn delivery(&self, webhook: WebhookId, id: DeliveryId) -> Result<Option<DeliveryRecord>, StoreError> {
        self.read("reading a delivery", |state| {
            state.deliveries.get(&id).filter(|delivery| delivery.webhook == webhook).cloned()
        })
        .await
    }

    async fn deliveries(
        &self,
        webhook: WebhookId,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        self.read("listing deliveries", |state| {
            let wanted = |delivery: &&DeliveryRecord| before.is_none_or(|before| delivery.id < before);
            of_webhook(state, webhook).rev().filter(wanted).take(bound(limit)).cloned().collect()
        })
        .await
    }

    async fn purge_deliveries(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.write_quietly("forgetting deliveries", |state| {
            let ended = |delivery: &&DeliveryRecord| delivery.ended_at.is_some_and(|at| at < before);
            let mut old: Vec<_> =
                state.deliveries.values().filter(ended).map(|delivery| (delivery.ended_at, delivery.id)).collect();
            old.sort_unstable();
            old.truncate(bound(limit));
            let gone: u64 = old.iter().map(|(_, id)| u64::from(state.deliveries.remove(id))).sum();
            Ok(if gone > 0 { Verdict::Keep(gone) } else { Verdict::Undo(0) })
        })
        .await
    }
}

fn bound(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn is_due(delivery: &DeliveryRecord, now: Timestamp) -> bool {
    delivery.next_at.is_some_and(|at| at <= now)
}

fn of_project(state: &State, tenant: TenantId, project: ProjectId) -> impl Iterator<Item = &WebhookRecord> {
    let records = state.webhooks.values().map(|row| &row.record);
    records.filter(move |webhook| webhook.tenant == tenant && webhook.project == project)
}

fn of_webhook(state: &State, webhook: WebhookId) -> impl DoubleEndedIterator<Item = &DeliveryRecord> {
    state.deliveries.values().filter(move |delivery| delivery.webhook == webhook)
}

fn enabled(state: &State, after: Option<WebhookId>) -> impl Iterator<Item = &WebhookRow> {
    let wanted =
        move |row: &&WebhookRow| row.record.disabled.is_none() && after.is_none_or(|after| row.record.id > after);
    state.webhooks.values().filter(wanted)
}

fn open(state: &State, webhook: WebhookId) -> u32 {
    u32::try_from(of_webhook(state, webhook).filter(|delivery| delivery.is_open()).count()).unwrap_or(u32::MAX)
}

fn last_event(state: &State, tenant: TenantId, project: ProjectId) -> u64 {
    let of_project = |(_, event): &(&u64, &crate::state::EventRow)| event.tenant == tenant && event.project == project;
    state.events.iter().rev().find(of_project).map_or(0, |(seq, _)| *seq)
}

fn change(state: &mut State, webhook: &WebhookRecord, anew: bool) -> bool {
    let same = |row: &WebhookRow| {
        row.record.revision + 1 == webhook.revision
            && (row.record.tenant, row.record.project) == (webhook.tenant, webhook.project)
    };
    let Some(row) = state.webhooks.get(&webhook.id).filter(|row| same(row)) else { return false };
    let followed = if anew { last_event(state, webhook.tenant, webhook.project) } else { row.followed };
    state.webhooks.put(webhook.id, WebhookRow { record: webhook.clone(), followed });
    true
}

/// False when the webhook is gone.
fn insert(state: &mut State, delivery: &DeliveryRecord) -> Result<bool, StoreError> {
    if !state.webhooks.has(&delivery.webhook) {
        return Ok(false);
    }
    if state.deliveries.has(&delivery.id) {
        return Err(violation(format!("delivery {} is there", delivery.id)));
    }
    state.deliveries.put(delivery.id, delivery.clone());
    Ok(true)
}
