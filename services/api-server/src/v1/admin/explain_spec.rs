//! `POST /v1/admin/explain`

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;
use wherry_api_types::{Explanation, InstanceCreate, Problem, text};
use wherry_model::ProjectName;

use super::require_operator;
use crate::auth::Caller;
use crate::convert::{self, Seal};
use crate::error::ApiError;
use crate::extract::{FromQuery, JsonBody, Query, QueryReader};
use crate::state::ApiState;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainSpecQuery {
    /// Whose it would be, by id or name; the operator's own tenant when absent.
    #[param(required = false, value_type = text::LabelName)]
    tenant: Option<String>,
}

impl FromQuery for ExplainSpecQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self { tenant: query.text("tenant")? })
    }
}

/// Explain where a spec would be placed
///
/// How many machines each rule refuses, and the best three of the others with their scores. Nothing is stored or reserved.
#[utoipa::path(
    post,
    path = "/v1/admin/explain",
    operation_id = "explain_spec",
    tag = "admin",
    security(("token" = ["admin"])),
    params(ExplainSpecQuery),
    request_body = InstanceCreate,
    responses(
        (status = 200, description = "The decision and its reasons.", body = Explanation),
        (status = 404, description = "There is no such tenant.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(query): Query<ExplainSpecQuery>,
    JsonBody(body): JsonBody<InstanceCreate>,
) -> Result<Json<Explanation>, ApiError> {
    require_operator(&principal)?;
    let (name, spec) = body.split();
    if let Some(name) = &name {
        convert::instance_name(name)?;
    }
    let project = ProjectName::default_project();
    let spec = convert::spec_to_model(&Seal::new(state.control.keyring(), principal.tenant, &project), spec)?;
    let explained = state.control.explain_spec(&principal, query.tenant.as_deref(), &spec).await?;
    Ok(Json(convert::explanation(explained)))
}
