//! `GET /v1/projects/{project}/instances/{instance}/containers/{container}/logs`

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use utoipa::IntoParams;
use wherry_api_types::{Problem, text};
use wherry_control::LogRequest;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{ContainerPath, FromQuery, Query, QueryReader};
use crate::layers::StreamPlace;
use crate::state::ApiState;
use crate::v1::streams::until_unwelcome;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQuery {
    /// Go on as lines are written, until the instance has ended.
    #[param(required = false, value_type = bool)]
    follow: bool,
    /// Only the last so many lines.
    #[param(required = false, minimum = 0, maximum = 100_000, value_type = u32)]
    tail: Option<u32>,
    /// Begin each line with its time, as RFC 3339 has it.
    #[param(required = false, value_type = bool)]
    timestamps: bool,
    /// Which run: its number, 0 for the latest, -1 for the one before it, and so on.
    #[param(required = false, minimum = -1_000_000, maximum = 1_000_000, value_type = i64)]
    run: Option<i64>,
}

impl FromQuery for LogsQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self {
            follow: query.flag("follow", false)?,
            tail: query.number("tail", 0..=100_000)?,
            timestamps: query.flag("timestamps", false)?,
            run: query.number("run", -1_000_000..=1_000_000)?,
        })
    }
}

/// Read what a container prints
///
/// Standard output and standard error in the order in which they were written. Old output is rotated away beyond a cap.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances/{instance}/containers/{container}/logs",
    operation_id = "container_logs",
    tag = "instances",
    security(("token" = ["logs:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        ("container" = text::LabelName, Path, description = "The container; `main` unless the spec names it otherwise."),
        LogsQuery,
    ),
    responses((status = 200, description = "The output, as it was written.", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 429, description = "The tenant has too many waits and streams open.", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ContainerPath { project, instance, container }: ContainerPath,
    Query(query): Query<LogsQuery>,
    Extension(place): Extension<StreamPlace>,
) -> Result<Response, ApiError> {
    let permit = place.admit(&state, principal.tenant)?;
    let LogsQuery { follow, tail, timestamps, run } = query;
    let request = LogRequest { run, tail, follow, timestamps };
    let output = state.control.instance_logs(&principal, &project, &instance, &container, request).await?;
    let pieces = output.take_until(until_unwelcome(state.clone(), principal)).map(move |piece| {
        let _held_until_the_end = &permit;
        if let Err(error) = &piece {
            tracing::warn!(code = error.code(), "a log stream broke off");
        }
        piece
    });
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        // What a container prints is anybody's; a browser must not run it.
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("content-security-policy"), "sandbox"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}
