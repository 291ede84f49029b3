//! `POST /v1/projects/{project}/instances/{instance}/containers/{container}/exec`

use axum::Json;
use axum::extract::{Extension, State};
use wherry_api_types::{ExecRequest, ExecResult, Problem, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{ContainerPath, JsonBody, NoQuery, Query};
use crate::layers::StreamPlace;
use crate::state::ApiState;

/// Run a program in a container
///
/// In the container's own surroundings, as its own user, without a terminal, with the input that is given. The answer comes when the
/// program has ended, or was killed because its time was over; how it ended is in the answer, whatever the exit code.
/// Output that is UTF-8 stands there as text, other output as base64, at most 1 MiB of each stream. A program without input
/// whose caller went away runs on until its end or its time. `container_exec_session` runs one to talk to.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/instances/{instance}/containers/{container}/exec",
    operation_id = "container_exec",
    tag = "instances",
    security(("token" = ["instances:exec"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        ("container" = text::LabelName, Path, description = "The container; `main` unless the spec names it otherwise."),
    ),
    request_body = ExecRequest,
    responses(
        (status = 200, description = "How the program ended and what it printed.", body = ExecResult),
        (status = 409, description = "The container does not run.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The tenant runs too many programs at once, has too many waits and streams open, or entered its instances too often within an hour.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ContainerPath { project, instance, container }: ContainerPath,
    Query(NoQuery): Query<NoQuery>,
    Extension(place): Extension<StreamPlace>,
    JsonBody(body): JsonBody<ExecRequest>,
) -> Result<Json<ExecResult>, ApiError> {
    let _exec = state.execs.take(principal.tenant)?;
    let _permit = place.admit(&state, principal.tenant)?;
    let asked = convert::exec_request(body)?;
    let outcome = state.control.instance_exec(&principal, &project, &instance, &container, asked).await?;
    Ok(Json(convert::exec_result(outcome)))
}
