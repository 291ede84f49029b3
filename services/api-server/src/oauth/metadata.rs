//! `GET /.well-known/oauth-authorization-server` (RFC 8414)

use axum::Json;
use axum::extract::State;
use wherry_api_types::{AuthorizationServer, GrantType};
use wherry_model::ScopeSet;

use crate::convert;
use crate::state::ApiState;

/// Read what an OAuth client needs to know
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server",
    operation_id = "authorization_server_get",
    tag = "auth",
    security(()),
    responses((status = 200, description = "Issuer, endpoints and scopes.", body = AuthorizationServer))
)]
pub(crate) async fn handle(State(state): State<ApiState>) -> Json<AuthorizationServer> {
    let url = &state.settings.external_url;
    Json(AuthorizationServer {
        issuer: url.clone(),
        token_endpoint: format!("{url}/oauth2/token"),
        jwks_uri: format!("{url}/.well-known/jwks.json"),
        scopes_supported: convert::wire_scopes(&ScopeSet::all()),
        response_types_supported: Vec::new(),
        grant_types_supported: vec![GrantType::ClientCredentials],
        token_endpoint_auth_methods_supported: vec!["client_secret_basic".to_owned(), "client_secret_post".to_owned()],
    })
}
