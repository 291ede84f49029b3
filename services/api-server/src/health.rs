//! `/healthz` (the process answers) and `/readyz` (requests make sense), for load balancers and people.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use crate::state::ApiState;

/// Answers while the process can answer at all.
pub(crate) async fn alive() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// Asks the store and every other part that requests need. Says which one is missing, in words without addresses.
pub(crate) async fn ready(State(state): State<ApiState>) -> Response {
    let mut failed = Vec::new();
    if let Err(error) = state.control.fleet_summary().await {
        failed.push(json!({"check": "store", "error": error.to_string()}));
    }
    for check in state.readiness.iter() {
        if let Err(error) = check.check().await {
            failed.push(json!({"check": check.name(), "error": error}));
        }
    }
    if failed.is_empty() {
        return Json(json!({"status": "ready"})).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "failed": failed}))).into_response()
}
