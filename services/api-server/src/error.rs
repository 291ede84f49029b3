//! Every error that the API answers with, and the one place where it becomes HTTP.
//!
//! A request that breaks the OpenAPI document gets 400. One that keeps it, but asks for something that cannot be, gets
//! 422. Both name the field. What is not there, and what is another tenant's, get the same 404.
//!
//! The outside message is the error's `Display`; causes go to the log only, once, here.

use std::error::Error as _;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use thiserror::Error;
use wherry_api_types::{PROBLEM_MEDIA_TYPE, Problem};
use wherry_control::Error as ControlError;
use wherry_model::SpecError;

/// Why a request was not answered as asked.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    /// The application refused.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// There is no token, or it is not good.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The request does not keep to the document.
    #[error("{detail}")]
    Malformed {
        /// Which part of it.
        field: Option<String>,
        /// What is wrong with it and what would be right.
        detail: String,
    },
    /// Nothing is served under this path.
    #[error("nothing is served under this path: /docs lists what is")]
    NoSuchRoute,
    /// Something is served under this path, but not with this method.
    #[error("this path does not know the method {0}: the Allow header lists those that it knows")]
    MethodNotAllowed(String),
    /// The body is larger than any request needs to be.
    #[error("the body has more than {0} bytes, which is the most")]
    BodyTooLarge(usize),
    /// The body did not come in time.
    #[error("the body did not arrive in {0} seconds: send it without pausing")]
    BodyTimeout(u64),
    /// What is asked for is no single answer.
    #[error("this goes on as a WebSocket of the subprotocol wherry.v1: ask for it with `Upgrade: websocket`")]
    UpgradeRequired,
    /// The body is in another format.
    #[error("send the body as {0}, and say so in Content-Type")]
    UnsupportedMediaType(&'static str),
    /// More is being asked at once than this process answers.
    #[error("the service is busy with {0}: try again in a moment")]
    Overloaded(&'static str),
    /// The tenant does as much of something at once as it may.
    #[error("{max} {what} are open already, which is the most for one tenant: end some, or try again later")]
    TooManyOfTenant {
        /// Of what.
        what: &'static str,
        /// How many it may have.
        max: usize,
        /// The machine code.
        code: &'static str,
    },
    /// The answer took too long.
    #[error(
        "the service did not find an answer in {0} seconds: try again, with the same Idempotency-Key if it was a create"
    )]
    DeadlineExceeded(u64),
    /// A bug: a handler panicked.
    #[error("something went wrong inside the service; the request id finds it in the log")]
    Panicked,
}

/// The detail of a 401 without any token.
pub(crate) const NO_TOKEN: &str =
    "this needs a token: get one at /oauth2/token and send it as `Authorization: Bearer TOKEN`";

/// The detail of a 401 with a bad token. It never says what is bad about it: that helps only who forges one.
pub(crate) const BAD_TOKEN: &str = "the token is not valid, or not any more: get a new one at /oauth2/token";

impl ApiError {
    pub(crate) fn malformed(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Malformed { field: Some(field.into()), detail: detail.into() }
    }

    /// Keeps to the document, but asks for something that cannot be: what no schema can say.
    pub(crate) fn impossible(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Control(SpecError::new(field, detail).into())
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Control(error) => control_status(error),
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::NoSuchRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyOfTenant { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded(_) | Self::DeadlineExceeded(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Control(error) => error.code(),
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Malformed { .. } => "invalid_request",
            Self::NoSuchRoute => "no_such_route",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::BodyTooLarge(_) => "body_too_large",
            Self::BodyTimeout(_) => "body_timeout",
            Self::UpgradeRequired => "upgrade_required",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::TooManyOfTenant { code, .. } => code,
            Self::Overloaded(_) => "overloaded",
            Self::DeadlineExceeded(_) => "deadline_exceeded",
            Self::Panicked => "internal",
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Control(error) => error.field(),
            Self::Malformed { field, .. } => field.as_deref(),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Control(error) => error.retry_after(),
            Self::TooManyOfTenant { .. } | Self::Overloaded(_) | Self::DeadlineExceeded(_) => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }

    /// What a 401 or a 403 for want of a scope says about how to do better (RFC 6750 section 3).
    fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::Unauthenticated(NO_TOKEN) => Some(HeaderValue::from_static("Bearer realm=\"wherry\"")),
            Self::Unauthenticated(_) | Self::Control(ControlError::Unauthenticated) => {
                Some(HeaderValue::from_static("Bearer realm=\"wherry\", error=\"invalid_token\""))
            }
            Self::Control(ControlError::InsufficientScope(scope)) => {
                let text = format!("Bearer realm=\"wherry\", error=\"insufficient_scope\", scope=\"{scope}\"");
                HeaderValue::from_str(&text).ok()
            }
            _ => None,
        }
    }
}

const fn control_status(error: &ControlError) -> StatusCode {
    match error {
        ControlError::Unauthenticated => StatusCode::UNAUTHORIZED,
        ControlError::InsufficientScope(_) => StatusCode::FORBIDDEN,
        ControlError::NotFound(_) => StatusCode::NOT_FOUND,
        ControlError::InvalidField(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ControlError::NameTaken(_)
        | ControlError::NotInPlace { .. }
        | ControlError::NotChangeable { .. }
        | ControlError::DnsLabelTaken(_)
        | ControlError::IdempotencyMismatch
        | ControlError::GenerationMismatch(_)
        | ControlError::Busy(_)
        | ControlError::Conflict { .. } => StatusCode::CONFLICT,
        ControlError::EventsForgotten { .. } => StatusCode::GONE,
        ControlError::TooManyEntries { .. } => StatusCode::TOO_MANY_REQUESTS,
        ControlError::CapacityUnavailable(_) | ControlError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        ControlError::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<SpecError> for ApiError {
    fn from(error: SpecError) -> Self {
        Self::Control(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() && !matches!(self, Self::Overloaded(_)) {
            log(&self);
        }
        let problem = problem_of(&self);
        let mut response = render(&problem, status);
        if let Some(after) = self.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        if matches!(self, Self::UpgradeRequired) {
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        if let Some(challenge) = self.challenge() {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(Refused(problem));
        response
    }
}

/// The error as clients read it.
pub(crate) fn problem_of(error: &ApiError) -> Problem {
    let status = error.status();
    Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or_default().to_owned(),
        status: status.as_u16(),
        code: error.code().to_owned(),
        detail: error.to_string(),
        field: error.field().map(str::to_owned),
        request_id: None,
    }
}

/// Goes with a refusal up to the layer that knows the request's id.
#[derive(Clone)]
pub(crate) struct Refused(Problem);

/// Writes the request's id into a refusal. Other answers pass as they are.
pub(crate) fn with_request_id(mut response: Response, request_id: &str) -> Response {
    let Some(Refused(problem)) = response.extensions_mut().remove::<Refused>() else { return response };
    let problem = Problem { request_id: Some(request_id.to_owned()), ..problem };
    let rendered = render(&problem, response.status());
    response.headers_mut().remove(http::header::CONTENT_LENGTH);
    *response.body_mut() = rendered.into_body();
    response
}

fn render(problem: &Problem, status: StatusCode) -> Response {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    (status, [(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE))], body).into_response()
}

/// The whole chain of causes in one line. The span says which request it was.
fn log(error: &ApiError) {
    let mut chain = match error {
        ApiError::Control(ControlError::Internal { context, .. }) => format!("{context}: {error}"),
        other => other.to_string(),
    };
    let mut cause = error.source();
    while let Some(inner) = cause {
        chain.push_str(": ");
        chain.push_str(&inner.to_string());
        cause = inner.source();
    }
    if error.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(code = error.code(), error = chain, "request failed");
    } else {
        tracing::warn!(code = error.code(), error = chain, "request could not be served now");
    }
}

#[cfg(test)]
mod tests {
    use wherry_model::{InstanceState, Scope};

    use super::*;

    #[test]
    fn every_error_has_its_status_and_code() {
        let unavailable = ControlError::Unavailable { message: "x".to_owned(), source: None };
        let internal = ControlError::Internal { context: "secret context".to_owned(), source: None };
        let cases: Vec<(ApiError, u16, &str)> = vec![
            (ControlError::Unauthenticated.into(), 401, "unauthenticated"),
            (ControlError::InsufficientScope(Scope::Admin).into(), 403, "insufficient_scope"),
            (ControlError::NotFound("x".into()).into(), 404, "not_found"),
            (SpecError::new("name", "bad").into(), 422, "invalid_field"),
            (ControlError::NameTaken("web".into()).into(), 409, "name_taken"),
            (ControlError::IdempotencyMismatch.into(), 409, "idempotency_parameter_mismatch"),
            (ControlError::EventsForgotten { after: 1, through: 2 }.into(), 410, "events_forgotten"),
            (ControlError::Busy(InstanceState::Stopping).into(), 409, "instance_busy"),
            (ControlError::CapacityUnavailable("full".into()).into(), 503, "capacity_unavailable"),
            (unavailable.into(), 503, "unavailable"),
            (internal.into(), 500, "internal"),
            (ApiError::malformed("limit", "x"), 400, "invalid_request"),
            (ApiError::NoSuchRoute, 404, "no_such_route"),
            (ApiError::BodyTooLarge(1), 413, "body_too_large"),
        ];
        for (error, status, code) in cases {
            let response = error.into_response();
            assert_eq!(response.status().as_u16(), status, "{code}");
            let Refused(problem) = response.extensions().get::<Refused>().unwrap();
            assert_eq!((problem.code.as_str(), problem.status), (code, status));
            assert!(!problem.detail.contains("secret context"), "causes are for the log");
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503, "{code}");
            let challenged = response.headers().contains_key(WWW_AUTHENTICATE);
            assert_eq!(challenged, status == 401 || status == 403, "{code}");
        }
    }
}
