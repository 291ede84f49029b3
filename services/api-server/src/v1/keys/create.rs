//! `POST /v1/keys`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use wherry_api_types::{KeyCreate, KeyCreated};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{JsonBody, NoQuery, Query};
use crate::state::ApiState;

/// Create an API key
///
/// The answer is the only time that the secret is shown. A key can do no more than the one that makes it: asking for a
/// scope that the token does not have is refused.
#[utoipa::path(
    post,
    path = "/v1/keys",
    operation_id = "key_create",
    tag = "keys",
    security(("token" = ["keys:write"])),
    request_body = KeyCreate,
    responses((status = 201, description = "The key with its secret.", body = KeyCreated))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(NoQuery): Query<NoQuery>,
    JsonBody(body): JsonBody<KeyCreate>,
) -> Result<Response, ApiError> {
    let made = state.control.create_key(&principal, convert::key_request(body)?).await?;
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(convert::new_key(made))).into_response())
}
