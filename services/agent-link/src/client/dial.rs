//! One connection to one replica.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Endpoint, LinkSettings};
use crate::tls::{ALPN_HTTP2, CONTROL_NAME};
use crate::wire::PROTOCOL_HEADER;

/// What is sent in requests.
pub(crate) type LinkBody = UnsyncBoxBody<Bytes, io::Error>;

/// The longest answer that is read: the desired state of a node with thousands of instances, or a whole zone.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// What is buffered of the answers of one connection.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// So many messages in a row without an answer, and the replica is taken for hung although its connection lives.
const MAX_UNANSWERED: u32 = 4;

/// A request on a connection can fail a moment before the connection has ended.
const ENDING: Duration = Duration::from_secs(1);

/// Why there is no connection, or no answer on it.
#[derive(Debug, Error)]
pub enum DialError {
    /// Nobody there.
    #[error("{endpoint} cannot be reached: {source}")]
    Connect {
        /// Which replica.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody is there who is not our control plane, or who does not take our certificate.
    #[error("{endpoint} and this node do not trust each other: {source}")]
    Trust {
        /// Which replica.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// Too slow.
    #[error("{endpoint} did not answer in time")]
    Late {
        /// Which replica.
        endpoint: String,
    },
    /// The connection ended.
    #[error("the connection to {endpoint} ended: {reason}")]
    Lost {
        /// Which replica.
        endpoint: String,
        /// Why.
        reason: String,
    },
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A connection that is, or was, alive.
pub(crate) struct Live {
    pub(crate) endpoint: Endpoint,
    sender: SendRequest<LinkBody>,
    lost: CancellationToken,
    cut: CancellationToken,
    unanswered: AtomicU32,
    /// The version that the replica speaks with us; 0 until it has answered.
    spoken: AtomicU32,
    last_good: Mutex<Instant>,
    /// Why it ended, when there was a reason: told before `lost`.
    ending: Arc<OnceLock<String>>,
}

/// Connects, proves who we are, and asks who answers.
pub(crate) async fn dial(
    endpoint: &Endpoint,
    tls: Arc<ClientConfig>,
    settings: &LinkSettings,
) -> Result<Live, DialError> {
    let name = || endpoint.to_string();
    let late = |_| DialError::Late { endpoint: name() };
    let stream = timeout(settings.connect, TcpStream::connect(endpoint.address())).await.map_err(late)?;
    let stream = stream.map_err(|source| DialError::Connect { endpoint: name(), source })?;
    let _ = stream.set_nodelay(true);
    let server = ServerName::try_from(CONTROL_NAME)
        .map_err(|error| DialError::Trust { endpoint: name(), source: io::Error::other(error) })?;
    let connecting = tokio_rustls::TlsConnector::from(tls).connect(server, stream);
    let stream = timeout(settings.handshake, connecting).await.map_err(late)?;
    let stream = stream.map_err(|source| DialError::Trust { endpoint: name(), source })?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
        let source = io::Error::other("it does not speak HTTP/2");
        return Err(DialError::Trust { endpoint: name(), source });
    }
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .keep_alive_interval(settings.ping)
        .keep_alive_timeout(settings.pong)
        .keep_alive_while_idle(true);
    let (sender, connection) = timeout(settings.handshake, builder.handshake(TokioIo::new(stream)))
        .await
        .map_err(late)?
        .map_err(|error| DialError::Lost { endpoint: name(), reason: in_full(&error) })?;
    let (lost, cut) = (CancellationToken::new(), CancellationToken::new());
    let (ended, cut_off, address) = (lost.clone(), cut.clone(), name());
    let ending = Arc::new(OnceLock::new());
    let why = Arc::clone(&ending);
    tokio::spawn(async move {
        let _says_so = ended.drop_guard();
        tokio::select! {
            biased;
            () = cut_off.cancelled() => {}
            result = connection => if let Err(error) = result {
                let error = in_full(&error);
                tracing::debug!(endpoint = %address, %error, "a connection to the control plane ended");
                let _ = why.set(error);
            },
        }
    });
    Ok(Live {
        endpoint: endpoint.clone(),
        sender,
        lost,
        cut,
        unanswered: AtomicU32::new(0),
        spoken: AtomicU32::new(0),
        last_good: Mutex::new(Instant::now()),
        ending,
    })
}

/// An error with its causes: hyper's own text says only where, not why.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl Live {
    /// Sends a request whose body goes on while the answer is read.
    pub(crate) async fn open(&self, request: Request<LinkBody>) -> Result<Response<Incoming>, DialError> {
        let lost = |reason| DialError::Lost { endpoint: self.endpoint.to_string(), reason };
        self.sender.clone().send_request(request).await.map_err(|error| lost(in_full(&error)))
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn exchange(&self, request: Request<LinkBody>) -> Result<Answer, DialError> {
        let lost = |reason: String| DialError::Lost { endpoint: self.endpoint.to_string(), reason };
        let response = self.sender.clone().send_request(request).await.map_err(|error| lost(in_full(&error)))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| lost(in_full(&*error)))?;
        self.note_version(&parts.headers);
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    }

    fn note_version(&self, headers: &HeaderMap) {
        if let Some(spoken) = headers.get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok()?.parse().ok()) {
            self.spoken.store(spoken, Ordering::Relaxed);
        }
    }

    /// The version that the replica speaks with us, once it has answered.
    pub(crate) fn spoken(&self) -> Option<u32> {
        match self.spoken.load(Ordering::Relaxed) {
            0 => None,
            spoken => Some(spoken),
        }
    }

    /// Nothing new is asked here any more; what is under way may end by itself.
    pub(crate) fn leave(&self) {
        self.lost.cancel();
    }

    /// What is under way fails now.
    pub(crate) fn cut_off(&self) {
        self.lost.cancel();
        self.cut.cancel();
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled() || self.sender.is_closed()
    }

    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Why it ended, in the words of the connection and not of a request on it, if it has within a moment.
    pub(crate) async fn ending(&self) -> Option<String> {
        let _ = timeout(ENDING, self.lost()).await;
        self.ending.get().cloned()
    }

    /// It answered something useful.
    pub(crate) fn good(&self) {
        *self.last_good.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// For how long it has answered nothing useful.
    pub(crate) fn unwell_for(&self) -> Duration {
        self.last_good.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// A message is on its way. Whoever asks may give up before the answer comes; a replica from which that happens too
    /// often is cut off.
    pub(crate) fn expect_answer(self: &Arc<Self>) -> Expectation {
        Expectation { live: Arc::clone(self), answered: false }
    }
}

/// See [`Live::expect_answer`].
pub(crate) struct Expectation {
    live: Arc<Live>,
    answered: bool,
}

impl Expectation {
    pub(crate) fn answered(mut self) {
        self.answered = true;
        self.live.unanswered.store(0, Ordering::Relaxed);
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        if !self.answered && self.live.unanswered.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_UNANSWERED {
            self.live.cut_off();
        }
    }
}
