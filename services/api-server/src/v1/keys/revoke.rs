//! `DELETE /v1/keys/{key}`

use axum::extract::State;
use http::StatusCode;
use wherry_api_types::text;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{KeyPath, NoQuery, Query};
use crate::state::ApiState;

/// Revoke an API key
///
/// It gets no new tokens at once, and the tokens it has stop working within seconds. Revoking it again changes nothing.
#[utoipa::path(
    delete,
    path = "/v1/keys/{key}",
    operation_id = "key_revoke",
    tag = "keys",
    security(("token" = ["keys:write"])),
    params(("key" = text::Id, Path, description = "The id of the key.")),
    responses((status = 204, description = "The key does not work any more."))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    KeyPath(key): KeyPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<StatusCode, ApiError> {
    state.control.revoke_key(&principal, key).await?;
    Ok(StatusCode::NO_CONTENT)
}
