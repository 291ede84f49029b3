//! The document for programs (`/openapi.json`) and for people (`/docs`). The page is part of the binary and reads the
//! document from this service: it works without any other network, and may load nothing from elsewhere.

use std::sync::LazyLock;

use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};

use crate::state::ApiState;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The document, written once.
static DOCUMENT: LazyLock<String> = LazyLock::new(text);

/// What the page may do: run its own script, apply its own style, fetch from its own host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The OpenAPI document as it is checked in and served.
pub fn text() -> String {
    let mut text = crate::router::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/openapi.json", get(async || asset("application/json", &DOCUMENT)))
        .route("/docs", get(async || asset("text/html; charset=utf-8", PAGE)))
        .route("/docs/page.css", get(async || asset("text/css; charset=utf-8", STYLE)))
        .route("/docs/page.js", get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
        .route("/", get(async || Redirect::temporary("/docs")))
}

fn asset(kind: &'static str, body: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("content-security-policy"), POLICY),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    (headers, body).into_response()
}
