//! `PUT /v1/projects/{project}/instances/{instance}`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use wherry_api_types::{Instance, InstanceSpec, Problem, text};
use wherry_control::Error as ControlError;
use wherry_model::SpecError;

use super::answer;
use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{IdempotencyKey, IfMatch, JsonBody, NamePath, NoQuery, Query};
use crate::state::ApiState;

/// Create an instance by name, unless it is there
///
/// Asking twice for the same gives the same. An instance of that name with another spec is left as it is and the answer
/// is 409: delete it first, or use another name.
#[utoipa::path(
    put,
    path = "/v1/projects/{project}/instances/{instance}",
    operation_id = "instance_put",
    tag = "instances",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceName, Path, description = "The name of the instance."),
        IfMatch,
        IdempotencyKey,
    ),
    request_body = InstanceSpec,
    responses(
        (status = 201, description = "The instance was created.", body = Instance),
        (status = 200, description = "It was there already, with this spec.", body = Instance),
        (status = 409, description = "It is there with another spec or at another generation, or the key was used for another request.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    NamePath { project, name }: NamePath,
    Query(NoQuery): Query<NoQuery>,
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
    let spec = convert::spec_to_model(spec)?;
    let put = state.control.put_instance(&principal, &project, name, spec, if_match, idempotency_key).await?;
    Ok(answer(if put.created { StatusCode::CREATED } else { StatusCode::OK }, put.view))
}
