//! Requests and answers.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use wherry_api_types::Problem;

use crate::error::ClientError;
use crate::token::{Credentials, Token};

/// How often a call that may be repeated is sent.
const MAX_ATTEMPTS: u32 = 4;

/// The wait before the second attempt; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest wait that a server's `Retry-After` is followed for.
const MAX_PAUSE: Duration = Duration::from_secs(5);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call may go without a byte; longer than any wait that the service grants.
const READ_TIMEOUT: Duration = Duration::from_secs(330);

/// A program may print nothing for days. That the service is still there is then asked of the connection itself.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Bytes of a body that is not understood that an error shows.
const EXCERPT_CHARS: usize = 200;

/// A service and a key for it. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) http: reqwest::Client,
    /// For output that is followed: without a limit between two bytes.
    patient_http: reqwest::Client,
    server: String,
    pub(crate) credentials: Credentials,
    pub(crate) token: Mutex<Option<Token>>,
}

/// A request that can be built again for each attempt.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) headers: Vec<(&'static str, &'a str)>,
    /// Whether sending it twice does no more than sending it once.
    pub(crate) repeatable: bool,
    /// Whether the answer may go without a byte for as long as it likes.
    pub(crate) may_be_silent: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn get(path: String) -> Self {
        Self::new(Method::GET, path, true)
    }

    pub(crate) fn new(method: Method, path: String, repeatable: bool) -> Self {
        Self { method, path, query: Vec::new(), body: None, headers: Vec::new(), repeatable, may_be_silent: false }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        // Wire types have string keys and plain values only, so writing them as JSON cannot fail.
        self.body = serde_json::to_vec(body).ok();
        self.headers.push(("content-type", "application/json"));
        self
    }
}

impl Client {
    /// A client of the service at `server`, for example `http://127.0.0.1:7070`. Nothing is sent yet.
    pub fn new(server: &str, credentials: Credentials) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(server.to_owned());
        let url = reqwest::Url::parse(server).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong());
        }
        let is_plain = url.scheme() == "http";
        let builder = || {
            let builder = reqwest::Client::builder();
            // Where no certificates are installed a client cannot be made, and this one needs none: it follows no redirect.
            let builder = if is_plain { builder.tls_certs_only([]) } else { builder };
            builder
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_keepalive(KEEP_ALIVE)
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("wherry-api-client/", env!("CARGO_PKG_VERSION")))
        };
        let no_tls = |source| ClientError::Tls { server: server.to_owned(), source };
        let http = builder().read_timeout(READ_TIMEOUT).build().map_err(no_tls)?;
        let patient_http = builder().build().map_err(no_tls)?;
        let server = server.trim_end_matches('/').to_owned();
        Ok(Self { inner: Arc::new(Inner { http, patient_http, server, credentials, token: Mutex::default() }) })
    }

    /// The service's address.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.inner.server)
    }

    pub(crate) fn away(&self, source: reqwest::Error) -> ClientError {
        ClientError::Away { server: self.inner.server.clone(), source }
    }

    pub(crate) async fn send_once(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        request.send().await.map_err(|source| self.away(source))
    }

    /// Sends a call, again where that is safe and promising, and returns the answer if it is a success.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Response, ClientError> {
        let mut pause = FIRST_PAUSE;
        let mut refused_token = false;
        for attempt in 1.. {
            let last = attempt >= MAX_ATTEMPTS || !call.repeatable;
            let sent = match self.token().await {
                Ok(token) => self.send_once(self.build(call, &token)).await,
                Err(error) => Err(error),
            };
            let failure = match sent {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) if answer.status().as_u16() == 401 && !refused_token => {
                    refused_token = true;
                    self.drop_token().await;
                    continue;
                }
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    let asked_for = retry_after(&answer);
                    let body = answer.bytes().await.unwrap_or_default();
                    let failure = self.understand_failure(status, &body);
                    // No capacity is an answer; an unavailable service is a moment.
                    if last || status != 503 || failure.code() == Some("capacity_unavailable") {
                        return Err(failure);
                    }
                    pause = asked_for.unwrap_or(pause).min(MAX_PAUSE);
                    failure
                }
                Err(failure @ ClientError::Away { .. }) => failure,
                // No token for now.
                Err(failure) if failure.status() == Some(503) => failure,
                Err(failure) => return Err(failure),
            };
            if last {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        unreachable!("the last attempt returns")
    }

    /// Sends a call that is answered with another protocol, once; again only with a new token, when the old one was refused.
    pub(crate) async fn send_for_upgrade(&self, call: &Call<'_>) -> Result<Response, ClientError> {
        let mut refused_token = false;
        loop {
            let token = self.token().await?;
            let answer = self.send_once(self.build(call, &token)).await?;
            match answer.status().as_u16() {
                101 => return Ok(answer),
                401 if !refused_token => {
                    refused_token = true;
                    self.drop_token().await;
                }
                status => {
                    let body = answer.bytes().await.unwrap_or_default();
                    return Err(self.understand_failure(status, &body));
                }
            }
        }
    }

    /// Sends a call and reads the JSON of its answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, ClientError> {
        let answer = self.send(&call).await?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(|source| self.away(source))?;
        serde_json::from_slice(&body).map_err(|_| self.understand_failure(status, &body))
    }

    fn build(&self, call: &Call<'_>, token: &str) -> RequestBuilder {
        let url = self.url(&call.path);
        let url = match reqwest::Url::parse_with_params(&url, &call.query) {
            Ok(with_query) if !call.query.is_empty() => with_query.to_string(),
            _ => url,
        };
        let http = if call.may_be_silent { &self.inner.patient_http } else { &self.inner.http };
        let mut request = http.request(call.method.clone(), url).bearer_auth(token);
        for (name, value) in &call.headers {
            request = request.header(*name, *value);
        }
        match &call.body {
            Some(body) => request.body(body.clone()),
            None => request,
        }
    }

    pub(crate) fn understand_failure(&self, status: u16, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(_) => ClientError::Unexpected {
                server: self.inner.server.clone(),
                status,
                excerpt: String::from_utf8_lossy(body).chars().take(EXCERPT_CHARS).collect(),
            },
        }
    }
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A path segment, escaped: what a user types is never a path. `.` and `..` mean a path even when they are escaped; the
/// space behind them makes them a name that nothing has.
pub(crate) fn segment(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            escaped.push('%');
            escaped.extend(digits.map(char::from));
        }
    }
    if matches!(text, "." | "..") {
        escaped.push_str("%20");
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cannot_leave_their_place() {
        assert_eq!(segment("web-1"), "web-1");
        assert_eq!(segment("../x?y#z"), "..%2Fx%3Fy%23z");
        assert_eq!(segment("é"), "%C3%A9");
        for name in [".", "..", "a/../../b"] {
            let url = reqwest::Url::parse(&format!("http://x/v1/{}/end", segment(name))).unwrap();
            assert_eq!(url.path_segments().unwrap().count(), 3, "{name} leaves its place: {url}");
        }
    }

    #[test]
    fn addresses_are_checked() {
        let key = || Credentials { key_id: "k".into(), key_secret: "s".into() };
        assert!(Client::new("http://127.0.0.1:1/", key()).is_ok());
        for wrong in ["", "127.0.0.1:7070", "ftp://x", "http://"] {
            assert!(matches!(Client::new(wrong, key()), Err(ClientError::Address(_))), "{wrong}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_said_so() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let key = Credentials { key_id: "k".into(), key_secret: "s".into() };
        let client = Client::new(&format!("http://127.0.0.1:{port}"), key).unwrap();
        let error = client.projects().await.unwrap_err();
        assert!(matches!(error, ClientError::Away { .. }), "{error}");
    }
}
