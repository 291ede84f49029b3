//! Instances.

pub(crate) mod attach;
pub(crate) mod container_restart;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod exec_session;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod patch;
pub(crate) mod port_forward;
pub(crate) mod put;
pub(crate) mod restart;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod usage;
pub(crate) mod wait;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::ETAG;
use http::{HeaderValue, StatusCode};
use wherry_control::InstanceView;

use crate::convert;

/// An instance with its generation as `ETag`.
fn answer(status: StatusCode, view: InstanceView) -> Response {
    let instance = convert::instance(view);
    let tag = HeaderValue::from_str(&format!("\"{}\"", instance.generation));
    let mut response = (status, Json(instance)).into_response();
    if let Ok(tag) = tag {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
