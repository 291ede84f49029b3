//! GPUs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{number, text};

/// GPUs that an instance asks for: whole ones, or a share of one that it has beside others. One whole one when neither is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"count": 1}), json!({"share_percent": 50, "model": "nvidia-a100"})))]
pub struct Gpu {
    /// So many, for this instance alone; not beside `share_percent`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 1, maximum = 16, example = 1)]
    pub count: Option<u32>,
    /// So much of one, in percent. What is handed out of one is never more than all of it; that each keeps to its share is
    /// theirs to do: the device itself does not divide its memory and time.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 1, maximum = 100, example = 50)]
    pub share_percent: Option<u32>,
    /// Only of this kind; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::GpuModel>)]
    pub model: Option<String>,
}
