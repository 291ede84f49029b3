//! The verified caller, as an argument of a handler. A handler that takes it first answers 401 before it looks at
//! anything else of the request.

use std::error::Error as _;

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;
use wherry_model::Principal;

use super::TokenError;
use crate::error::{ApiError, BAD_TOKEN, NO_TOKEN};
use crate::layers::RequestContext;
use crate::state::ApiState;

pub(crate) struct Caller(pub(crate) Principal);

impl FromRequestParts<ApiState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(ApiError::Unauthenticated(NO_TOKEN))?;
        let token = value.to_str().ok().and_then(bearer).filter(|_| values.next().is_none());
        let token = token.ok_or(ApiError::Unauthenticated(NO_TOKEN))?;
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

/// The token of an `Authorization` header; the scheme's name is not case-sensitive (RFC 9110 section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token)
}
