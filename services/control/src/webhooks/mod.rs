//! Webhooks: events of a project, told to whoever its tenant names.
//!
//! [`manage`] and [`log`] are what tenants ask; [`outcome`] decides, as a pure function, what a try makes of a delivery and its
//! webhook; `background/telling.rs` follows the events and makes the deliveries. What is sent and how stands behind
//! [`WebhookSender`]: this crate knows no HTTP.
//!
//! What holds: an event that a webhook is to be told becomes one delivery with one id. It is told at least once, until the
//! receiver took it or it is too old. Of one instance, an event is told for the first time only after all before it were taken
//! or given up; only a repetition may come late.

mod log;
mod manage;
mod outcome;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use wherry_model::{ProjectName, SecretText, Timestamp, WebhookName};
use wherry_store::{DeliveryRecord, WebhookRecord};

pub use log::{DeliveryPage, DeliveryPageRequest};
pub use manage::{NewWebhook, WebhookRequest};
pub(crate) use outcome::settled;

/// Bounds of webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Webhooks of one project.
    pub most_per_project: u32,
    /// Open deliveries of one webhook; events wait in the feed beyond that.
    pub most_waiting: u32,
    /// Tries under way at once, of all tenants.
    pub concurrency: usize,
    /// Of one tenant.
    pub concurrency_per_tenant: usize,
    /// Of one webhook.
    pub concurrency_per_webhook: usize,
    /// The longest pause before the second try; doubles with each.
    pub first_retry: Duration,
    /// The longest of all.
    pub longest_retry: Duration,
    /// The age at which a delivery is given up.
    pub give_up_after: Duration,
    /// How long nothing was taken until a webhook is disabled.
    pub disable_after: Duration,
    /// How long the secret before still signs.
    pub former_secret: Duration,
    /// How long deliveries that ended are kept.
    pub keep: Duration,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            most_per_project: 20,
            most_waiting: 10_000,
            concurrency: 256,
            concurrency_per_tenant: 8,
            concurrency_per_webhook: 4,
            first_retry: Duration::from_secs(5),
            longest_retry: Duration::from_hours(1),
            give_up_after: Duration::from_hours(24),
            disable_after: Duration::from_hours(3 * 24),
            former_secret: Duration::from_hours(24),
            keep: Duration::from_hours(7 * 24),
        }
    }
}

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub url: String,
    /// Of which webhook.
    pub webhook: WebhookName,
    /// In which project.
    pub project: ProjectName,
    /// What.
    pub delivery: DeliveryRecord,
    /// When it is signed.
    pub at: Timestamp,
    /// What it is signed with: the secret, and the one before while it holds.
    pub secrets: Vec<SecretText>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendOutcome {
    /// What the receiver answered, if it did.
    pub status: Option<u16>,
    /// What went wrong, for a person; none after a 2xx.
    pub error: Option<String>,
}

/// Sends deliveries. It waits no longer than it was told by its own settings.
#[async_trait]
pub trait WebhookSender: Send + Sync {
    /// Refuses a URL that nothing would ever be sent to, with the reason for its owner.
    fn check_url(&self, url: &str) -> Result<(), String>;

    /// Tries once.
    async fn send(&self, outgoing: Outgoing) -> SendOutcome;
}

/// Counts since the start of this process.
#[derive(Debug, Default)]
pub(crate) struct WebhookCounters {
    pub(crate) delivered: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) disabled: AtomicU64,
    pub(crate) under_way: AtomicU64,
}

/// What this process did for webhooks since its start, and does now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebhookCounts {
    /// Tries that were taken.
    pub delivered: u64,
    /// Tries that were not.
    pub failed: u64,
    /// Deliveries that were given up.
    pub given_up: u64,
    /// Webhooks that were disabled.
    pub disabled: u64,
    /// Tries under way.
    pub under_way: u64,
}

impl WebhookCounters {
    pub(crate) fn read(&self) -> WebhookCounts {
        WebhookCounts {
            delivered: self.delivered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
            disabled: self.disabled.load(Ordering::Relaxed),
            under_way: self.under_way.load(Ordering::Relaxed),
        }
    }
}

/// The name of the sealing place: a webhook's secret opens in its project only.
pub(crate) fn place_of(webhook: &WebhookRecord) -> wherry_sealing::Place {
    wherry_sealing::Place::of_project(webhook.tenant, &webhook.project_name)
}
