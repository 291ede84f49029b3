//! How long an answer may take. It is the head of the answer that is waited for; a stream may go on afterwards.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::state::ApiState;

/// The longest wait that `…/wait` offers, in seconds.
pub(crate) const MAX_WAIT_SECONDS: u64 = 300;

pub(super) async fn limit(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let mut limit = state.settings.answer_timeout;
    // A wait is as long as its caller wants, up to its own bound.
    if request.uri().path().ends_with("/wait") {
        limit += std::time::Duration::from_secs(MAX_WAIT_SECONDS);
    }
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::DeadlineExceeded(limit.as_secs()).into_response(),
    }
}
