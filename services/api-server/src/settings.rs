//! What whoever runs the API may choose.

use std::time::Duration;

/// Bounds and names of the API surface. Every bound has a default that suits one machine.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The URL that clients reach the service under, without a slash at its end: the `iss` of its tokens.
    pub external_url: String,
    /// The `aud` of its tokens.
    pub audience: String,
    /// The largest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long an answer may take; waits and streams have bounds of their own.
    pub answer_timeout: Duration,
    /// Requests that are being answered at once, waits not counted.
    pub max_requests: usize,
    /// Of these, how many may be token requests: a stranger's slow body must not keep everybody out.
    pub max_logins: usize,
    /// Waits and streams that are open at once.
    pub max_streams: usize,
    /// Of these, how many may be one tenant's.
    pub max_streams_per_tenant: usize,
    /// Programs that run in containers at once. Each may leave 2 MiB of output in memory.
    pub max_execs: usize,
    /// Of these, how many may be one tenant's.
    pub max_execs_per_tenant: usize,
    /// Where machines join; absent when this service takes no other machines.
    pub join: Option<JoinPoint>,
    /// How often an idle event stream says that it is alive.
    pub stream_keep_alive: Duration,
}

/// What a machine must know to join, besides its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinPoint {
    /// Where agents call the service, for example `https://10.0.0.1:7443`.
    pub url: String,
    /// `sha256:` and the hexadecimal SHA-256 of the certificate authority that the service proves itself with there.
    pub ca_fingerprint: String,
}

impl ApiSettings {
    /// The defaults, for a service at `external_url`.
    pub fn new(external_url: impl Into<String>) -> Self {
        let external_url = external_url.into();
        Self {
            external_url: external_url.trim_end_matches('/').to_owned(),
            audience: "wherry".to_owned(),
            max_body_bytes: 1024 * 1024,
            body_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            max_requests: 512,
            max_logins: 64,
            max_streams: 1_024,
            max_streams_per_tenant: 256,
            max_execs: 64,
            max_execs_per_tenant: 16,
            join: None,
            stream_keep_alive: Duration::from_secs(10),
        }
    }
}
