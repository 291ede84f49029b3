//! The two ports: the public one, and the operator's with metrics.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::state::ApiState;
use crate::{docs, document, health, layers, oauth, v1};

/// All operations with the document that describes them.
fn operations() -> OpenApiRouter<ApiState> {
    let router = OpenApiRouter::with_openapi(document::frame());
    v1::routes(oauth::routes(router))
}

/// The OpenAPI document of the public port.
pub fn openapi() -> OpenApi {
    let mut document = operations().into_openapi();
    document::complete(&mut document);
    document
}

/// What tenants and operators call over the network.
pub fn public_router(state: &ApiState) -> Router {
    let (routes, _) = operations().split_for_parts();
    let routes =
        routes.route("/healthz", get(health::alive)).route("/readyz", get(health::ready)).merge(docs::routes());
    layers::assemble(routes, state)
}

/// What only the machine's own network should reach: metrics, and health without the public layers around it.
pub fn operator_router(state: &ApiState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .with_state(state.clone())
}

async fn metrics(State(state): State<ApiState>) -> Response {
    match state.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
