//! Tokens of an OpenID Connect issuer that the operator trusts: whose they are is mapped to a tenant of ours by one claim.

use std::collections::BTreeMap;

use jsonwebtoken::Algorithm;
use wherry_control::Control;
use wherry_model::{Principal, ScopeSet, Subject, TenantName, Timestamp};

use super::TokenError;
use super::claims::{AudienceForm, Rules, text};
use super::jose::Token;
use super::jwks::{JwksSource, KeyCache};

/// The longest life of an outside token that is accepted, in seconds. What lives longer cannot be taken back.
const MAX_LIFETIME_SECONDS: i64 = 24 * 3600;

/// Signature algorithms that an outside issuer may use. All are asymmetric: with a shared secret, who verifies could forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutsideAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl OutsideAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// The name in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    const fn library(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Ps256 => Algorithm::PS256,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl std::str::FromStr for OutsideAlgorithm {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text);
        found.ok_or("choose among RS256, PS256, ES256, ES384, EdDSA; shared-secret algorithms are not accepted")
    }
}

/// An issuer that the operator trusts.
///
/// Its tokens must carry `iss`, `aud`, `sub`, `iat`, `exp` and a `kid`. Unlike ours they may do without `nbf` and `typ`, because
/// OpenID Connect demands neither and widely used issuers leave them out: without `nbf` a token holds from its `iat` on, and
/// without `typ` it is still told from a token of ours by its issuer and key. One that is there must be right: a `nbf` in the
/// past, a `typ` of `JWT` or `at+jwt`.
#[derive(Debug, Clone)]
pub struct OutsideIssuer {
    /// Its `iss`, exactly.
    pub issuer: String,
    /// The `aud` that its tokens for this service carry.
    pub audience: String,
    /// Where its keys are.
    pub keys: JwksSource,
    /// What it may sign with. A key of its set is used with the first of these that fits it.
    pub algorithms: Vec<OutsideAlgorithm>,
    /// The claim that says whose a token is.
    pub tenant_claim: String,
    /// That claim's values, each with the tenant of ours that it stands for. What is not here is refused.
    pub tenants: BTreeMap<String, TenantName>,
    /// What its tokens may do. Never taken from the token.
    pub scopes: ScopeSet,
}

pub(super) struct OutsideVerifier {
    issuer: OutsideIssuer,
    keys: KeyCache,
}

impl OutsideVerifier {
    pub(super) fn new(issuer: OutsideIssuer) -> Self {
        let keys = KeyCache::new(issuer.keys.clone(), issuer.algorithms.clone());
        Self { issuer, keys }
    }

    pub(super) async fn verify(
        &self,
        token: &Token<'_>,
        now: Timestamp,
        control: &Control,
    ) -> Result<Principal, TokenError> {
        let kind = token.kind.as_deref().map(str::to_ascii_lowercase);
        if !matches!(kind.as_deref(), None | Some("jwt" | "at+jwt")) {
            return Err(TokenError::Type);
        }
        if !self.issuer.algorithms.iter().any(|allowed| allowed.as_str() == token.algorithm) {
            return Err(TokenError::Algorithm);
        }
        let key = self.keys.key(&token.key_id).await?.ok_or(TokenError::UnknownKey)?;
        if key.algorithm.as_str() != token.algorithm {
            return Err(TokenError::Algorithm);
        }
        let claims = token.verify(&key.decoding, key.algorithm.library())?;
        let rules = Rules {
            audience: &self.issuer.audience,
            audience_form: AudienceForm::TextOrList,
            max_lifetime_seconds: MAX_LIFETIME_SECONDS,
            needs_not_before: false,
        };
        rules.check(claims, now)?;
        let claimed = claims.get(&self.issuer.tenant_claim).and_then(serde_json::Value::as_str).unwrap_or_default();
        let unknown = || TokenError::UnknownTenant(claimed.chars().take(64).collect());
        let name = self.issuer.tenants.get(claimed).ok_or_else(unknown)?;
        let tenant = control.tenant_by_name(name).await.map_err(TokenError::Control)?.ok_or_else(unknown)?;
        Ok(Principal {
            tenant: tenant.id,
            subject: Subject::External { issuer: self.issuer.issuer.clone(), subject: text(claims, "sub")?.to_owned() },
            scopes: self.issuer.scopes.clone(),
        })
    }
}
