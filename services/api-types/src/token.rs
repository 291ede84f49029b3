//! OAuth 2.0: the client-credentials grant for API keys (RFC 6749 section 4.4) and what verifiers need (RFC 8414, 7517).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Form of `POST /oauth2/token`. Parameters that are not known are ignored, as RFC 6749 section 3.2 demands.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// Always `client_credentials`.
    pub grant_type: GrantType,
    /// The id of the key, unless it stands in the `Authorization` header (HTTP Basic).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub client_id: Option<String>,
    /// The secret of the key, unless it stands in the `Authorization` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub client_secret: Option<String>,
    /// Scopes of the token, separated by spaces; all of the key's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, example = "instances:read logs:read")]
    pub scope: Option<String>,
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// Grants of the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// A key and its secret.
    #[default]
    ClientCredentials,
}

/// A token (RFC 6749 section 5.1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenResponse {
    /// For the `Authorization: Bearer` header.
    pub access_token: String,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    pub token_type: String,
    /// Seconds that it is good for.
    #[schema(example = 900)]
    pub expires_in: u64,
    /// Its scopes, separated by spaces.
    #[schema(example = "instances:read logs:read")]
    pub scope: String,
}

impl std::fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenResponse").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Why there is no token (RFC 6749 section 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenError {
    /// The code of RFC 6749.
    pub error: TokenErrorCode,
    /// What is wrong and what to do about it.
    pub error_description: String,
}

/// Codes of [`TokenError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenErrorCode {
    /// A parameter is missing, given twice or malformed.
    InvalidRequest,
    /// The key is unknown, expired or revoked, or its secret is wrong.
    InvalidClient,
    /// Another grant was asked for.
    UnsupportedGrantType,
    /// A scope does not exist or the key does not have it.
    InvalidScope,
    /// The service cannot answer now.
    TemporarilyUnavailable,
}

/// The public keys that tokens are signed with (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JsonWebKeySet {
    /// The keys.
    pub keys: Vec<JsonWebKey>,
}

/// An Ed25519 public key (RFC 8037).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JsonWebKey {
    /// Always `OKP`.
    #[schema(example = "OKP")]
    pub kty: String,
    /// Always `Ed25519`.
    #[schema(example = "Ed25519")]
    pub crv: String,
    /// Always `EdDSA`.
    #[schema(example = "EdDSA")]
    pub alg: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    #[schema(example = "sig")]
    pub usage: String,
    /// The key's thumbprint (RFC 7638).
    pub kid: String,
    /// The key itself, base64url.
    pub x: String,
}

/// What an OAuth client needs to know (RFC 8414).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorizationServer {
    /// The `iss` of tokens.
    pub issuer: String,
    /// Where tokens are made.
    pub token_endpoint: String,
    /// Where the public keys are.
    pub jwks_uri: String,
    /// Every scope.
    pub scopes_supported: Vec<crate::Scope>,
    /// None: there is no authorization endpoint.
    pub response_types_supported: Vec<String>,
    /// Only `client_credentials`.
    pub grant_types_supported: Vec<GrantType>,
    /// How the secret of a key may be sent.
    pub token_endpoint_auth_methods_supported: Vec<String>,
}
