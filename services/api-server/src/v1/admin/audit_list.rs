//! `GET /v1/admin/audit`

use axum::Json;
use axum::extract::State;
use wherry_api_types::AuditList;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::Query;
use crate::state::ApiState;
use crate::v1::audit::AuditQuery;

/// List who entered any instance
///
/// As `project_audit`, of all tenants. An instance is named by its id here.
#[utoipa::path(
    get,
    path = "/v1/admin/audit",
    operation_id = "audit_list",
    tag = "admin",
    security(("token" = ["admin"])),
    params(AuditQuery),
    responses((status = 200, description = "A page of entries, newest first.", body = AuditList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditList>, ApiError> {
    let page = state.control.all_entries(&principal, query.request()).await?;
    Ok(Json(convert::audit(page)))
}
