//! `PUT /v1/projects/{project}/instances/{instance}`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use utoipa::IntoParams;
use wherry_api_types::{Instance, InstanceSpec, Problem, Updated, text};
use wherry_control::Error as ControlError;
use wherry_model::SpecError;

use super::answer;
use crate::auth::Caller;
use crate::convert::{self, Seal};
use crate::error::ApiError;
use crate::extract::{FromQuery, IdempotencyKey, IfMatch, JsonBody, NamePath, Query, QueryReader};
use crate::state::ApiState;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PreviewQuery {
    /// Only say what would change, which containers that would restart, what it would cost and whether it would fit.
    #[param(required = false, value_type = bool)]
    pub(super) dry_run: bool,
}

impl FromQuery for PreviewQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self { dry_run: query.flag("dry_run", false)? })
    }
}

/// Create an instance by name, or change it where it is
///
/// Asking twice for the same gives the same. An instance of that name with another spec is given this one in place, as by a
/// PATCH of all of its fields: what is left out is the default. What a repetition with an `Idempotency-Key` finds changed
/// since then stays as it is.
#[utoipa::path(
    put,
    path = "/v1/projects/{project}/instances/{instance}",
    operation_id = "instance_put",
    tag = "instances",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceName, Path, description = "The name of the instance."),
        PreviewQuery,
        IfMatch,
        IdempotencyKey,
    ),
    request_body = InstanceSpec,
    responses(
        (status = 201, description = "The instance was created.", body = Instance),
        (status = 200, description = "It was there already and has this spec now, or what the put would do (`dry_run=true`).", body = Updated),
        (status = 409, description = "It is at another generation, the field cannot change while it is there to run, or the key was used for another request.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    NamePath { project, name }: NamePath,
    Query(PreviewQuery { dry_run }): Query<PreviewQuery>,
    IfMatch { generation: if_match }: IfMatch,
    IdempotencyKey { key: idempotency_key }: IdempotencyKey,
    JsonBody(body): JsonBody<InstanceSpec>,
) -> Result<Response, ApiError> {
    let (named, spec) = body.split();
    if named.is_some_and(|named| named != name) {
        let message = format!("the path says {name}: give the same name here, or none");
        return Err(ControlError::from(SpecError::new("name", message)).into());
    }
    let name = convert::instance_name(&name)?;
    let spec = convert::spec_to_model(&Seal::new(state.control.keyring(), principal.tenant, &project), spec)?;
    if dry_run {
        let edit = |_: &wherry_model::Instance| Ok::<_, ControlError>(spec.clone());
        let found = state.control.preview_update(&principal, &project, name.as_str(), if_match, edit).await;
        let answer = match found {
            Ok(found) => convert::preview(found),
            Err(ControlError::NotFound(_)) if if_match.is_none() => {
                convert::dry_run(state.control.dry_run(&principal, &project, Some(&name), &spec).await?)
            }
            Err(error) => return Err(error.into()),
        };
        return Ok(Json(answer).into_response());
    }
    let put = state.control.put_instance(&principal, &project, name, spec, if_match, idempotency_key).await?;
    Ok(answer(if put.created { StatusCode::CREATED } else { StatusCode::OK }, put.view))
}
