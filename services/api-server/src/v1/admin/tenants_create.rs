//! `POST /v1/admin/tenants`

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use wherry_api_types::{Problem, Tenant, TenantCreate};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{JsonBody, NoQuery, Query};
use crate::state::ApiState;

/// Create a tenant
///
/// With its project `default`. Its first key is made by `POST /v1/admin/tenants/{tenant}/keys`.
#[utoipa::path(
    post,
    path = "/v1/admin/tenants",
    operation_id = "tenant_create",
    tag = "admin",
    security(("token" = ["admin"])),
    request_body = TenantCreate,
    responses(
        (status = 201, description = "The tenant.", body = Tenant),
        (status = 409, description = "The name is in use.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(NoQuery): Query<NoQuery>,
    JsonBody(body): JsonBody<TenantCreate>,
) -> Result<(StatusCode, Json<Tenant>), ApiError> {
    let name = convert::tenant_name(&body.name)?;
    let tenant = state.control.create_tenant(&principal, name).await?;
    Ok((StatusCode::CREATED, Json(convert::tenant(tenant))))
}
