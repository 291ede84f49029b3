//! `GET /v1/admin/tenants`

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;
use wherry_api_types::{TenantList, text};
use wherry_model::TenantName;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{FromQuery, Query, QueryReader};
use crate::state::ApiState;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TenantsQuery {
    /// `next` of the page before.
    #[param(required = false, value_type = text::LabelName)]
    after: Option<TenantName>,
    /// Tenants on one page; 100 when absent.
    #[param(required = false, minimum = 1, maximum = 1000, value_type = u32)]
    limit: u32,
}

impl FromQuery for TenantsQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self { after: query.one("after")?, limit: query.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) })
    }
}

/// List tenants
#[utoipa::path(
    get,
    path = "/v1/admin/tenants",
    operation_id = "tenant_list",
    tag = "admin",
    security(("token" = ["admin"])),
    params(TenantsQuery),
    responses((status = 200, description = "A page of tenants, by name.", body = TenantList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(query): Query<TenantsQuery>,
) -> Result<Json<TenantList>, ApiError> {
    let tenants = state.control.tenants(&principal, query.after.as_ref(), query.limit).await?;
    let full = u32::try_from(tenants.len()).is_ok_and(|count| count >= query.limit);
    let next = tenants.last().filter(|_| full).map(|tenant| tenant.name.to_string());
    Ok(Json(TenantList { items: tenants.into_iter().map(convert::tenant).collect(), next }))
}
