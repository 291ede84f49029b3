//! `GET /v1/admin/fleet`

use axum::Json;
use axum::extract::State;
use wherry_api_types::Fleet;

use super::require_operator;
use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, Query};
use crate::state::ApiState;

/// Read the fleet in numbers
///
/// How full it is, how well its machines are used, what still fits, what waits for room, and whether so many machines are silent
/// that nothing is replaced.
#[utoipa::path(
    get,
    path = "/v1/admin/fleet",
    operation_id = "fleet_get",
    tag = "admin",
    security(("token" = ["admin"])),
    responses((status = 200, description = "The numbers.", body = Fleet))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<Fleet>, ApiError> {
    require_operator(&principal)?;
    let summary = state.control.fleet_summary().await?;
    Ok(Json(convert::fleet(&summary, state.control.room().await?, state.control.brake())))
}
