//! `PATCH /v1/projects/{project}/instances/{instance}`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use wherry_api_types::{InstancePatch, Problem, Updated, text};

use super::answer;
use super::put::PreviewQuery;
use crate::auth::Caller;
use crate::convert::{self, Seal};
use crate::error::ApiError;
use crate::extract::{IfMatch, InstancePath, MergePatch, Query};
use crate::state::ApiState;

/// Change an instance where it is
///
/// A JSON merge patch (RFC 7396) of its spec: fields that are given replace those that are there, `null` takes one back to its
/// default, lists are replaced whole. Name and address stay. Only containers whose change they cannot take while they
/// run are ended and started again: labels, probes, restart policy and times restart nothing. CPU and memory are taken from
/// the machine that it runs on, or it stays as it was. A new image reference is asked of the registry, and what runs is ended when
/// the image is there; one that cannot be had ends nothing, `message` says why. Fields that belong to the choice of the machine
/// or to what the containers share, such as `volumes` and `dns`, can change once it is stopped.
#[utoipa::path(
    patch,
    path = "/v1/projects/{project}/instances/{instance}",
    operation_id = "instance_patch",
    tag = "instances",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        PreviewQuery,
        IfMatch,
    ),
    request_body(content = InstancePatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The instance with its new spec, or what the change would do (`dry_run=true`).", body = Updated),
        (status = 409, description = "It is at another generation, or the field cannot change while it is there to run.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(PreviewQuery { dry_run }): Query<PreviewQuery>,
    IfMatch { generation: if_match }: IfMatch,
    MergePatch(patch): MergePatch,
) -> Result<Response, ApiError> {
    let seal = Seal::new(state.control.keyring(), principal.tenant, &project);
    let edit = |found: &wherry_model::Instance| convert::merged_spec(&seal, &found.name, &found.spec, &patch);
    if dry_run {
        let found = state.control.preview_update(&principal, &project, &instance, if_match, edit).await?;
        return Ok(Json(convert::preview(found)).into_response());
    }
    let view = state.control.update_instance(&principal, &project, &instance, if_match, edit).await?;
    Ok(answer(StatusCode::OK, view))
}
