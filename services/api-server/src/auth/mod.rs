//! Who is calling: access tokens of our own, and tokens of outside issuers that the operator trusts.
//!
//! What is decided here and not by a token: which algorithm its issuer may use, which key an id stands for, how long a
//! token may live, what a token of ours looks like (`typ: at+jwt`). A header that points at keys (`jku`, `jwk`, `x5u`,
//! `x5c`) or asks for extensions (`crit`) is refused unread (RFC 8725; ASVS 5.0 V9). All failures look the same from
//! outside; the log says which it was.

mod access_token;
mod caller;
mod claims;
mod jose;
mod jwks;
mod outside;
mod signing_key;
mod verified;

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;
use wherry_control::{Control, Error as ControlError};
use wherry_model::{Clock, Principal};

pub(crate) use access_token::{AccessTokens, Grant, LIFETIME_SECONDS};
pub(crate) use caller::Caller;
pub use jwks::{JwksSource, JwksSourceError};
pub use outside::{OutsideAlgorithm, OutsideIssuer};
pub use signing_key::{SigningKey, SigningKeyError};

use claims::ClaimError;
use jose::{HeaderError, Token};
use outside::OutsideVerifier;
use verified::Verified;

use crate::settings::ApiSettings;

/// Difference between clocks that is forgiven, in seconds.
pub(crate) const LEEWAY_SECONDS: i64 = 30;

/// Why a token was not accepted. For the log: callers are told nothing but that it is not valid.
#[derive(Debug, Error)]
pub(crate) enum TokenError {
    #[error("the header is refused")]
    Header(#[from] HeaderError),
    #[error("the claims are refused")]
    Claims(#[from] ClaimError),
    #[error("the issuer is not trusted")]
    UnknownIssuer,
    #[error("the algorithm is not the issuer's")]
    Algorithm,
    #[error("the key id is not known")]
    UnknownKey,
    #[error("the type of the token is not the expected one")]
    Type,
    #[error("the signature is wrong")]
    Signature,
    #[error("the API key behind the token does not work any more")]
    KeyEnded,
    #[error("the issuer's tenant {0:?} is not mapped to one of ours")]
    UnknownTenant(String),
    #[error("the issuer's keys cannot be read")]
    Jwks(#[from] JwksSourceError),
    /// Not the token's fault.
    #[error("the service cannot tell now")]
    Control(#[source] ControlError),
}

/// Recognises callers by their bearer tokens.
pub(crate) struct Authenticator {
    control: Control,
    clock: Arc<dyn Clock>,
    own: AccessTokens,
    verified: Verified,
    outside: HashMap<String, OutsideVerifier>,
}

impl Authenticator {
    pub(crate) fn new(
        control: Control,
        clock: Arc<dyn Clock>,
        key: SigningKey,
        outside: Vec<OutsideIssuer>,
        settings: &ApiSettings,
    ) -> Self {
        let outside = outside.into_iter().map(|issuer| (issuer.issuer.clone(), OutsideVerifier::new(issuer)));
        Self {
            control,
            clock,
            own: AccessTokens::new(key, settings.external_url.clone(), settings.audience.clone()),
            verified: Verified::default(),
            outside: outside.collect(),
        }
    }

    /// The tokens that this service makes.
    pub(crate) fn own(&self) -> &AccessTokens {
        &self.own
    }

    /// The principal that a bearer token stands for.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Principal, TokenError> {
        let now = self.clock.now();
        let name = verified::name_of(token);
        if let Some(grant) = self.verified.find(&name, now) {
            return self.if_key_works(grant).await;
        }
        let token = Token::parse(token)?;
        let issuer = token.claimed_issuer()?;
        if issuer == self.own.issuer() {
            let (grant, expires_at) = self.own.verify(&token, now)?;
            self.verified.remember(name, &grant, now, expires_at);
            return self.if_key_works(grant).await;
        }
        let verifier = self.outside.get(&issuer).ok_or(TokenError::UnknownIssuer)?;
        verifier.verify(&token, now, &self.control).await
    }

    async fn if_key_works(&self, grant: Grant) -> Result<Principal, TokenError> {
        match self.control.key_works(grant.key).await {
            Ok(true) => Ok(grant.principal()),
            Ok(false) => Err(TokenError::KeyEnded),
            Err(error) => Err(TokenError::Control(error)),
        }
    }
}
