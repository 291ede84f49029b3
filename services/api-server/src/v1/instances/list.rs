//! `GET /v1/projects/{project}/instances`

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;
use wherry_api_types::{InstanceList, InstanceState, text};
use wherry_control::ListInstances;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{FromQuery, ProjectPath, Query, QueryReader};
use crate::state::ApiState;

/// Instances of one page.
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only in this state; may be repeated. Any state but `deleted` when absent.
    #[param(required = false, value_type = Vec<InstanceState>)]
    state: Vec<InstanceState>,
    /// Only with this label, as `key=value`; may be repeated, then all of them are needed.
    #[param(required = false, value_type = Vec<LabelSelector>)]
    label: BTreeMap<String, String>,
    /// `next` of the page before.
    #[param(required = false, value_type = text::PageCursor)]
    cursor: Option<String>,
    /// Instances on one page; 50 when absent.
    #[param(required = false, minimum = 1, maximum = 200, value_type = u32)]
    limit: u32,
}

/// A label that must be there.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, pattern = "^[^=]+=", example = "app=shop")]
#[expect(dead_code, reason = "a schema of the document")]
pub(crate) struct LabelSelector(String);

impl FromQuery for ListQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        let state = |text: String| {
            let found = InstanceState::ALL.into_iter().find(|state| state.as_str() == text);
            let all = || InstanceState::ALL.map(InstanceState::as_str).join(", ");
            found.ok_or_else(|| ApiError::malformed("state", format!("choose among {}", all())))
        };
        let label = |text: String| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(ApiError::malformed("label", "write key=value, for example app=shop")),
        };
        Ok(Self {
            state: query.all("state").into_iter().map(state).collect::<Result<_, _>>()?,
            label: query.all("label").into_iter().map(label).collect::<Result<_, _>>()?,
            cursor: query.text("cursor")?,
            limit: query.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
        })
    }
}

/// List instances
///
/// Newest first, with their state and running cost.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances",
    operation_id = "instance_list",
    tag = "instances",
    security(("token" = ["instances:read"])),
    params(("project" = text::LabelName, Path, description = "The project."), ListQuery),
    responses((status = 200, description = "A page of instances.", body = InstanceList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ProjectPath(project): ProjectPath,
    Query(query): Query<ListQuery>,
) -> Result<Json<InstanceList>, ApiError> {
    let request = ListInstances {
        project,
        states: query.state.into_iter().map(convert::state_to_model).collect(),
        labels: query.label,
        cursor: query.cursor,
        limit: query.limit,
    };
    let page = state.control.list_instances(&principal, request).await?;
    let items = page.views.into_iter().map(convert::instance).collect();
    Ok(Json(InstanceList { items, next: page.next }))
}
