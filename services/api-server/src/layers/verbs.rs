//! Paths that end in a verb: `…/instances/web:stop`.
//!
//! The router matches whole segments only, so before it sees such a path the verb becomes a segment of its own, and routes
//! of verbs are registered in that form. The document, the log and the metrics show the form that clients use. This way a
//! verb is a path like any other: its own operation, and 404 and 405 by themselves. Rejected: one handler that splits its
//! parameter, which would have to decide all of that again.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::Uri;
use http::uri::PathAndQuery;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::state::ApiState;

/// Begins the segment that a verb becomes. A client cannot write this form: its own colon would be split off again.
const SEGMENT: &str = "verb:";

/// Moves the verb of the last segment into a segment of its own.
pub(crate) async fn rewrite_verb(mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let last = path.rfind('/').map_or(0, |slash| slash + 1);
    if let Some((head, verb)) = path.rsplit_once(':')
        && head.len() > last
    {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let rewritten = format!("{head}/{SEGMENT}{verb}{query}").parse::<PathAndQuery>();
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = rewritten.ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    next.run(request).await
}

/// Adds the operations of a path that ends in a verb.
pub(crate) fn action_route(
    router: OpenApiRouter<ApiState>,
    (schemas, paths, methods): UtoipaMethodRouter<ApiState>,
) -> OpenApiRouter<ApiState> {
    let mut router = paths
        .paths
        .keys()
        .fold(router, |router, path| router.route(&path.replacen(':', &format!("/{SEGMENT}"), 1), methods.clone()));
    let document = router.get_openapi_mut();
    for (path, item) in paths.paths {
        document.paths.paths.insert(path, item);
    }
    document.components.get_or_insert_default().schemas.extend(schemas);
    router
}

/// A route's template as clients know it.
pub(super) fn public_template(template: &str) -> String {
    template.replacen(&format!("/{SEGMENT}"), ":", 1)
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use axum::{Router, middleware};
    use http::StatusCode;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn verbs_are_routes_of_their_own() {
        let routes = Router::new()
            .route("/things/{name}", axum::routing::get(async || "get"))
            .route("/things/{name}/verb:stop", post(async || "stop"));
        let layer = middleware::from_fn(rewrite_verb);
        let service = Router::new().fallback_service(tower::Layer::layer(&layer, routes));
        for (method, path, status) in [
            ("POST", "/things/a:stop", StatusCode::OK),
            ("POST", "/things/a:stop?x=1:2", StatusCode::OK),
            ("GET", "/things/a:stop", StatusCode::METHOD_NOT_ALLOWED),
            ("POST", "/things/a:explode", StatusCode::NOT_FOUND),
            ("POST", "/things/a/verb:stop", StatusCode::NOT_FOUND),
            ("GET", "/things/:stop", StatusCode::OK),
            ("GET", "/things/a", StatusCode::OK),
            ("GET", "/:", StatusCode::NOT_FOUND),
        ] {
            let request = Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap();
            assert_eq!(service.clone().oneshot(request).await.unwrap().status(), status, "{method} {path}");
        }
    }
}
