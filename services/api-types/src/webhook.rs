//! Webhooks: who is told of events, what is sent, and what became of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::event::Event;
use crate::text;

/// What begins the CloudEvents type of an instance's event; the event's kind follows.
pub const INSTANCE_EVENT_TYPE: &str = "wherry.instance.";

/// What a new webhook is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"name": "pager", "url": "https://hooks.example/wherry", "events": ["failed"]})))]
pub struct WebhookCreate {
    /// Its name, unique in the project.
    #[schema(value_type = text::LabelName)]
    pub name: String,
    /// Where events are told: `https` (or `http` where the operator allows it), without user, password and fragment. It has to lead to
    /// a public address unless the operator allows others.
    #[schema(value_type = text::WebhookUrl)]
    pub url: String,
    /// Only events of these kinds, for example `failed`; all when absent or empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::EventKindName>, max_items = 64)]
    pub events: Vec<String>,
    /// Only events of the instance of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::InstanceName)]
    pub instance: Option<String>,
    /// Only events of instances that have all of these labels when their event is taken up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = text::labels_schema)]
    pub labels: BTreeMap<String, String>,
    /// Whether anything is sent; `true` when absent.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub enabled: bool,
}

/// What a webhook is, as far as it can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSpec {
    /// Where events are told.
    #[schema(value_type = text::WebhookUrl)]
    pub url: String,
    /// Only events of these kinds; all when empty.
    #[serde(default)]
    #[schema(value_type = Vec<text::EventKindName>, max_items = 64)]
    pub events: Vec<String>,
    /// Only events of the instance of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::InstanceName)]
    pub instance: Option<String>,
    /// Only events of instances that have all of these labels.
    #[serde(default)]
    #[schema(schema_with = text::labels_schema)]
    pub labels: BTreeMap<String, String>,
    /// Whether anything is sent.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// A JSON merge patch of a WebhookSpec: what is absent stays, `null` is the default again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"enabled": false}), json!({"events": ["failed", "succeeded"], "instance": null})))]
pub struct WebhookPatch {
    /// Where events are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::WebhookUrl)]
    pub url: Option<String>,
    /// Only events of these kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<text::EventKindName>>, max_items = 64)]
    pub events: Option<Vec<String>>,
    /// Only events of the instance of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::InstanceName>)]
    pub instance: Option<String>,
    /// Only events of instances that have all of these labels; those that are named change, `null` takes one away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = text::labels_schema)]
    pub labels: Option<BTreeMap<String, Option<String>>>,
    /// Whether anything is sent. Enabled again, it tells what happens from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

const fn yes() -> bool {
    true
}

/// Why nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookDisabledReason {
    /// Its tenant wants it so.
    Asked,
    /// The receiver took nothing for three days, or what the operator set.
    Failing,
    /// The receiver answered 410.
    Gone,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// Its id.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// Its name.
    #[schema(value_type = text::LabelName)]
    pub name: String,
    /// What it is.
    pub spec: WebhookSpec,
    /// Since when nothing is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub disabled_at: Option<String>,
    /// Why nothing is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = WebhookDisabledReason)]
    pub disabled_reason: Option<WebhookDisabledReason>,
    /// Since when its receiver takes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub failing_since: Option<String>,
    /// Until when deliveries are signed with the secret before too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub former_secret_until: Option<String>,
    /// Since when it exists.
    #[schema(value_type = text::Time)]
    pub created_at: String,
}

/// A webhook with its secret: the only time that it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookWithSecret {
    /// The webhook.
    #[serde(flatten)]
    pub webhook: Webhook,
    /// What deliveries are signed with, as Standard Webhooks has it.
    #[schema(pattern = "^whsec_[A-Za-z0-9+/=]+$")]
    pub secret: String,
}

/// Webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookList {
    /// By name.
    pub items: Vec<Webhook>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is to be made, or made again.
    Waiting,
    /// The receiver took it: it answered 2xx.
    Delivered,
    /// It was tried for as long as it may be.
    GivenUp,
}

/// One telling of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// The `id` of the CloudEvent and the `webhook-id`: the same at each try.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// The CloudEvent's type.
    #[serde(rename = "type")]
    #[schema(example = "wherry.instance.failed")]
    pub kind: String,
    /// The event's number, where it tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64)]
    pub event_seq: Option<u64>,
    /// The instance's name, where it tells an event of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::InstanceName)]
    pub instance: Option<String>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Since when it waits, or waited.
    #[schema(value_type = text::Time)]
    pub since: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub next_attempt_at: Option<String>,
    /// When it was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub last_attempt_at: Option<String>,
    /// What the receiver answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u16)]
    pub response_status: Option<u16>,
    /// How long that took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64)]
    pub duration_ms: Option<u64>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub error: Option<String>,
    /// When it was taken or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub ended_at: Option<String>,
}

/// A page of deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryList {
    /// Newest first.
    pub items: Vec<Delivery>,
    /// Where the next page begins, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::PageCursor)]
    pub next: Option<String>,
}

/// What a receiver is sent: a CloudEvent 1.0 in structured mode (`application/cloudevents+json`), signed as Standard Webhooks has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CloudEvent {
    /// `1.0`.
    #[schema(example = "1.0")]
    pub specversion: String,
    /// Unique, the same at each try, and in the header `webhook-id`.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// The installation and the project.
    #[schema(example = "//local.wherry.internal/projects/0193573e-7a00-7000-8000-0000000000a1")]
    pub source: String,
    /// `wherry.instance.` and the kind of the event; `wherry.webhook.ping`; `wherry.webhook.disabled`.
    #[serde(rename = "type")]
    #[schema(example = "wherry.instance.failed")]
    pub kind: String,
    /// The instance, by project and name; or the webhook.
    #[schema(example = "default/web")]
    pub subject: String,
    /// When it happened.
    #[schema(value_type = text::Time)]
    pub time: String,
    /// The event's number in 20 digits: of two events of an instance the one with the lower happened first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub sequence: Option<String>,
    /// `application/json`.
    #[schema(example = "application/json")]
    pub datacontenttype: String,
    /// The event as the API of events tells it; for other types what they name.
    pub data: CloudEventData,
}

/// What a CloudEvent carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CloudEventData {
    /// What happened to an instance.
    Event(Event),
    /// A webhook was disabled by the service.
    Disabled {
        /// Which one.
        webhook: String,
        /// Why.
        reason: WebhookDisabledReason,
    },
    /// Nothing but that the way works.
    Ping {
        /// The webhook that was tested.
        webhook: String,
    },
}
