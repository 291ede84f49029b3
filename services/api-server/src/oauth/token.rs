//! `POST /oauth2/token`: a key for a token (RFC 6749 section 4.4). Errors have the form of that RFC, section 5.2.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use wherry_api_types::{TokenError, TokenErrorCode, TokenRequest, TokenResponse};
use wherry_control::Error as ControlError;
use wherry_model::{ScopeSet, Subject};

use super::credentials::TokenForm;
use crate::auth::{Grant, LIFETIME_SECONDS};
use crate::error::ApiError;
use crate::extract::read_body;
use crate::layers::RequestContext;
use crate::state::ApiState;

/// A refusal of the token endpoint.
struct Refusal {
    code: TokenErrorCode,
    description: String,
}

impl Refusal {
    fn new(code: TokenErrorCode, description: impl Into<String>) -> Self {
        Self { code, description: description.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.code {
            TokenErrorCode::InvalidClient => StatusCode::UNAUTHORIZED,
            TokenErrorCode::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            TokenErrorCode::InvalidRequest | TokenErrorCode::UnsupportedGrantType | TokenErrorCode::InvalidScope => {
                StatusCode::BAD_REQUEST
            }
        };
        let body = TokenError { error: self.code, error_description: self.description };
        let mut response = (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"wherry\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Get a token for an API key
///
/// The client-credentials grant of OAuth 2.0. The key's id and secret go into HTTP Basic or into the form. `scope` may ask for
/// less than the key has. The token is good for 15 minutes and is sent as `Authorization: Bearer TOKEN`.
#[utoipa::path(
    post,
    path = "/oauth2/token",
    operation_id = "token_create",
    tag = "auth",
    security(()),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The token.", body = TokenResponse),
        (status = 400, description = "The request is not a right one.", body = TokenError),
        (status = 401, description = "The key is not known, or does not work any more.", body = TokenError, headers(
            ("WWW-Authenticate" = String, description = "`Basic`"),
        )),
        (status = 503, description = "The service cannot answer now.", content(
            (TokenError = "application/json"),
            (wherry_api_types::Problem = "application/problem+json"),
        )),
    )
)]
pub(crate) async fn handle(State(state): State<ApiState>, request: Request) -> Response {
    let context = request.extensions().get::<RequestContext>().cloned().unwrap_or_default();
    match answer(&state, request, &context).await {
        Ok(Ok(token)) => ([(CACHE_CONTROL, "no-store")], Json(token)).into_response(),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn answer(
    state: &ApiState,
    request: Request,
    context: &RequestContext,
) -> Result<Result<TokenResponse, Refusal>, ApiError> {
    use TokenErrorCode as Code;
    if !is_form(&request) {
        return Ok(Err(Refusal::new(
            Code::InvalidRequest,
            "send a form: Content-Type application/x-www-form-urlencoded",
        )));
    }
    let _place = state.logins.try_acquire().map_err(|_| ApiError::Overloaded("other token requests"))?;
    let (parts, body) = request.into_parts();
    let body = read_body(body, state).await?;
    let parsed = TokenForm::parse(&body).and_then(|mut form| {
        let credentials = form.credentials(&parts.headers)?;
        Ok((form, credentials))
    });
    let (form, credentials) = match parsed {
        Ok(parsed) => parsed,
        Err(description) => return Ok(Err(Refusal::new(Code::InvalidRequest, description))),
    };
    match form.grant_type.as_deref() {
        Some("client_credentials") => {}
        Some(_) => {
            return Ok(Err(Refusal::new(Code::UnsupportedGrantType, "the only grant here is client_credentials")));
        }
        None => return Ok(Err(Refusal::new(Code::InvalidRequest, "grant_type is missing: send client_credentials"))),
    }
    let unknown =
        || Refusal::new(Code::InvalidClient, "the key is not known, does not work any more, or has another secret");
    let Some(credentials) = credentials else {
        return Ok(Err(Refusal::new(
            Code::InvalidClient,
            "send the key's id and secret, as HTTP Basic or in the form",
        )));
    };
    let Ok(id) = credentials.id.parse() else { return Ok(Err(unknown())) };
    let principal = match state.control.authenticate_key(id, &credentials.secret).await {
        Ok(principal) => principal,
        Err(ControlError::Unauthenticated) => return Ok(Err(unknown())),
        Err(ControlError::Unavailable { message, .. }) => {
            return Ok(Err(Refusal::new(Code::TemporarilyUnavailable, format!("{message}: try again in a moment"))));
        }
        Err(error) => return Err(error.into()),
    };
    context.set_tenant(principal.tenant);
    let scopes = match narrowed(&principal.scopes, form.scope.as_deref()) {
        Ok(scopes) => scopes,
        Err(description) => return Ok(Err(Refusal::new(Code::InvalidScope, description))),
    };
    let Subject::Key(key) = principal.subject else { return Ok(Err(unknown())) };
    let grant = Grant { tenant: principal.tenant, key, scopes };
    let token = state.authenticator.own().issue(&grant, state.clock.now(), state.entropy.as_ref());
    let access_token =
        token.map_err(|error| ControlError::Internal { context: format!("sign a token: {error}"), source: None })?;
    Ok(Ok(TokenResponse {
        access_token,
        token_type: "Bearer".to_owned(),
        expires_in: LIFETIME_SECONDS.unsigned_abs(),
        scope: grant.scopes.to_string(),
    }))
}

fn is_form(request: &Request) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// What the key has, or the part of it that is asked for.
fn narrowed(has: &ScopeSet, asked: Option<&str>) -> Result<ScopeSet, String> {
    let Some(asked) = asked else { return Ok(has.clone()) };
    let asked: ScopeSet = asked.parse().map_err(|error: wherry_model::ScopeError| error.to_string())?;
    if asked.is_empty() {
        return Ok(has.clone());
    }
    let missing = asked.iter().find(|scope| !has.contains(*scope));
    match missing {
        Some(missing) => Err(format!("the key does not have the scope {missing}")),
        None => Ok(asked),
    }
}
