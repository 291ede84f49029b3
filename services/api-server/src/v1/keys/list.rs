//! `GET /v1/keys`

use axum::Json;
use axum::extract::State;
use wherry_api_types::KeyList;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, Query};
use crate::state::ApiState;

/// List the tenant's API keys
///
/// Also those that are expired or revoked. Secrets are never shown again.
#[utoipa::path(
    get,
    path = "/v1/keys",
    operation_id = "key_list",
    tag = "keys",
    security(("token" = ["keys:write"])),
    responses((status = 200, description = "All keys, newest first.", body = KeyList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<KeyList>, ApiError> {
    let keys = state.control.keys(&principal).await?;
    Ok(Json(KeyList { items: keys.into_iter().map(convert::key).collect() }))
}
