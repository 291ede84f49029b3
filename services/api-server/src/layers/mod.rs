//! What every request passes through, in the order of [`assemble`].

mod admission;
mod context;
mod deadline;
mod verbs;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use http::Method;
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use admission::StreamPlace;
pub(crate) use context::RequestContext;
pub(crate) use deadline::MAX_WAIT_SECONDS;
pub(crate) use verbs::{action_route, rewrite_verb};

use crate::error::ApiError;
use crate::state::ApiState;

/// Puts the layers around the routes. The one that is added last is the outermost: requests pass from the bottom of this
/// list to its top, answers back down.
pub(crate) fn assemble(routes: Router<ApiState>, state: &ApiState) -> Router {
    let routes = routes
        // What is not served at all, and what is not served with this method, is refused in the same form as the rest.
        .fallback(async || ApiError::NoSuchRoute)
        .method_not_allowed_fallback(async |method: Method| ApiError::MethodNotAllowed(method.to_string()))
        // An answer that takes too long is given up. Innermost, so that the request's place below is free again.
        .layer(from_fn_with_state(state.clone(), deadline::limit))
        // More than a bounded number of requests at once is refused at once: nothing queues up in memory.
        .layer(from_fn_with_state(state.clone(), admission::limit))
        // A panic costs one request. Inside of the context, so that it is logged with the request's id.
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| ApiError::Panicked.into_response()))
        // Id, log line, metrics, and the id in refusals: around all that can refuse.
        .layer(from_fn_with_state(state.clone(), context::observe))
        .with_state(state.clone());
    // `…/web:stop` becomes a path that the router can match. Outside of the router, for it changes what is matched.
    Router::new().fallback_service(tower::Layer::layer(&from_fn(rewrite_verb), routes))
}
