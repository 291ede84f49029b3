//! `GET /v1/projects/{project}/events`

use axum::extract::{Extension, State};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http::HeaderName;
use utoipa::IntoParams;
use wherry_api_types::{EventMessage, Problem, text};
use wherry_control::{Control, Error as ControlError, EventsRequest, StoredEvent};
use wherry_model::{Principal, ProjectName};

use super::MAX_SEQUENCE;
use super::streams::until_unwelcome;
use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{FromQuery, LastEventId, ProjectPath, Query, QueryReader};
use crate::layers::StreamPlace;
use crate::state::ApiState;

/// Events that are read from the store at once.
const PAGE: u32 = 200;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only events after this one; all that are kept when absent, or 0.
    #[param(required = false, maximum = 9_007_199_254_740_991_u64, value_type = u64)]
    pub(super) after: u64,
    /// Whether to go on with events as they happen; `false` ends after those that have happened. `true` when absent.
    #[param(required = false, value_type = bool)]
    pub(super) follow: bool,
}

impl FromQuery for EventsQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self { after: query.number("after", 0..=MAX_SEQUENCE)?.unwrap_or(0), follow: query.flag("follow", true)? })
    }
}

/// Follow the events of a project
///
/// Server-sent events: first those that have happened after `after`, then each new one. `id` is the event's `seq`, `event`
/// its `kind`, `data` an Event as JSON. A comment every few seconds says that the stream is alive.
///
/// Of each instance the newest events are kept (2,000 unless the operator chose another number), and those of a deleted one for some
/// days. Who asks for events after one behind which something is gone gets 410 `events_forgotten`, with the number from which all are
/// kept; a stream that is read so slowly that this happens to it ends.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/events",
    operation_id = "project_events",
    tag = "events",
    security(("token" = ["instances:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
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
    ProjectPath(project): ProjectPath,
    Query(query): Query<EventsQuery>,
    last: LastEventId,
    Extension(place): Extension<StreamPlace>,
) -> Result<Response, ApiError> {
    stream(state, principal, project, None, query, last, place).await
}

/// The stream of either events operation.
pub(super) async fn stream(
    state: ApiState,
    principal: Principal,
    project: ProjectName,
    instance: Option<String>,
    query: EventsQuery,
    LastEventId { id: last }: LastEventId,
    place: StreamPlace,
) -> Result<Response, ApiError> {
    let permit = place.admit(&state, principal.tenant)?;
    let request = EventsRequest { project, instance, after: last.unwrap_or(query.after), limit: PAGE };
    let events = if query.follow {
        state.control.event_stream(&principal, &request).await?
    } else {
        // The first page is read before the answer begins, so that a refusal is still one.
        let first = state.control.events(&principal, &request).await?;
        past_events(state.control.clone(), principal.clone(), request, first).boxed()
    };
    let keep_alive = KeepAlive::new().interval(state.settings.stream_keep_alive);
    let sent = events.take_until(until_unwelcome(state, principal)).map(move |event| {
        let _held_until_the_end = &permit;
        event
            .map_err(|error| {
                tracing::warn!(code = error.code(), "an event stream broke off");
                axum::Error::new(error)
            })
            .and_then(frame)
    });
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((unbuffered, Sse::new(sent).keep_alive(keep_alive)).into_response())
}

/// What has happened so far, page by page.
fn past_events(
    control: Control,
    principal: Principal,
    request: EventsRequest,
    first: Vec<StoredEvent>,
) -> impl Stream<Item = Result<StoredEvent, ControlError>> {
    let pages = stream::try_unfold((control, principal, request, Some(first)), |state| async move {
        let (control, principal, mut request, ready) = state;
        let page = match ready {
            Some(page) => page,
            None => control.events(&principal, &request).await?,
        };
        let Some(last) = page.last() else { return Ok::<_, ControlError>(None) };
        request.after = last.seq;
        Ok(Some((stream::iter(page.into_iter().map(Ok)), (control, principal, request, None))))
    });
    pages.try_flatten()
}

fn frame(stored: StoredEvent) -> Result<Sent, axum::Error> {
    let event = convert::event(stored);
    Sent::default().id(event.seq.to_string()).event(event.kind.as_str()).json_data(&event)
}
