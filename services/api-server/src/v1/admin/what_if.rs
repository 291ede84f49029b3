//! `POST /v1/admin/fleet/what-if`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Problem, WhatIf, WhatIfAnswer};

use super::require_operator;
use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{JsonBody, NoQuery, Query};
use crate::state::ApiState;

/// Think a change of the fleet through
///
/// Machines that are emptied, machines that join: what would move, whether it would find a place, what room there would be.
/// Nothing is changed.
#[utoipa::path(
    post,
    path = "/v1/admin/fleet/what-if",
    operation_id = "fleet_what_if",
    tag = "admin",
    security(("token" = ["admin"])),
    request_body = WhatIf,
    responses(
        (status = 200, description = "The fleet before and after.", body = WhatIfAnswer),
        (status = 404, description = "There is no machine of that name or id.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(NoQuery): Query<NoQuery>,
    JsonBody(body): JsonBody<WhatIf>,
) -> Result<Json<WhatIfAnswer>, ApiError> {
    require_operator(&principal)?;
    let forecast = state.control.what_if(&principal, &convert::what_if(body)?).await?;
    Ok(Json(convert::forecast(forecast)))
}
