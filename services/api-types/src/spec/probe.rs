//! What is asked of a program to learn how it is, and what is done at its start and before its end.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{number, text};

/// A check that is repeated: exactly one of `exec`, `http` and `tcp`. Fields and defaults are those of Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"http": {"port": 8080, "path": "/healthz"}, "period_seconds": 5})))]
pub struct Probe {
    /// Runs a program; right when it ends with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCheck>,
    /// Asks by HTTP; right when the status is 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// Opens a connection; right when it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// From the start of the container to the first time; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 0, maximum = 3600)]
    pub initial_delay_seconds: Option<u32>,
    /// From one time to the next; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 1, maximum = 3600)]
    pub period_seconds: Option<u32>,
    /// After which a check without an answer has failed; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 1, maximum = 3600)]
    pub timeout_seconds: Option<u32>,
    /// Successes in a row after which it is well again; 1 when absent, and for liveness and startup.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 1, maximum = 1000)]
    pub success_threshold: Option<u32>,
    /// Failures in a row after which it is not well any more; 3 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 1, maximum = 1000)]
    pub failure_threshold: Option<u32>,
}

/// One thing that is done: exactly one of `exec`, `http` and `tcp`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"exec": {"command": ["/bin/drain"]}})))]
pub struct Hook {
    /// Runs a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCheck>,
    /// Asks by HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// Opens a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
}

/// A program in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecCheck {
    /// Program and arguments; no shell is added.
    #[schema(value_type = Vec<text::PlainText>, min_items = 1, max_items = 256)]
    pub command: Vec<String>,
}

/// A request to the instance's own address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// Port of the container.
    #[serde(deserialize_with = "number::whole")]
    #[schema(minimum = 1, maximum = 65535, example = 8080)]
    pub port: u16,
    /// Path and query; `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::UrlPath>)]
    pub path: Option<String>,
    /// `http` when absent. The certificate of `https` is not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<HttpScheme>,
    /// Further headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub headers: Vec<HttpHeader>,
}

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpScheme {
    /// In the clear.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

/// One header of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpHeader {
    /// Its name.
    #[schema(value_type = text::HeaderName)]
    pub name: String,
    /// Its value.
    #[schema(value_type = text::HeaderValue)]
    pub value: String,
}

/// A connection to the instance's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpCheck {
    /// Port of the container.
    #[serde(deserialize_with = "number::whole")]
    #[schema(minimum = 1, maximum = 65535, example = 8080)]
    pub port: u16,
}
