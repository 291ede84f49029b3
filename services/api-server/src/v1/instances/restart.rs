//! `POST /v1/projects/{project}/instances/{instance}:restart`

use axum::extract::{Extension, State};
use axum::response::Response;
use http::StatusCode;
use utoipa::IntoParams;
use wherry_api_types::{Instance, Problem, text};

use super::answer;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{FromQuery, InstancePath, Query, QueryReader};
use crate::layers::StreamPlace;
use crate::state::ApiState;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RestartQuery {
    /// Ask the registry what the image reference means now; without it exactly the image of before is run.
    #[param(required = false, value_type = bool)]
    pub(super) pull: bool,
}

impl FromQuery for RestartQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self { pull: query.flag("pull", false)? })
    }
}

/// Restart an instance
///
/// Its containers are ended as at a stop and started again, where they are: name, address and volumes stay. One that has ended
/// is started; a stop that is under way is waited for.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/instances/{instance}:restart",
    operation_id = "instance_restart",
    tag = "instances",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        RestartQuery,
    ),
    responses(
        (status = 202, description = "The instance is being restarted, or starts.", body = Instance),
        (status = 409, description = "Its stop takes too long to wait for, or its machine cannot do this.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The tenant has too many waits and streams open.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(RestartQuery { pull }): Query<RestartQuery>,
    Extension(place): Extension<StreamPlace>,
) -> Result<Response, ApiError> {
    // It may have to wait for a stop.
    let _permit = place.admit(&state, principal.tenant)?;
    let view = state.control.restart_instance(&principal, &project, &instance, pull).await?;
    Ok(answer(StatusCode::ACCEPTED, view))
}
