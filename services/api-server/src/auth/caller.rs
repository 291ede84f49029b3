//! The verified caller, as an argument of a handler. A handler that takes it first answers 401 before it looks at
//! anything else of the request.

use std::error::Error as _;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use wherry_api_types::BEARER_PROTOCOL;
use wherry_model::Principal;

use super::TokenError;
use crate::error::{ApiError, BAD_TOKEN, NO_TOKEN};
use crate::layers::RequestContext;
use crate::state::ApiState;

pub(crate) struct Caller(pub(crate) Principal);

impl FromRequestParts<ApiState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let token = token(&parts.headers).ok_or(ApiError::Unauthenticated(NO_TOKEN))?;
        match state.authenticator.authenticate(token).await {
            Ok(principal) => {
                if let Some(context) = parts.extensions.get::<RequestContext>() {
                    context.set_tenant(principal.tenant);
                }
                Ok(Self(principal))
            }
            Err(TokenError::Control(error)) => Err(error.into()),
            Err(error) => {
                let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                tracing::info!(reason = format!("{error}{cause}"), "a token was refused");
                Err(ApiError::Unauthenticated(BAD_TOKEN))
            }
        }
    }
}

/// The token of a request. A browser cannot set `Authorization` where it asks for a WebSocket, so there, and only there, it may
/// come as a subprotocol that is offered: unlike a query string, that is in nobody's log, and no other site can send it along.
fn token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    if let Some(value) = values.next() {
        return value.to_str().ok().and_then(bearer).filter(|_| values.next().is_none());
    }
    let is_websocket = headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let offers = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter(|_| is_websocket);
    let offers = offers.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',').map(str::trim));
    let mut tokens = offers.filter_map(|offer| offer.strip_prefix(BEARER_PROTOCOL));
    tokens.next().filter(|token| !token.is_empty() && tokens.next().is_none())
}

/// The token of an `Authorization` header; the scheme's name is not case-sensitive (RFC 9110 section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token)
}
