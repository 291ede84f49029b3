//! `GET /v1/admin/replicas`

use axum::Json;
use axum::extract::State;
use wherry_api_types::ReplicaList;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, Query};
use crate::state::ApiState;

/// List the processes that answer for the service
#[utoipa::path(
    get,
    path = "/v1/admin/replicas",
    operation_id = "replica_list",
    tag = "admin",
    security(("token" = ["admin"])),
    responses((status = 200, description = "All that were seen lately.", body = ReplicaList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<ReplicaList>, ApiError> {
    let replicas = state.control.replicas(&principal).await?;
    Ok(Json(ReplicaList { items: replicas.into_iter().map(convert::replica).collect() }))
}
