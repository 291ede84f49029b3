//! Request headers that operations read.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use utoipa::IntoParams;
use wherry_model::Generation;

use crate::error::ApiError;
use crate::state::ApiState;

/// Makes it safe to send a create again.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct IdempotencyKey {
    /// Chosen by the client, for example a UUID: the same key with the same body gives the same instance.
    #[param(rename = "Idempotency-Key", required = false, value_type = String, min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    pub(crate) key: Option<String>,
}

/// Guards a change.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct IfMatch {
    /// Only if the instance is at this generation; a new one is then not created.
    #[param(rename = "If-Match", required = false, value_type = String, pattern = "^(?:\"[0-9]{1,19}\"|[0-9]{1,19})$", example = "\"1\"")]
    pub(crate) generation: Option<Generation>,
}

/// Where a broken event stream goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct LastEventId {
    /// As `after`, and wins over it: what a reconnecting client sends.
    #[param(rename = "Last-Event-ID", required = false, value_type = u64, maximum = 9_007_199_254_740_991_u64)]
    pub(crate) id: Option<u64>,
}

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
        let Some(key) = single(&parts.headers, NAME)? else { return Ok(Self { key: None }) };
        if key.is_empty() || key.len() > 255 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let detail = "Idempotency-Key has 1 to 255 printable ASCII characters and no spaces, for example a UUID";
            return Err(ApiError::malformed(NAME, detail));
        }
        Ok(Self { key: Some(key.to_owned()) })
    }
}

impl FromRequestParts<ApiState> for IfMatch {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        const NAME: &str = "If-Match";
        let Some(tag) = single(&parts.headers, NAME)? else { return Ok(Self { generation: None }) };
        let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
        let plain = digits.len() <= 19 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse::<u64>().ok().filter(|_| plain);
        let wrong = || ApiError::malformed(NAME, "If-Match is the generation of the instance, for example \"3\"");
        number.map(|number| Self { generation: Some(Generation(number)) }).ok_or_else(wrong)
    }
}

impl FromRequestParts<ApiState> for LastEventId {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        const NAME: &str = "Last-Event-ID";
        let Some(id) = single(&parts.headers, NAME)? else { return Ok(Self { id: None }) };
        let number = id.parse::<u64>().ok().filter(|number| *number <= crate::v1::MAX_SEQUENCE);
        let number = number.filter(|_| id.bytes().all(|byte| byte.is_ascii_digit()));
        let wrong = || ApiError::malformed(NAME, "Last-Event-ID is the id of an event of this stream");
        number.map(|number| Self { id: Some(number) }).ok_or_else(wrong)
    }
}
