//! What every error answers with (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text;

/// The media type of [`Problem`].
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was refused. `code` is for programs and never changes its meaning; `detail` is for people and says
/// what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status and `code` say which problem it is (RFC 9457 section 4.2.1).
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    pub kind: String,
    /// The name of the status.
    #[schema(example = "Not Found")]
    pub title: String,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599, example = 404)]
    pub status: u16,
    /// The stable machine code.
    #[schema(pattern = "^[a-z][a-z_]*$", example = "not_found")]
    pub code: String,
    /// What is wrong and what to do about it.
    #[schema(example = "the instance web does not exist")]
    pub detail: String,
    /// The field, parameter or header at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, example = "containers[0].image")]
    pub field: Option<String>,
    /// The id of the request, which finds it in the service's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Id)]
    pub request_id: Option<String>,
}
