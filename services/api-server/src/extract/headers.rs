//! Request headers that operations read.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use wherry_model::Generation;

use crate::error::ApiError;
use crate::state::ApiState;

/// `Idempotency-Key`: makes it safe to send a create again.
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

/// `If-Match`: only if the instance is at this generation.
pub(crate) struct IfMatch(pub(crate) Option<Generation>);

/// `Last-Event-ID`: where a broken event stream goes on.
pub(crate) struct LastEventId(pub(crate) Option<u64>);

fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let wrong = || ApiError::malformed(name, format!("{name} is given once, in printable ASCII"));
    text.map(Some).ok_or_else(wrong)
}

impl FromRequestParts<ApiState> for IdempotencyKey {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        const NAME: &str = "Idempotency-Key";
        let Some(key) = single(&parts.headers, NAME)? else { return Ok(Self(None)) };
        if key.is_empty() || key.len() > 255 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let detail = "Idempotency-Key has 1 to 255 printable ASCII characters and no spaces, for example a UUID";
            return Err(ApiError::malformed(NAME, detail));
        }
        Ok(Self(Some(key.to_owned())))
    }
}

impl FromRequestParts<ApiState> for IfMatch {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        const NAME: &str = "If-Match";
        let Some(tag) = single(&parts.headers, NAME)? else { return Ok(Self(None)) };
        let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
        let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let wrong = || ApiError::malformed(NAME, "If-Match is the generation of the instance, for example \"3\"");
        number.map(|number| Self(Some(Generation(number)))).ok_or_else(wrong)
    }
}

impl FromRequestParts<ApiState> for LastEventId {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        const NAME: &str = "Last-Event-ID";
        let Some(id) = single(&parts.headers, NAME)? else { return Ok(Self(None)) };
        let number = id.parse::<u64>().ok().filter(|number| *number <= crate::v1::MAX_SEQUENCE);
        let number = number.filter(|_| id.bytes().all(|byte| byte.is_ascii_digit()));
        let wrong = || ApiError::malformed(NAME, "Last-Event-ID is the id of an event of this stream");
        number.map(|number| Self(Some(number))).ok_or_else(wrong)
    }
}
