//! What happened to instances.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::{EventKind, InstanceState};
use crate::text;

/// One event: the `data` of a server-sent event whose `id` is `seq` and whose `event` is `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows. `after` and `Last-Event-ID` take it to go on from here.
    pub seq: u64,
    /// The instance it happened to.
    #[schema(value_type = text::Id)]
    pub instance_id: String,
    /// That instance's name.
    #[schema(value_type = text::InstanceName)]
    pub instance: String,
    /// What happened.
    pub kind: EventKind,
    /// When.
    #[schema(value_type = text::Time)]
    pub at: String,
    /// The state afterwards.
    pub state: InstanceState,
    /// The generation it belongs to.
    pub generation: u64,
    /// What a person should know.
    #[schema(example = "container main started, run 1")]
    pub message: String,
    /// Who asked for it, when somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub actor: Option<String>,
}

/// One server-sent event, as a client of the stream receives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventMessage {
    /// The event's `seq`.
    #[schema(pattern = "^[0-9]+$", example = "42")]
    pub id: String,
    /// The event's `kind`.
    pub event: EventKind,
    /// An Event as JSON.
    #[schema(content_media_type = "application/json")]
    pub data: String,
}
