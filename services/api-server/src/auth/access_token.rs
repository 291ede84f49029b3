//! Access tokens of our own (RFC 9068): made from API keys, short-lived, verified without asking the store for more
//! than whether the key still works.

use jsonwebtoken::{Algorithm, Header};
use serde::Serialize;
use uuid::Uuid;
use wherry_api_types::JsonWebKey;
use wherry_model::{ApiKeyId, Entropy, Principal, ScopeSet, Subject, TenantId, Timestamp};

use super::claims::{AudienceForm, ClaimError, Rules, text};
use super::jose::Token;
use super::{SigningKey, TokenError};

/// How long a token is good for, in seconds.
pub(crate) const LIFETIME_SECONDS: i64 = 15 * 60;

/// The type of an access token. A token of ours that is meant for something else carries another.
const TYPE: &str = "at+jwt";

/// Before the key's id in `sub`.
const SUBJECT_PREFIX: &str = "key:";

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    client_id: String,
    tenant: String,
    scope: String,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// What a verified token of ours grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) tenant: TenantId,
    pub(crate) key: ApiKeyId,
    pub(crate) scopes: ScopeSet,
}

impl Grant {
    pub(crate) fn principal(self) -> Principal {
        Principal { tenant: self.tenant, subject: Subject::Key(self.key), scopes: self.scopes }
    }
}

/// Makes and verifies access tokens.
pub(crate) struct AccessTokens {
    key: SigningKey,
    issuer: String,
    audience: String,
}

impl AccessTokens {
    pub(crate) fn new(key: SigningKey, issuer: String, audience: String) -> Self {
        Self { key, issuer, audience }
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn public_key(&self) -> &JsonWebKey {
        self.key.public()
    }

    /// A token for `key` of `tenant`.
    pub(crate) fn issue(
        &self,
        grant: &Grant,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let mut random = [0_u8; 16];
        entropy.fill(&mut random);
        let issued = now.grid_second();
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: format!("{SUBJECT_PREFIX}{}", grant.key),
            client_id: grant.key.to_string(),
            tenant: grant.tenant.to_string(),
            scope: grant.scopes.to_string(),
            jti: uuid::Builder::from_random_bytes(random).into_uuid().to_string(),
            iat: issued,
            nbf: issued,
            exp: issued + LIFETIME_SECONDS,
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(self.key.public().kid.clone());
        jsonwebtoken::encode(&header, &claims, self.key.encoding())
    }

    /// What a token grants, and the second in which it expires.
    pub(crate) fn verify(&self, token: &Token<'_>, now: Timestamp) -> Result<(Grant, i64), TokenError> {
        if token.algorithm != "EdDSA" {
            return Err(TokenError::Algorithm);
        }
        if token.kind.as_deref() != Some(TYPE) {
            return Err(TokenError::Type);
        }
        if token.key_id != self.key.public().kid {
            return Err(TokenError::UnknownKey);
        }
        let claims = token.verify(self.key.decoding(), Algorithm::EdDSA)?;
        let rules = Rules {
            audience: &self.audience,
            audience_form: AudienceForm::Text,
            max_lifetime_seconds: LIFETIME_SECONDS,
            needs_not_before: true,
        };
        rules.check(claims, now)?;
        let key = text(claims, "sub")?.strip_prefix(SUBJECT_PREFIX).and_then(|id| id.parse().ok());
        let grant = Grant {
            tenant: parse_uuid(text(claims, "tenant")?).map(TenantId::from_uuid).ok_or(ClaimError::Value("tenant"))?,
            key: key.ok_or(ClaimError::Value("sub"))?,
            scopes: text(claims, "scope")?.parse().map_err(|_| ClaimError::Value("scope"))?,
        };
        // It is there, or the rules would not have held; without it nothing is remembered.
        let expires_at = claims.get("exp").and_then(serde_json::Value::as_i64).unwrap_or_default();
        Ok((grant, expires_at))
    }
}

fn parse_uuid(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok()
}
