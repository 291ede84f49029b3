//! `GET /v1/projects/{project}/instances/{instance}/events`

use axum::extract::{Extension, State};
use axum::response::Response;
use wherry_api_types::{EventMessage, Problem, text};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{InstancePath, LastEventId, Query};
use crate::layers::StreamPlace;
use crate::state::ApiState;
use crate::v1::events::{EventsQuery, stream};

/// Follow the events of an instance
///
/// As the events of a project, of this instance only.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances/{instance}/events",
    operation_id = "instance_events",
    tag = "events",
    security(("token" = ["instances:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        EventsQuery,
        LastEventId,
    ),
    responses((status = 200, description = "Server-sent events whose `data` is an Event.", body = EventMessage, content_type = "text/event-stream"),
        (status = 410, description = "Events after that number are not kept any more.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The tenant has too many waits and streams open.", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(query): Query<EventsQuery>,
    last: LastEventId,
    Extension(place): Extension<StreamPlace>,
) -> Result<Response, ApiError> {
    stream(state, principal, project, Some(instance), query, last, place).await
}
