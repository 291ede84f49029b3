//! `POST /v1/admin/join-tokens`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use wherry_api_types::{JoinTokenCreate, JoinTokenCreated, Problem};
use wherry_control::Error as ControlError;

use super::require_operator;
use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{JsonBody, NoQuery, Query};
use crate::state::ApiState;

/// Create a token with which one machine can join the fleet
///
/// The answer is the only time that it is shown, and has all that the machine needs: run there
/// `WHERRY_JOIN_TOKEN=TOKEN wherry node --join JOIN_URL --ca-fingerprint CA_FINGERPRINT`.
#[utoipa::path(
    post,
    path = "/v1/admin/join-tokens",
    operation_id = "join_token_create",
    tag = "admin",
    security(("token" = ["admin"])),
    request_body = JoinTokenCreate,
    responses(
        (status = 201, description = "The token.", body = JoinTokenCreated),
        (status = 409, description = "This service takes no other machines.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(NoQuery): Query<NoQuery>,
    JsonBody(body): JsonBody<JoinTokenCreate>,
) -> Result<Response, ApiError> {
    require_operator(&principal)?;
    let join = state.settings.join.as_ref().ok_or_else(|| ControlError::Conflict {
        code: "no_agents_port",
        message: "this replica does not listen for the agents of other machines: ask one that does, or start it with \
                  --listen-agents ADDRESS:PORT"
            .to_owned(),
    })?;
    let made = state.control.create_join_token(&principal, convert::join_token_request(&body)?).await?;
    let body = Json(convert::new_join_token(made, join));
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], body).into_response())
}
