//! `GET /v1/projects/{project}/audit`

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;
use wherry_api_types::{AuditList, text};
use wherry_control::EntriesRequest;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{FromQuery, ProjectPath, Query, QueryReader};
use crate::state::ApiState;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Only of this instance, by name or id; by its id also of one that is forgotten.
    #[param(required = false, value_type = text::InstanceNameOrId)]
    instance: Option<String>,
    /// `next` of the page before.
    #[param(required = false, value_type = text::PageCursor)]
    cursor: Option<String>,
    /// Entries on one page; 50 when absent.
    #[param(required = false, minimum = 1, maximum = 200, value_type = u32)]
    limit: u32,
}

impl FromQuery for AuditQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self {
            instance: query.text("instance")?,
            cursor: query.text("cursor")?,
            limit: query.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
        })
    }
}

impl AuditQuery {
    pub(super) fn request(self) -> EntriesRequest {
        let Self { instance, cursor, limit } = self;
        EntriesRequest { instance, cursor, limit }
    }
}

/// List who entered instances
///
/// Every program that was run in one, every look at a main program, every connection to a port: on record from before it began,
/// for 90 days unless the operator keeps it for another time.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/audit",
    operation_id = "project_audit",
    tag = "events",
    security(("token" = ["instances:exec"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        AuditQuery,
    ),
    responses((status = 200, description = "A page of entries, newest first.", body = AuditList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ProjectPath(project): ProjectPath,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditList>, ApiError> {
    let page = state.control.entries(&principal, &project, query.request()).await?;
    Ok(Json(convert::audit(page)))
}
