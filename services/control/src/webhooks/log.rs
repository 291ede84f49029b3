//! What became of deliveries, and asking for one: a ping, or one again.

use wherry_model::{DeliveryId, Principal, ProjectName, Scope, WebhookName};
use wherry_store::{Cursor, DeliveryRecord, DeliveryState, Settlement, Telling, WebhookRecord};

use crate::{Control, Error, cursor};

/// The most deliveries of one page.
const MAX_PAGE: u32 = 200;

/// Which page of the log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryPageRequest {
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPage {
    /// Newest first.
    pub deliveries: Vec<DeliveryRecord>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

impl Control {
    /// The webhook's deliveries, newest first.
    pub async fn deliveries(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: &WebhookName,
        request: &DeliveryPageRequest,
    ) -> Result<DeliveryPage, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        let webhook = self.webhook_of(principal, project, name).await?;
        let before = request.cursor.as_deref().map(cursor::decode).transpose()?;
        let before = before.map(|cursor| DeliveryId::from_uuid(cursor.id.as_uuid()));
        let limit = request.limit.clamp(1, MAX_PAGE);
        let mut deliveries = self.store().deliveries(webhook.id, before, limit + 1).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = deliveries.len() > limit;
        deliveries.truncate(limit);
        let last = deliveries.last().filter(|_| more);
        let next = last.map(|last| {
            cursor::encode(Cursor {
                created_at: last.since,
                id: wherry_model::InstanceId::from_uuid(last.id.as_uuid()),
            })
        });
        Ok(DeliveryPage { deliveries, next })
    }

    /// One delivery.
    pub async fn get_delivery(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: &WebhookName,
        id: DeliveryId,
    ) -> Result<DeliveryRecord, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        let webhook = self.webhook_of(principal, project, name).await?;
        self.delivery_of(&webhook, id).await
    }

    /// Sends the webhook a ping: a delivery like any other, tried once, at once.
    pub async fn test_webhook(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: &WebhookName,
    ) -> Result<DeliveryRecord, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        let webhook = self.webhook_of(principal, project, name).await?;
        enabled(&webhook)?;
        let ping = self.new_delivery(&webhook, Telling::Ping);
        let most = self.inner.config.webhooks.most_waiting;
        if !self.store().add_delivery(&ping, most).await? {
            let message = "too many deliveries of this webhook wait already: mend its receiver, or try again later";
            return Err(Error::conflict("too_many_deliveries", message));
        }
        Ok(ping)
    }

    /// Makes a delivery that has ended once more, with the id that it has. It does not wait for others of its instance.
    pub async fn redeliver(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: &WebhookName,
        id: DeliveryId,
    ) -> Result<DeliveryRecord, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        let webhook = self.webhook_of(principal, project, name).await?;
        enabled(&webhook)?;
        let before = self.delivery_of(&webhook, id).await?;
        if before.is_open() {
            return Ok(before);
        }
        let now = self.now();
        let after = DeliveryRecord {
            state: DeliveryState::Waiting,
            lane: None,
            since: now,
            failures: 0,
            next_at: Some(now),
            ended_at: None,
            ..before.clone()
        };
        let settlement = Settlement { before, after, webhook: None, also: Vec::new() };
        if self.store().settle_delivery(&settlement).await? {
            return Ok(settlement.after);
        }
        // Somebody else asked for it at the same time, or it was forgotten.
        self.delivery_of(&webhook, id).await
    }

    async fn delivery_of(&self, webhook: &WebhookRecord, id: DeliveryId) -> Result<DeliveryRecord, Error> {
        let found = self.store().delivery(webhook.id, id).await?;
        found.ok_or_else(|| Error::NotFound(format!("the delivery {id}")))
    }

    /// A delivery that is due now, in no lane.
    pub(crate) fn new_delivery(&self, webhook: &WebhookRecord, telling: Telling) -> DeliveryRecord {
        let now = self.now();
        DeliveryRecord {
            id: DeliveryId::generate(self.inner.clock.as_ref(), self.inner.entropy.as_ref()),
            webhook: webhook.id,
            tenant: webhook.tenant,
            project: webhook.project,
            telling,
            lane: None,
            since: now,
            state: DeliveryState::Waiting,
            attempts: 0,
            failures: 0,
            next_at: Some(now),
            latest: None,
            ended_at: None,
        }
    }
}

fn enabled(webhook: &WebhookRecord) -> Result<(), Error> {
    if webhook.disabled.is_none() {
        return Ok(());
    }
    Err(Error::conflict("webhook_disabled", "the webhook is disabled, nothing is sent: enable it first"))
}
