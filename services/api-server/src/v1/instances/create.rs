//! `POST /v1/projects/{project}/instances`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, StatusCode};
use utoipa::IntoParams;
use wherry_api_types::{DryRun, Instance, InstanceCreate, Problem, text};
use wherry_control::CreateInstance;

use super::answer;
use crate::auth::Caller;
use crate::convert::{self, Seal};
use crate::error::ApiError;
use crate::extract::{FromQuery, IdempotencyKey, JsonBody, ProjectPath, Query, QueryReader};
use crate::state::ApiState;

/// Says that the answer is that of an earlier request with the same key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CreateQuery {
    /// Only say what it would cost and whether it would fit; nothing is stored.
    #[param(required = false, value_type = bool)]
    dry_run: bool,
}

impl FromQuery for CreateQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self { dry_run: query.flag("dry_run", false)? })
    }
}

/// Create an instance
///
/// When the answer comes, the instance is stored and its CPU and memory are reserved; its image is fetched and its
/// container started right after. `…/wait` waits for that. Send an `Idempotency-Key` to be able to repeat the request
/// safely, also after a restart of the service: it gives the same instance for at least 24 hours.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/instances",
    operation_id = "instance_create",
    tag = "instances",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        CreateQuery,
        IdempotencyKey,
    ),
    request_body = InstanceCreate,
    responses(
        (status = 201, description = "The instance was created, or was created before with the same key.", body = Instance, headers(
            ("Location" = String, description = "The path of the instance."),
            ("ETag" = String, description = "Its generation."),
        )),
        (status = 200, description = "What the create would do (`dry_run=true`).", body = DryRun),
        (status = 409, description = "The name is in use, or the key was used for another request.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ProjectPath(project): ProjectPath,
    Query(query): Query<CreateQuery>,
    IdempotencyKey { key: idempotency_key }: IdempotencyKey,
    JsonBody(body): JsonBody<InstanceCreate>,
) -> Result<Response, ApiError> {
    let (name, spec) = body.split();
    let name = name.as_deref().map(convert::instance_name).transpose()?;
    let spec = convert::spec_to_model(&Seal::new(state.control.keyring(), principal.tenant, &project), spec)?;
    if query.dry_run {
        let found = state.control.dry_run(&principal, &project, name.as_ref(), &spec).await?;
        return Ok(Json(convert::dry_run(found)).into_response());
    }
    let request = CreateInstance { project: project.clone(), name, spec, idempotency_key };
    let created = state.control.create_instance(&principal, request).await?;
    let location = format!("/v1/projects/{project}/instances/{}", created.view.instance.name);
    let mut response = answer(StatusCode::CREATED, created.view);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    if created.replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}
