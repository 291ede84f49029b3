//! `GET /v1/projects/{project}/instances/{instance}/wait`

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use utoipa::IntoParams;
use wherry_api_types::{Problem, WaitState, Waited, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{FromQuery, InstancePath, Query, QueryReader};
use crate::layers::{MAX_WAIT_SECONDS, StreamPlace};
use crate::state::ApiState;

/// How long a wait lasts that does not say.
const DEFAULT_WAIT_SECONDS: u64 = 30;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// What to wait for; may be repeated, then any of them will do. `ready` is running with every probe content, `ended` any
    /// state in which nothing goes on by itself.
    #[param(required = true, min_items = 1, value_type = Vec<WaitState>)]
    state: Vec<WaitState>,
    /// How long to wait at most, in seconds, up to `300s`; `30s` when absent.
    #[param(required = false, pattern = "^0*(?:300|[12]?[0-9]{1,2})s$", example = "30s", value_type = String)]
    timeout: Duration,
}

impl FromQuery for WaitQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        let state = |text: String| {
            let found = WaitState::ALL.into_iter().find(|state| state.as_str() == text);
            let all = || WaitState::ALL.map(WaitState::as_str).join(", ");
            found.ok_or_else(|| ApiError::malformed("state", format!("choose among {}", all())))
        };
        let states: Vec<WaitState> = query.all("state").into_iter().map(state).collect::<Result<_, _>>()?;
        if states.is_empty() {
            return Err(ApiError::malformed("state", "say which state to wait for, for example state=running"));
        }
        let seconds = match query.text("timeout")? {
            None => DEFAULT_WAIT_SECONDS,
            Some(text) => {
                let digits = text.strip_suffix('s').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
                let seconds = digits.and_then(|digits| digits.parse().ok()).filter(|s| *s <= MAX_WAIT_SECONDS);
                seconds.ok_or_else(|| ApiError::malformed("timeout", "write 0s to 300s, for example 30s"))?
            }
        };
        Ok(Self { state: states, timeout: Duration::from_secs(seconds) })
    }
}

/// Wait until an instance is in a state
///
/// Answers as soon as it is, when it cannot get there any more by itself, or when the time is over: `reached` says which. A wait for
/// `deleted` goes on until somebody deletes it.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances/{instance}/wait",
    operation_id = "instance_wait",
    tag = "instances",
    security(("token" = ["instances:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        WaitQuery,
    ),
    responses((status = 200, description = "How the wait ended.", body = Waited),
        (status = 429, description = "The tenant has too many waits and streams open.", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(query): Query<WaitQuery>,
    Extension(place): Extension<StreamPlace>,
) -> Result<Json<Waited>, ApiError> {
    let _permit = place.admit(&state, principal.tenant)?;
    let states: Vec<_> = query.state.into_iter().map(convert::wait_to_model).collect();
    let waiting = state.control.wait_instance(&principal, &project, &instance, &states, query.timeout);
    let waited = tokio::select! {
        waited = waiting => waited?,
        // A shutdown ends the wait as its own time would have.
        () = state.shutdown.cancelled() => {
            state.control.wait_instance(&principal, &project, &instance, &states, Duration::ZERO).await?
        }
    };
    Ok(Json(Waited { reached: waited.reached, instance: convert::instance(waited.view) }))
}
