//! `DELETE /v1/projects/{project}/instances/{instance}`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use wherry_api_types::{Instance, text};

use super::answer;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{InstancePath, NoQuery, Query};
use crate::state::ApiState;

/// Delete an instance
///
/// Answers at once; the instance is `deleting` until nothing is left of it, then its name is free again. It stays readable
/// by its id for some days. Asking again is right and changes nothing.
#[utoipa::path(
    delete,
    path = "/v1/projects/{project}/instances/{instance}",
    operation_id = "instance_delete",
    tag = "instances",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
    ),
    responses((status = 202, description = "The instance is on its way out.", body = Instance))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let view = state.control.delete_instance(&principal, &project, &instance).await?;
    Ok(answer(StatusCode::ACCEPTED, view))
}
