//! Sends what webhooks tell: signed as Standard Webhooks has it, to receivers that tenants name.
//!
//! A tenant could name a machine of ours: so a name is resolved here, and only addresses that [`Policy`] lets through are
//! connected to, at each connection anew. An address in the URL itself is looked at likewise. Redirects are not followed,
//! no proxy is asked, and of an answer no more than its status is kept: nobody reads our network through a webhook.
//!
//! Rejected: a check when the webhook is made alone (a name can lead elsewhere a minute later).

mod policy;
mod signature;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use wherry_model::{SecretText, Timestamp};

pub use policy::{Policy, Range, RangeError};
pub use signature::{SignatureError, sign};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(30);
/// Of an answer so much is read, so that its connection can be used again.
const MAX_ANSWER_BYTES: usize = 1_024;
/// The largest body that is sent.
const MAX_BODY_BYTES: usize = 256 * 1_024;
/// The media type of a CloudEvent in structured mode.
const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// Why a sender cannot be made.
#[derive(Debug, Error)]
#[error("no HTTP client can be made: {0}")]
pub struct SenderError(#[source] reqwest::Error);

/// A request.
#[derive(Debug)]
pub struct Message<'a> {
    /// Where to.
    pub url: &'a str,
    /// Names the message, the same at each try.
    pub id: &'a str,
    /// When it is signed.
    pub at: Timestamp,
    /// A CloudEvent as JSON.
    pub body: String,
    /// What it is signed with, each on its own.
    pub secrets: &'a [SecretText],
}

/// Why a message was not answered. What a tenant may read.
#[derive(Debug, Error)]
pub enum SendError {
    /// The URL is none that anything is sent to.
    #[error("{0}")]
    Url(String),
    /// No signature.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The body is too large.
    #[error("the message has more than {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// Not in time.
    #[error("no answer within {0} seconds")]
    Timeout(u64),
    /// No connection.
    #[error("no connection: {0}")]
    Connection(String),
    /// The answer is not HTTP, or broke off.
    #[error("no answer that can be read: {0}")]
    Answer(String),
}

/// Sends messages.
#[derive(Debug, Clone)]
pub struct Sender {
    client: reqwest::Client,
    policy: Policy,
    timeout: Duration,
}

impl Sender {
    /// One that waits `timeout` for a whole exchange.
    pub fn new(policy: Policy, timeout: Duration) -> Result<Self, SenderError> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Guarded(policy.clone()))
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE)
            .referer(false)
            .user_agent(concat!("wherry/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(SenderError)?;
        Ok(Self { client, policy, timeout })
    }

    /// Refuses a URL that nothing is ever sent to, with the reason for its owner.
    pub fn check_url(&self, url: &str) -> Result<(), String> {
        self.url(url).map(drop)
    }

    /// Sends a message once and gives the status of the answer.
    pub async fn send(&self, message: Message<'_>) -> Result<u16, SendError> {
        let url = self.url(message.url).map_err(SendError::Url)?;
        if message.body.len() > MAX_BODY_BYTES {
            return Err(SendError::TooLarge);
        }
        let seconds = message.at.grid_second();
        let signature = sign(message.secrets, message.id, seconds, message.body.as_bytes())?;
        let request = self
            .client
            .post(url)
            .header("content-type", MEDIA_TYPE)
            .header("webhook-id", message.id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", signature)
            .body(message.body);
        let mut response = request.send().await.map_err(|error| self.failure(&error))?;
        let status = response.status().as_u16();
        let mut left = MAX_ANSWER_BYTES;
        // The status is the answer: what comes of the rest changes nothing.
        while let Ok(Some(piece)) = response.chunk().await {
            match left.checked_sub(piece.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        Ok(status)
    }

    fn url(&self, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| format!("it is no URL: {error}"))?;
        match url.scheme() {
            "https" => {}
            "http" if self.policy.allows_http() => {}
            _ => return Err(self.policy.schemes().to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("write it without user, password and fragment: deliveries are signed instead".to_owned());
        }
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match literal {
            Ok(address) if !self.policy.allows(address) => Err(policy::REFUSED.to_owned()),
            Err(_) if host.is_empty() => Err("it names no host".to_owned()),
            _ => Ok(url),
        }
    }

    fn failure(&self, error: &reqwest::Error) -> SendError {
        if error.is_timeout() {
            return SendError::Timeout(self.timeout.as_secs());
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let cause = shortened(&cause.to_string());
        if error.is_connect() { SendError::Connection(cause) } else { SendError::Answer(cause) }
    }
}

/// Enough for a person.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Resolves names as the system does, and gives only addresses that are let through.
struct Guarded(Policy);

/// One sentence for a name that has no address and one whose addresses are refused: two would tell a tenant which names our own
/// resolver knows.
#[derive(Debug, Error)]
#[error("the name has no address that webhooks may reach: {}", policy::REFUSED)]
struct LookupError;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            // Port 0 stands for the port of the URL.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| LookupError)?;
            let let_through: Vec<SocketAddr> = found.filter(|address| policy.allows(address.ip())).collect();
            if let_through.is_empty() {
                return Err(LookupError.into());
            }
            Ok(Box::new(let_through.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn sender(allow: &[&str]) -> Sender {
        let allow = allow.iter().map(|range| range.parse().unwrap()).collect();
        Sender::new(Policy::new(true, allow, Vec::new()), Duration::from_secs(20)).unwrap()
    }

    fn message(url: &str) -> Message<'_> {
        let body = "{\"a\":1}".to_owned();
        Message { url, id: "m1", at: Timestamp::from_seconds(1_614_265_330), body, secrets: &[] }
    }

    /// A receiver that answers everything with this, and says what it was told.
    async fn receiver(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            let mut piece = [0_u8; 4096];
            while !heard.ends_with(b"{\"a\":1}") {
                let read = stream.read(&mut piece).await.unwrap();
                assert!(read > 0, "the request broke off");
                heard.extend_from_slice(&piece[..read]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(heard).unwrap()
        });
        (format!("http://127.0.0.1:{port}/hook?x=1"), heard)
    }

    #[tokio::test]
    async fn a_message_arrives_with_its_headers() {
        let (url, heard) = receiver("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(sender(&["127.0.0.0/8"]).send(message(&url)).await.unwrap(), 204);
        let heard = heard.await.unwrap().to_lowercase();
        assert!(heard.starts_with("post /hook?x=1 http/1.1\r\n"), "{heard}");
        for header in ["content-type: application/cloudevents+json", "webhook-id: m1", "webhook-timestamp: 1614265330"]
        {
            assert!(heard.contains(header), "{header} in {heard}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_followed() {
        let (url, heard) =
            receiver("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(sender(&["127.0.0.0/8"]).send(message(&url)).await.unwrap(), 302);
        heard.await.unwrap();
    }

    #[tokio::test]
    async fn an_endless_answer_is_read_no_further_than_its_bound() {
        let long = format!("HTTP/1.1 500 Oops\r\ncontent-length: 1000000000\r\n\r\n{}", "x".repeat(8_192));
        let (url, heard) = receiver(Box::leak(long.into_boxed_str())).await;
        assert_eq!(sender(&["127.0.0.0/8"]).send(message(&url)).await.unwrap(), 500);
        heard.await.unwrap();
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused_at_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let strict = sender(&[]);
        strict.check_url(&url).unwrap();
        let refused = strict.send(message(&url)).await.unwrap_err().to_string();
        assert!(refused.contains(policy::REFUSED), "{refused}");
        // No resolver is asked for a label that long.
        let unknown =
            strict.send(message(&format!("http://{}.invalid/", "a".repeat(64)))).await.unwrap_err().to_string();
        assert_eq!(unknown, refused, "who asks cannot tell a name that is refused from one that is not there");
        let nobody_came = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nobody_came.is_err());
    }

    #[test]
    fn urls_that_nothing_is_sent_to() {
        let strict = Sender::new(Policy::new(false, Vec::new(), Vec::new()), Duration::from_secs(1)).unwrap();
        strict.check_url("https://hooks.example/a?b=c").unwrap();
        strict.check_url("https://9.9.9.9:8443").unwrap();
        for (url, why) in [
            ("", "no URL"),
            ("hooks.example", "no URL"),
            ("http://hooks.example/", "https"),
            ("ftp://hooks.example/", "https"),
            ("https://user@hooks.example/", "without user"),
            ("https://:pass@hooks.example/", "without user"),
            ("https://hooks.example/#a", "fragment"),
            ("https://127.0.0.1/", policy::REFUSED),
            ("https://0x7f.1/", policy::REFUSED),
            ("https://2130706433/", policy::REFUSED),
            ("https://169.254.169.254/latest/meta-data", policy::REFUSED),
            ("https://[::1]/", policy::REFUSED),
            ("https://[::ffff:10.0.0.1]/", policy::REFUSED),
        ] {
            let refused = strict.check_url(url).expect_err(url);
            assert!(refused.contains(why), "{url}: {refused}");
        }
    }
}
