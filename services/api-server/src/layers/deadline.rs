//! How long an answer may take. It is the head of the answer that is waited for; a stream may go on afterwards.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use wherry_api_types::MAX_EXEC_TIMEOUT_SECONDS;

use crate::error::ApiError;
use crate::state::ApiState;

/// The longest wait that `…/wait` offers, in seconds.
pub(crate) const MAX_WAIT_SECONDS: u64 = 300;

pub(super) async fn limit(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let mut limit = state.settings.answer_timeout;
    // A wait is as long as its caller wants, up to its own bound, and so is a program that runs in a container.
    let path = request.uri().path();
    if path.ends_with("/wait") {
        limit += Duration::from_secs(MAX_WAIT_SECONDS);
    } else if path.ends_with("/exec") {
        limit += Duration::from_secs(u64::from(MAX_EXEC_TIMEOUT_SECONDS));
    }
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::DeadlineExceeded(limit.as_secs()).into_response(),
    }
}
