//! The registered claims (RFC 7519 section 4.1), read strictly: a number is an integer, a text is a text, and what is
//! required is there. `jsonwebtoken` could check them too, but it reads the system's clock, and it lets go what is absent.

use serde_json::{Map, Value};
use thiserror::Error;
use wherry_model::Timestamp;

use super::LEEWAY_SECONDS;

/// The latest moment that a claim may name: the year 9999. Beyond it sums could overflow.
const MAX_SECONDS: i64 = 253_402_300_799;

#[derive(Debug, Error)]
pub(crate) enum ClaimError {
    #[error("the claim {0} is missing or of another type")]
    Missing(&'static str),
    #[error("it is expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
    #[error("it lives longer than {0} seconds")]
    LivesTooLong(i64),
    #[error("it is meant for another audience")]
    Audience,
    #[error("the claim {0} has a value that means nothing here")]
    Value(&'static str),
}

/// How `aud` may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AudienceForm {
    /// One text, as we write it.
    Text,
    /// One text, or a list that contains ours, as OpenID Connect allows.
    TextOrList,
}

/// What the registered claims of a token must be.
pub(crate) struct Rules<'a> {
    pub(crate) audience: &'a str,
    pub(crate) audience_form: AudienceForm,
    pub(crate) max_lifetime_seconds: i64,
    pub(crate) needs_not_before: bool,
}

pub(crate) fn text<'a>(claims: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, ClaimError> {
    let found = claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    found.ok_or(ClaimError::Missing(name))
}

fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, ClaimError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let number = value.as_i64().filter(|number| (0..=MAX_SECONDS).contains(number));
            number.map(Some).ok_or(ClaimError::Missing(name))
        }
    }
}

impl Rules<'_> {
    pub(crate) fn check(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<(), ClaimError> {
        let now = now.grid_second();
        let expires = seconds(claims, "exp")?.ok_or(ClaimError::Missing("exp"))?;
        let issued = seconds(claims, "iat")?.ok_or(ClaimError::Missing("iat"))?;
        let not_before = seconds(claims, "nbf")?;
        if self.needs_not_before && not_before.is_none() {
            return Err(ClaimError::Missing("nbf"));
        }
        if now >= expires + LEEWAY_SECONDS {
            return Err(ClaimError::Expired);
        }
        if issued.max(not_before.unwrap_or(issued)) > now + LEEWAY_SECONDS {
            return Err(ClaimError::NotYet);
        }
        if expires - issued > self.max_lifetime_seconds {
            return Err(ClaimError::LivesTooLong(self.max_lifetime_seconds));
        }
        match claims.get("aud") {
            Some(Value::String(audience)) if audience == self.audience => {}
            Some(Value::Array(all)) if self.audience_form == AudienceForm::TextOrList => {
                if !all.iter().any(|one| one.as_str() == Some(self.audience)) {
                    return Err(ClaimError::Audience);
                }
            }
            Some(_) => return Err(ClaimError::Audience),
            None => return Err(ClaimError::Missing("aud")),
        }
        text(claims, "sub").map(|_| ())
    }
}
