//! JSON bodies: bounded in size and time, unknown fields and lists for objects refused, the place of an error named.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::strict::Strict;
use crate::error::ApiError;
use crate::state::ApiState;

/// A body of type `T`.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        if !is_json(&request) {
            return Err(ApiError::UnsupportedMediaType("application/json"));
        }
        let bytes = read_body(request.into_body(), state).await?;
        parse(&bytes).map(Self)
    }
}

/// A JSON merge patch.
pub(crate) struct MergePatch(pub(crate) serde_json::Map<String, serde_json::Value>);

impl FromRequest<ApiState> for MergePatch {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        if !is_json(&request) && !is_of(&request, "application/merge-patch+json") {
            return Err(ApiError::UnsupportedMediaType("application/merge-patch+json"));
        }
        let bytes = read_body(request.into_body(), state).await?;
        parse(&bytes).map(Self)
    }
}

fn is_json(request: &Request) -> bool {
    is_of(request, "application/json")
}

fn is_of(request: &Request, media_type: &str) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(media_type)
}

/// The whole body, if it is not too large and comes in time.
pub(crate) async fn read_body(body: Body, state: &ApiState) -> Result<Bytes, ApiError> {
    let (max, limit) = (state.settings.max_body_bytes, state.settings.body_timeout);
    let collected = tokio::time::timeout(limit, Limited::new(body, max).collect()).await;
    match collected.map_err(|_| ApiError::BodyTimeout(limit.as_secs()))? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::BodyTooLarge(max)),
        Err(_) => Err(ApiError::Malformed { field: None, detail: "the body broke off: send it again".to_owned() }),
    }
}

/// A `T` from JSON, read as strictly as a body.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(Strict(&mut reader)).map_err(|error| {
        let path = error.path().to_string();
        let field = (path != "." && !path.ends_with('?')).then_some(path);
        ApiError::Malformed { field, detail: describe(error.inner()) }
    })?;
    reader.end().map_err(|error| ApiError::Malformed { field: None, detail: describe(&error) })?;
    Ok(value)
}

fn describe(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Eof if error.column() <= 1 && error.line() <= 1 => {
            "the body is empty: send a JSON object".to_owned()
        }
        serde_json::error::Category::Data => error.to_string(),
        _ => format!("the body is not JSON: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use wherry_api_types::InstanceCreate;

    use super::*;

    fn refusal(body: &str) -> (Option<String>, String) {
        match parse::<InstanceCreate>(body.as_bytes()) {
            Err(ApiError::Malformed { field, detail }) => (field, detail),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errors_name_place_and_way_out() {
        let (field, detail) = refusal("");
        assert_eq!((field, detail.as_str()), (None, "the body is empty: send a JSON object"));
        let (_, detail) = refusal("{\n  \"name\": oops}");
        assert!(detail.starts_with("the body is not JSON") && detail.contains("line 2 column 11"), "{detail}");
        let (field, detail) = refusal(r#"{"containers":[{"image":"r.example/a","privileged":true}]}"#);
        assert_eq!(field.as_deref(), Some("containers[0].privileged"));
        assert!(detail.starts_with("unknown field `privileged`, expected one of `name`, `image`"), "{detail}");
        let (field, _) = refusal(r#"{"containers":[{"image":5}]}"#);
        assert_eq!(field.as_deref(), Some("containers[0].image"));
        let (field, _) = refusal(r#"{"containers":[{"image":"r.example/a","ports":[{"port":70000}]}]}"#);
        assert_eq!(field.as_deref(), Some("containers[0].ports[0].port"));
        let (_, detail) = refusal(r#"{"containers":[]} {}"#);
        assert!(detail.contains("trailing characters"), "{detail}");
    }

    #[test]
    fn a_list_is_no_object() {
        for (body, place) in [
            ("[]", None),
            (" [null, null]", None),
            (r#"[[{"image":"r.example/a"}]]"#, None),
            (r#"{"containers":[["r.example/a"]]}"#, Some("containers[0]")),
            (r#"{"containers":[{"image":"r.example/a","ports":[{"port":1},[80]]}]}"#, Some("containers[0].ports[1]")),
        ] {
            let (field, detail) = refusal(body);
            assert_eq!(field.as_deref(), place, "{body}");
            assert!(detail.starts_with("this is a list: send a JSON object"), "{body}: {detail}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let (_, detail) = refusal(&r#"{"containers":"#.repeat(100_000));
        assert!(!detail.is_empty());
        let (_, detail) = refusal(&format!("{{\"containers\":{}", "[".repeat(100_000)));
        assert!(!detail.is_empty());
    }
}
