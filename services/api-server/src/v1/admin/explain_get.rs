//! `GET /v1/admin/explain`

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;
use wherry_api_types::{Explanation, Problem, text};
use wherry_control::ExplainInstance;
use wherry_model::ProjectName;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{FromQuery, Query, QueryReader};
use crate::state::ApiState;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// Whose it is, by id or name; the operator's own tenant when absent.
    #[param(required = false, value_type = text::LabelName)]
    tenant: Option<String>,
    /// Its project; `default` when absent.
    #[param(required = false, value_type = text::LabelName)]
    project: ProjectName,
    /// Its name or id.
    #[param(required = true, value_type = text::InstanceNameOrId)]
    instance: String,
}

impl FromQuery for ExplainQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        let missing = || ApiError::malformed("instance", "give the name or id of an instance");
        Ok(Self {
            tenant: query.text("tenant")?,
            project: query.one("project")?.unwrap_or_else(ProjectName::default_project),
            instance: query.text("instance")?.ok_or_else(missing)?,
        })
    }
}

/// Explain where an instance would be placed
///
/// As `explain_spec`, of an instance that is there. What it holds of a machine is taken as free for it.
#[utoipa::path(
    get,
    path = "/v1/admin/explain",
    operation_id = "explain_instance",
    tag = "admin",
    security(("token" = ["admin"])),
    params(ExplainQuery),
    responses(
        (status = 200, description = "The decision and its reasons.", body = Explanation),
        (status = 404, description = "There is no such tenant, project or instance.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(query): Query<ExplainQuery>,
) -> Result<Json<Explanation>, ApiError> {
    let ExplainQuery { tenant, project, instance } = query;
    let request = ExplainInstance { tenant, project, instance };
    let explained = state.control.explain_instance(&principal, &request).await?;
    Ok(Json(convert::explanation(explained)))
}
