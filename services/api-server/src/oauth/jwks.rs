//! `GET /.well-known/jwks.json`

use axum::Json;
use axum::extract::State;
use http::HeaderName;
use http::header::CACHE_CONTROL;
use wherry_api_types::JsonWebKeySet;

use crate::state::ApiState;

/// Read the public keys that tokens are signed with
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    operation_id = "jwks_get",
    tag = "auth",
    security(()),
    responses((status = 200, description = "The keys.", body = JsonWebKeySet))
)]
pub(crate) async fn handle(State(state): State<ApiState>) -> ([(HeaderName, &'static str); 1], Json<JsonWebKeySet>) {
    let keys = vec![state.authenticator.own().public_key().clone()];
    ([(CACHE_CONTROL, "public, max-age=300")], Json(JsonWebKeySet { keys }))
}
