//! `POST /v1/admin/tenants/{tenant}/keys`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use wherry_api_types::{KeyCreate, KeyCreated, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{JsonBody, NoQuery, Query, TenantPath};
use crate::state::ApiState;

/// Create an API key for a tenant
///
/// The answer is the only time that the secret is shown.
#[utoipa::path(
    post,
    path = "/v1/admin/tenants/{tenant}/keys",
    operation_id = "tenant_key_create",
    tag = "admin",
    security(("token" = ["admin"])),
    params(("tenant" = text::Id, Path, description = "The id of the tenant.")),
    request_body = KeyCreate,
    responses((status = 201, description = "The key with its secret.", body = KeyCreated))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    TenantPath(tenant): TenantPath,
    Query(NoQuery): Query<NoQuery>,
    JsonBody(body): JsonBody<KeyCreate>,
) -> Result<Response, ApiError> {
    let made = state.control.create_tenant_key(&principal, tenant, convert::key_request(body)?).await?;
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(convert::new_key(made))).into_response())
}
