//! Who is told of events, up to where, and what became of each telling.
//!
//! A webhook follows the events of its project: a place in their order, and the deliveries that were made of what lies before
//! it, move in one transaction, so an event becomes a delivery once or not yet. A delivery is open until it was taken or given
//! up. Deliveries of one instance form a lane: only the first open one of a lane is due. Whoever makes a delivery may die
//! before it is settled: it is still open then, and is made again.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use wherry_model::{
    DeliveryId, InstanceId, InstanceName, ProjectId, ProjectName, Sealed, TenantId, Timestamp, WebhookId, WebhookName,
};

use crate::error::StoreError;
use crate::event::StoredEvent;
use crate::tenant::NameOutcome;

/// A secret that is not the newest any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerSecret {
    /// The secret.
    pub secret: Sealed,
    /// Until when deliveries are signed with it too.
    pub until: Timestamp,
}

/// Why nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// Its tenant wants it so.
    Asked,
    /// Nothing was taken for too long.
    Failing,
    /// The receiver said that it is gone for good (410).
    Gone,
}

/// Since when nothing is sent, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: DisabledReason,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRecord {
    /// Its id.
    pub id: WebhookId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Whose events it tells.
    pub project: ProjectId,
    /// That project's name.
    pub project_name: ProjectName,
    /// Its name, unique in the project.
    pub name: WebhookName,
    /// Where it tells them.
    pub url: String,
    /// Only events of these kinds; all when empty.
    pub kinds: Vec<String>,
    /// Only events of the instance of this name.
    pub instance: Option<InstanceName>,
    /// Only events of instances with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// What deliveries are signed with.
    pub secret: Sealed,
    /// The one before, for a while.
    pub former_secret: Option<FormerSecret>,
    /// Set while nothing is sent.
    pub disabled: Option<Disabled>,
    /// Since when nothing was taken, if the latest was not.
    pub failing_since: Option<Timestamp>,
    /// Since when it exists.
    pub created_at: Timestamp,
    /// Counts the writes of this record.
    pub revision: u64,
}

/// A webhook behind whose place there are events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lagging {
    /// Which one.
    pub webhook: WebhookRecord,
    /// The number of the last event that it was told of.
    pub followed: u64,
    /// How many of its deliveries are open, counted up to the bound that was given.
    pub open: u32,
}

/// What a delivery tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Telling {
    /// An event of an instance.
    Event(StoredEvent),
    /// Nothing, but that the way works.
    Ping,
    /// That another webhook of the project was disabled by the service.
    WebhookDisabled {
        /// Its name.
        webhook: WebhookName,
        /// Why.
        reason: DisabledReason,
    },
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is to be made, or made again.
    Waiting,
    /// The receiver took it.
    Delivered,
    /// It was tried for as long as it may be.
    GivenUp,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// When it ended.
    pub at: Timestamp,
    /// What the receiver answered, if it did.
    pub status: Option<u16>,
    /// How long it took.
    pub duration_millis: u64,
    /// What went wrong, for a person.
    pub error: Option<String>,
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// Its id, the same at each try.
    pub id: DeliveryId,
    /// Of which webhook.
    pub webhook: WebhookId,
    /// Whose.
    pub tenant: TenantId,
    /// In which project.
    pub project: ProjectId,
    /// What it tells.
    pub telling: Telling,
    /// The instance whose deliveries are made one after the other; alone when absent.
    pub lane: Option<InstanceId>,
    /// When it was made, or asked for again: its age counts from here.
    pub since: Timestamp,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried in all.
    pub attempts: u32,
    /// How often it failed since it was asked for.
    pub failures: u32,
    /// When it is tried next, while it waits.
    pub next_at: Option<Timestamp>,
    /// The latest try.
    pub latest: Option<AttemptRecord>,
    /// When it was taken or given up.
    pub ended_at: Option<Timestamp>,
}

impl DeliveryRecord {
    /// Where it stands in its lane.
    pub const fn number(&self) -> u64 {
        match &self.telling {
            Telling::Event(event) => event.seq,
            Telling::Ping | Telling::WebhookDisabled { .. } => 0,
        }
    }

    /// Whether it is to be made.
    pub fn is_open(&self) -> bool {
        self.state == DeliveryState::Waiting
    }
}

/// What is written after a try, or when a delivery is asked for again: all of it, or nothing if somebody was faster.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The delivery as it was read: refused unless it is still open or not as it was then, after as many tries.
    pub before: DeliveryRecord,
    /// The delivery as it is to be.
    pub after: DeliveryRecord,
    /// The webhook as it is to be, where that changes: refused unless its revision is one less.
    pub webhook: Option<WebhookRecord>,
    /// Deliveries that come of it.
    pub also: Vec<DeliveryRecord>,
}

/// Webhooks and their deliveries.
#[async_trait]
pub trait WebhookStore: Send + Sync {
    /// Stores a webhook that tells what happens from now on.
    async fn create_webhook(&self, webhook: &WebhookRecord) -> Result<NameOutcome, StoreError>;

    /// The webhook of that name.
    async fn webhook(
        &self,
        tenant: TenantId,
        project: ProjectId,
        name: &WebhookName,
    ) -> Result<Option<WebhookRecord>, StoreError>;

    /// The project's webhooks by name, at most `limit`.
    async fn webhooks(
        &self,
        tenant: TenantId,
        project: ProjectId,
        limit: u32,
    ) -> Result<Vec<WebhookRecord>, StoreError>;

    /// Every webhook of whichever tenant, in order of id, after `after`, at most `limit`.
    async fn every_webhook(&self, after: Option<WebhookId>, limit: u32) -> Result<Vec<WebhookRecord>, StoreError>;

    /// Stores a webhook whose revision before was one less; false when it was another. With `anew` it tells what happens from
    /// now on and nothing of before.
    async fn change_webhook(&self, webhook: &WebhookRecord, anew: bool) -> Result<bool, StoreError>;

    /// Deletes a webhook with its deliveries; false when there is none.
    async fn delete_webhook(&self, tenant: TenantId, id: WebhookId) -> Result<bool, StoreError>;

    /// Enabled webhooks whose project has events after their place, by id after `after`, at most `limit`. Open deliveries are
    /// counted up to `most`.
    async fn lagging_webhooks(
        &self,
        after: Option<WebhookId>,
        most: u32,
        limit: u32,
    ) -> Result<Vec<Lagging>, StoreError>;

    /// Moves the webhook from `from` to `to` and stores the deliveries that come of it; false, and nothing stored, when it
    /// stands elsewhere, is disabled or gone.
    async fn follow_events(
        &self,
        webhook: WebhookId,
        from: u64,
        to: u64,
        deliveries: &[DeliveryRecord],
    ) -> Result<bool, StoreError>;

    /// Enabled webhooks with an open delivery whose time has come, by id after `after`, at most `limit`.
    async fn due_webhooks(
        &self,
        now: Timestamp,
        after: Option<WebhookId>,
        limit: u32,
    ) -> Result<Vec<WebhookRecord>, StoreError>;

    /// Open deliveries of a webhook whose time has come and before which no other one of their lane is open; the longest
    /// due first, at most `limit`.
    async fn due_deliveries(
        &self,
        webhook: WebhookId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DeliveryRecord>, StoreError>;

    /// Stores a delivery that nobody waits behind; false when its webhook is gone or has `most` open ones.
    async fn add_delivery(&self, delivery: &DeliveryRecord, most: u32) -> Result<bool, StoreError>;

    /// Writes what became of a delivery; false when somebody was faster.
    async fn settle_delivery(&self, settlement: &Settlement) -> Result<bool, StoreError>;

    /// One delivery of a webhook.
    async fn delivery(&self, webhook: WebhookId, id: DeliveryId) -> Result<Option<DeliveryRecord>, StoreError>;

    /// Deliveries of a webhook, newest first (by id), from before `before`.
    async fn deliveries(
        &self,
        webhook: WebhookId,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<DeliveryRecord>, StoreError>;

    /// Forgets deliveries that ended before `before`, at most `limit`. Says how many went.
    async fn purge_deliveries(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError>;
}
