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

pub(crate) use admission::{Places, StreamPlace};
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Body;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::{ApiParts, ApiSettings, SigningKey};

    async fn ask(path: &str) -> (u16, serde_json::Value) {
        let stack = wherry_testkit::Stack::start().await;
        let mut settings = ApiSettings::new("https://wherry.example");
        settings.answer_timeout = Duration::from_millis(20);
        let state = ApiState::new(ApiParts {
            control: stack.control().clone(),
            clock: Arc::clone(stack.clock()) as _,
            entropy: Arc::clone(stack.entropy()) as _,
            signing_key: SigningKey::ephemeral(stack.entropy().as_ref()),
            outside_issuers: Vec::new(),
            readiness: Vec::new(),
            settings,
            shutdown: tokio_util::sync::CancellationToken::new(),
        });
        let routes = Router::new()
            .route("/panic", get(async || -> &'static str { panic!("a bug") }))
            .route("/slow", get(async || std::future::pending::<&'static str>().await));
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let answer = assemble(routes, &state).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["request_id"], id);
        (status, problem)
    }

    #[tokio::test]
    async fn a_panic_costs_one_request_and_tells_nothing() {
        let (status, problem) = ask("/panic").await;
        assert_eq!((status, problem["code"].as_str()), (500, Some("internal")));
        assert!(!problem.to_string().contains("a bug"));
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_given_up() {
        let (status, problem) = ask("/slow").await;
        assert_eq!((status, problem["code"].as_str()), (503, Some("deadline_exceeded")));
    }
}
