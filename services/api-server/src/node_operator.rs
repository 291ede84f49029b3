//! The operator port of a machine that only runs instances: numbers and health, without a store to ask.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus::{Registry, TextEncoder};
use serde_json::json;

use crate::health;
use crate::state::ReadinessCheck;

#[derive(Clone)]
struct Node {
    registry: Registry,
    readiness: Arc<[Arc<dyn ReadinessCheck>]>,
}

/// `/metrics`, `/healthz` and `/readyz` of a node.
pub fn node_operator_router(registry: Registry, readiness: Vec<Arc<dyn ReadinessCheck>>) -> Router {
    let node = Node { registry, readiness: readiness.into() };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(ready))
        .with_state(node)
}

async fn metrics(State(node): State<Node>) -> Response {
    match TextEncoder::new().encode_to_string(&node.registry.gather()) {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn ready(State(node): State<Node>) -> Response {
    let mut failed = Vec::new();
    for check in node.readiness.iter() {
        if let Err(error) = check.check().await {
            failed.push(json!({"check": check.name(), "error": error}));
        }
    }
    if failed.is_empty() {
        return Json(json!({"status": "ready"})).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "failed": failed}))).into_response()
}
