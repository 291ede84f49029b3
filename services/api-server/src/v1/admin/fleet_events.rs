//! `GET /v1/admin/events`

use axum::extract::{Extension, State};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use http::HeaderName;
use wherry_api_types::{FleetEventMessage, Problem};
use wherry_control::FleetEvent;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{LastEventId, Query};
use crate::layers::StreamPlace;
use crate::state::ApiState;
use crate::v1::events::EventsQuery;
use crate::v1::streams::until_unwelcome;

/// More than any replica keeps.
const ALL: usize = 1 << 20;

/// Follow the events of the fleet
///
/// Server-sent events: machines that join, fall silent, are emptied and leave, and what operators asked for. The answering
/// replica tells what it has seen since it started, in numbers of its own; an `after` that it has not reached is another's, and
/// then it tells all that it keeps, the latest 2000. `id` is the event's `seq`, `event` its `kind`, `data` a FleetEvent as
/// JSON.
#[utoipa::path(
    get,
    path = "/v1/admin/events",
    operation_id = "fleet_events",
    tag = "admin",
    security(("token" = ["admin"])),
    params(EventsQuery, LastEventId),
    responses((status = 200, description = "Server-sent events whose `data` is a FleetEvent.", body = FleetEventMessage, content_type = "text/event-stream"),
        (status = 429, description = "The tenant has too many waits and streams open.", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(query): Query<EventsQuery>,
    LastEventId { id: last }: LastEventId,
    Extension(place): Extension<StreamPlace>,
) -> Result<Response, ApiError> {
    let permit = place.admit(&state, principal.tenant)?;
    let kept = state.control.fleet_events(&principal, 0, ALL)?;
    let latest = kept.last().map_or(0, |event| event.seq);
    let after = Some(last.unwrap_or(query.after)).filter(|after| *after <= latest).unwrap_or(0);
    let events = if query.follow {
        state.control.fleet_event_stream(&principal, after)?
    } else {
        stream::iter(kept.into_iter().filter(move |event| event.seq > after)).boxed()
    };
    let keep_alive = KeepAlive::new().interval(state.settings.stream_keep_alive);
    let sent = events.take_until(until_unwelcome(state, principal)).map(move |event| {
        let _held_until_the_end = &permit;
        frame(event)
    });
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((unbuffered, Sse::new(sent).keep_alive(keep_alive)).into_response())
}

fn frame(event: FleetEvent) -> Result<Sent, axum::Error> {
    let event = convert::fleet_event(event);
    Sent::default().id(event.seq.to_string()).event(event.kind.as_str()).json_data(&event)
}
