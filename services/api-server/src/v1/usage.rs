//! `GET /v1/usage`

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;
use wherry_api_types::{Usage, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{FromQuery, Query, QueryReader};
use crate::state::ApiState;

/// The window of a question that does not say: the last 30 days.
const DEFAULT_WINDOW: Duration = Duration::from_hours(30 * 24);

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageQuery {
    /// Only of this project; of all when absent.
    #[param(required = false, value_type = text::LabelName)]
    project: Option<String>,
    /// First second of the window; 30 days before `to` when absent.
    #[param(required = false, value_type = text::Time)]
    from: Option<String>,
    /// First second after the window; now when absent. The window has at most 366 days.
    #[param(required = false, value_type = text::Time)]
    to: Option<String>,
}

impl FromQuery for UsageQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self { project: query.text("project")?, from: query.text("from")?, to: query.text("to")? })
    }
}

/// Read what the tenant has used and cost, line by line
#[utoipa::path(
    get,
    path = "/v1/usage",
    operation_id = "usage_get",
    tag = "usage",
    security(("token" = ["usage:read"])),
    params(UsageQuery),
    responses(
        (status = 200, description = "The bill.", body = Usage),
        (status = 404, description = "There is no such project.", body = wherry_api_types::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(query): Query<UsageQuery>,
) -> Result<Json<Usage>, ApiError> {
    let project = query.project.as_deref().map(|name| convert::project_name("project", name)).transpose()?;
    let to = match query.to {
        Some(text) => convert::time("to", &text)?,
        // The running second is part of the window.
        None => state.clock.now().plus(Duration::from_secs(1)),
    };
    let from = match query.from {
        Some(text) => convert::time("from", &text)?,
        None => to.minus(DEFAULT_WINDOW),
    };
    let usage = state.control.usage(&principal, project.as_ref(), from, to).await?;
    Ok(Json(convert::usage(usage, &state.control.config().price_book.currency)))
}
