//! Webhooks and deliveries, and the CloudEvents that are sent.

use serde_json::{Map, Value};
use wherry_api_types as wire;
use wherry_control::{
    DeliveryRecord, DeliveryState, DisabledReason, Error as ControlError, NewWebhook, Telling, WebhookRecord,
    WebhookRequest,
};
use wherry_model::{EventKind, InstanceName, ProjectName, SpecError, WebhookName};

use super::event;
use super::spec::merge;
use crate::error::ApiError;
use crate::extract::parse_json;

/// Kinds that a webhook can name, and bytes of its URL: what the document says.
const MAX_KINDS: usize = 64;
const MAX_URL_BYTES: usize = 2_048;

const PING_TYPE: &str = "wherry.webhook.ping";
const DISABLED_TYPE: &str = "wherry.webhook.disabled";

/// A webhook that is asked for.
pub(crate) fn webhook_create(body: wire::WebhookCreate) -> Result<(WebhookName, WebhookRequest), ApiError> {
    let wire::WebhookCreate { name, url, events, instance, labels, enabled } = body;
    let name = name.parse().map_err(|error| wrong("name", &error))?;
    Ok((name, request(wire::WebhookSpec { url, events, instance, labels, enabled })?))
}

/// What `patch` makes of a webhook.
pub(crate) fn merged_webhook(current: &WebhookRecord, patch: &Map<String, Value>) -> Result<WebhookRequest, ApiError> {
    let broken = |error: serde_json::Error| {
        let context = format!("a webhook cannot be written as JSON: {error}");
        ApiError::from(ControlError::Internal { context, source: None })
    };
    let whole = serde_json::to_value(spec(current)).map_err(broken)?;
    let bytes = serde_json::to_vec(&merge(whole, &Value::Object(patch.clone()))).map_err(broken)?;
    request(parse_json::<wire::WebhookSpec>(&bytes)?)
}

fn request(spec: wire::WebhookSpec) -> Result<WebhookRequest, ApiError> {
    let wire::WebhookSpec { url, events, instance, labels, enabled } = spec;
    if !is_url(&url) {
        let message = "write https://HOST/PATH, at most 2048 plain characters, without user and fragment";
        return Err(SpecError::new("url", message).into());
    }
    if events.len() > MAX_KINDS {
        return Err(SpecError::new("events", format!("name at most {MAX_KINDS} kinds, or none for all")).into());
    }
    let kind = |(at, text): (usize, String)| -> Result<EventKind, ApiError> {
        let known = EventKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        let message = "it is no kind of event: choose among those that an Event can have";
        known.ok_or_else(|| SpecError::new(format!("events[{at}]"), message).into())
    };
    let kinds = events.into_iter().enumerate().map(kind).collect::<Result<Vec<_>, _>>()?;
    let instance = match instance {
        Some(text) => Some(text.parse::<InstanceName>().map_err(|error| wrong("instance", &error))?),
        None => None,
    };
    Ok(WebhookRequest { url, kinds, instance, labels, enabled })
}

/// What the document's pattern says.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let of_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
        let of_path = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        !host.is_empty() && host.bytes().all(of_host) && path.bytes().all(of_path) && text.len() <= MAX_URL_BYTES
    })
}

fn wrong(field: &str, error: &dyn std::fmt::Display) -> ApiError {
    SpecError::new(field, error.to_string()).into()
}

fn spec(record: &WebhookRecord) -> wire::WebhookSpec {
    wire::WebhookSpec {
        url: record.url.clone(),
        events: record.kinds.clone(),
        instance: record.instance.as_ref().map(ToString::to_string),
        labels: record.labels.clone(),
        enabled: record.disabled.is_none(),
    }
}

/// A webhook, without its secret.
pub(crate) fn webhook(record: WebhookRecord) -> wire::Webhook {
    wire::Webhook {
        spec: spec(&record),
        id: record.id.to_string(),
        name: record.name.to_string(),
        disabled_at: record.disabled.as_ref().map(|disabled| disabled.at.to_string()),
        disabled_reason: record.disabled.as_ref().map(|disabled| reason(&disabled.reason)),
        failing_since: record.failing_since.map(|at| at.to_string()),
        former_secret_until: record.former_secret.map(|former| former.until.to_string()),
        created_at: record.created_at.to_string(),
    }
}

/// A webhook with its secret, the only time that it is shown.
pub(crate) fn new_webhook(made: NewWebhook) -> wire::WebhookWithSecret {
    wire::WebhookWithSecret { webhook: webhook(made.record), secret: made.secret }
}

const fn reason(reason: &DisabledReason) -> wire::WebhookDisabledReason {
    match reason {
        DisabledReason::Asked => wire::WebhookDisabledReason::Asked,
        DisabledReason::Failing => wire::WebhookDisabledReason::Failing,
        DisabledReason::Gone => wire::WebhookDisabledReason::Gone,
    }
}

/// A delivery.
pub(crate) fn delivery(record: DeliveryRecord) -> wire::Delivery {
    let (event_seq, instance) = match &record.telling {
        Telling::Event(stored) => (Some(stored.seq), Some(stored.name.to_string())),
        Telling::Ping | Telling::WebhookDisabled { .. } => (None, None),
    };
    let latest = record.latest.as_ref();
    wire::Delivery {
        id: record.id.to_string(),
        kind: kind(&record.telling),
        event_seq,
        instance,
        state: match record.state {
            DeliveryState::Waiting => wire::DeliveryState::Waiting,
            DeliveryState::Delivered => wire::DeliveryState::Delivered,
            DeliveryState::GivenUp => wire::DeliveryState::GivenUp,
        },
        since: record.since.to_string(),
        attempts: record.attempts,
        next_attempt_at: record.next_at.map(|at| at.to_string()),
        last_attempt_at: latest.map(|latest| latest.at.to_string()),
        response_status: latest.and_then(|latest| latest.status),
        duration_ms: latest.map(|latest| latest.duration_millis),
        error: latest.and_then(|latest| latest.error.clone()),
        ended_at: record.ended_at.map(|at| at.to_string()),
    }
}

fn kind(telling: &Telling) -> String {
    match telling {
        Telling::Event(stored) => format!("{}{}", wire::INSTANCE_EVENT_TYPE, stored.event.kind.as_str()),
        Telling::Ping => PING_TYPE.to_owned(),
        Telling::WebhookDisabled { .. } => DISABLED_TYPE.to_owned(),
    }
}

/// What is sent for a delivery. `apex` names the installation.
pub fn cloud_event(
    apex: &str,
    project: &ProjectName,
    webhook: &WebhookName,
    record: &DeliveryRecord,
) -> wire::CloudEvent {
    let (about, time, sequence, data) = match &record.telling {
        Telling::Event(stored) => (
            stored.name.to_string(),
            stored.event.at,
            Some(format!("{:020}", stored.seq)),
            wire::CloudEventData::Event(event(stored.clone())),
        ),
        Telling::Ping => {
            let webhook = webhook.to_string();
            (webhook.clone(), record.since, None, wire::CloudEventData::Ping { webhook })
        }
        Telling::WebhookDisabled { webhook, reason: why } => {
            let webhook = webhook.to_string();
            let data = wire::CloudEventData::Disabled { webhook: webhook.clone(), reason: reason(why) };
            (webhook, record.since, None, data)
        }
    };
    wire::CloudEvent {
        specversion: "1.0".to_owned(),
        id: record.id.to_string(),
        source: format!("//{apex}/projects/{}", record.project),
        kind: kind(&record.telling),
        subject: format!("{project}/{about}"),
        time: time.to_string(),
        sequence,
        datacontenttype: "application/json".to_owned(),
        data,
    }
}
