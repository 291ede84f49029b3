//! The compact form of a signed token, and the parts of its header that are looked at before any key is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use thiserror::Error;

use super::TokenError;
use super::claims::ClaimError;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Headers by which a token would choose the keys or rules of its own verification.
const REFUSED_HEADERS: [&str; 8] = ["jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64"];

#[derive(Debug, Error)]
pub(crate) enum HeaderError {
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    #[error("the token does not have three parts")]
    Parts,
    #[error("a part of the token is not base64url of a JSON object")]
    Encoding,
    #[error("the header {0} is not accepted")]
    Refused(&'static str),
    #[error("the header {0} is missing or not a text")]
    Missing(&'static str),
}

/// A token that has been taken apart, not yet verified.
pub(crate) struct Token<'a> {
    signed: &'a str,
    signature: &'a str,
    pub(crate) algorithm: String,
    pub(crate) key_id: String,
    pub(crate) kind: Option<String>,
    payload: Map<String, Value>,
}

fn object(part: &str) -> Result<Map<String, Value>, HeaderError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| HeaderError::Encoding)?;
    serde_json::from_slice(&bytes).map_err(|_| HeaderError::Encoding)
}

impl<'a> Token<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, HeaderError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(HeaderError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(HeaderError::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(HeaderError::Parts)?;
        if payload.contains('.') || signature.is_empty() {
            return Err(HeaderError::Parts);
        }
        let header = object(header)?;
        if let Some(refused) = REFUSED_HEADERS.into_iter().find(|name| header.contains_key(*name)) {
            return Err(HeaderError::Refused(refused));
        }
        let text = |name: &'static str| header.get(name).and_then(Value::as_str).map(str::to_owned);
        let kind = match header.get("typ") {
            None => None,
            Some(Value::String(kind)) => Some(kind.clone()),
            Some(_) => return Err(HeaderError::Missing("typ")),
        };
        Ok(Self {
            signed,
            signature,
            algorithm: text("alg").ok_or(HeaderError::Missing("alg"))?,
            key_id: text("kid").ok_or(HeaderError::Missing("kid"))?,
            kind,
            payload: object(payload)?,
        })
    }

    /// Who the token says it is from: picks the rules it is verified by, proves nothing.
    pub(crate) fn claimed_issuer(&self) -> Result<String, ClaimError> {
        match self.payload.get("iss") {
            Some(Value::String(issuer)) => Ok(issuer.clone()),
            _ => Err(ClaimError::Missing("iss")),
        }
    }

    /// The claims, once the signature has been found right.
    pub(crate) fn verify(&self, key: &DecodingKey, algorithm: Algorithm) -> Result<&Map<String, Value>, TokenError> {
        let right = jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), key, algorithm);
        if right.unwrap_or(false) { Ok(&self.payload) } else { Err(TokenError::Signature) }
    }
}
