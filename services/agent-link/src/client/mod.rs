//! The agent's end of the wire.

mod answerer;
mod connector;
mod control;
mod conversation;
mod credential;
mod dial;
mod endpoint;
mod settings;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use wherry_agent_api::ControlError;
use wherry_model::{Clock, Entropy, NodeId};

use crate::refusal;
use crate::tls::{self, CONTROL_NAME, Credential};
use crate::wire::{LEAVING_HEADER, OLDEST_PROTOCOL, PROTOCOL_HEADER, path};
use dial::Answer;
pub(crate) use dial::Live;

pub use answerer::Answerer;
#[cfg(test)]
pub(crate) use answerer::MAX_ANSWERS;
#[cfg(test)]
pub(crate) use control::encode;
pub(crate) use control::read;
pub use credential::{CredentialError, NodeCredential};
pub use dial::DialError;
pub(crate) use dial::LinkBody;
pub(crate) use dial::dial;
pub use endpoint::{Endpoint, EndpointError};
pub use settings::LinkSettings;
pub(crate) use settings::uniform;

/// The most replicas that an agent remembers.
const MAX_ENDPOINTS: usize = 32;
/// How often a message is sent again by itself when its connection is lost. Every message may be repeated.
const MAX_ATTEMPTS: u32 = 4;

/// Is told of the replicas that the control plane names, to know them at the next start.
pub trait EndpointKeeper: Send + Sync {
    /// These are they, best first. Called whenever they change; may block for as long as writing a file takes.
    fn keep(&self, endpoints: &[String]);
}

/// Why there is no link.
#[derive(Debug, Error)]
pub enum LinkError {
    /// No endpoint at all.
    #[error("no endpoint of the control plane is known: join with `--join https://host:port`")]
    NoEndpoint,
    /// One that cannot be read.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up with the node's certificate")]
    Tls(#[from] rustls::Error),
}

/// What the link's parts share.
struct Shared {
    tls: Arc<ClientConfig>,
    credential: Arc<Credential>,
    node: NodeId,
    settings: LinkSettings,
    entropy: Arc<dyn Entropy>,
    keeper: Arc<dyn EndpointKeeper>,
    /// From the command line or the last start: tried after those that the control plane names.
    given: Vec<Endpoint>,
    /// Best first, never empty.
    endpoints: Mutex<Vec<Endpoint>>,
    live: watch::Sender<Option<Arc<Live>>>,
    renewed: Notify,
    /// Attempts to connect since something useful was answered.
    failures: AtomicU32,
    trouble: Mutex<Option<String>>,
}

impl Shared {
    fn endpoints(&self) -> Vec<Endpoint> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The control plane as an agent has it: [`wherry_agent_api::ControlPlane`] over the wire, from whichever replica answers.
///
/// A task keeps the connection until the link is dropped.
pub struct LinkClient {
    shared: Arc<Shared>,
    _ends_the_connector: DropGuard,
}

impl LinkClient {
    /// Begins to connect as the node of `credential`. `endpoints` are from the command line or from the last
    /// [`EndpointKeeper::keep`], best first. Must be called inside a tokio runtime.
    pub fn new(
        credential: &NodeCredential,
        endpoints: &[String],
        settings: LinkSettings,
        keeper: Arc<dyn EndpointKeeper>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, LinkError> {
        let endpoints: Vec<Endpoint> =
            endpoints.iter().take(MAX_ENDPOINTS).map(|text| text.parse()).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(LinkError::NoEndpoint);
        }
        let shown = Arc::new(Credential::new(credential.certified_key()));
        let tls = tls::client_config(credential.anchor(), Arc::clone(&shown), clock)?;
        let shared = Arc::new(Shared {
            tls,
            credential: shown,
            node: credential.node(),
            settings,
            entropy,
            keeper,
            given: endpoints.clone(),
            endpoints: Mutex::new(endpoints),
            live: watch::Sender::new(None),
            renewed: Notify::new(),
            failures: AtomicU32::new(0),
            trouble: Mutex::new(None),
        });
        let end = CancellationToken::new();
        tokio::spawn(connector::keep_connected(Arc::clone(&shared), end.clone()));
        Ok(Self { shared, _ends_the_connector: end.drop_guard() })
    }

    /// Shows another certificate from now on. What is under way ends on the connection where it began.
    pub fn exchange_credential(&self, credential: &NodeCredential) {
        self.shared.credential.exchange(credential.certified_key());
        self.shared.renewed.notify_one();
    }

    /// As which node it speaks.
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// The replica that it is connected to now: it has proved itself and taken our certificate.
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.shared.live.borrow().as_ref().map(|live| live.endpoint.clone())
    }

    /// Why it last could not connect, until something useful was answered.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the replicas that the control plane names. The given ones stay behind them: what the control plane says of
    /// itself may be unreachable from here.
    fn learn_endpoints(&self, named: &[String]) {
        let mut learnt: Vec<Endpoint> = Vec::new();
        for text in named.iter().take(MAX_ENDPOINTS) {
            match text.parse() {
                Ok(endpoint) if !learnt.contains(&endpoint) => learnt.push(endpoint),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the control plane named a replica");
                }
            }
        }
        if learnt.is_empty() {
            return;
        }
        let further =
            self.shared.given.iter().filter(|endpoint| !learnt.contains(endpoint)).cloned().collect::<Vec<_>>();
        learnt.extend(further);
        learnt.truncate(MAX_ENDPOINTS);
        {
            let mut present = self.shared.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
            if *present == learnt {
                return;
            }
            present.clone_from(&learnt);
        }
        let texts: Vec<String> = learnt.iter().map(ToString::to_string).collect();
        self.shared.keeper.keep(&texts);
    }

    async fn live(&self, deadline: Instant) -> Result<Arc<Live>, ControlError> {
        let mut live = self.shared.live.subscribe();
        loop {
            if let Some(live) = live.borrow_and_update().as_ref().filter(|live| !live.is_lost()) {
                return Ok(Arc::clone(live));
            }
            if !matches!(timeout_at(deadline, live.changed()).await, Ok(Ok(()))) {
                let trouble = self.trouble().unwrap_or_else(|| "no replica answers".to_owned());
                return Err(ControlError::Unavailable(trouble));
            }
        }
    }

    /// Sends a message and reads the answer; what a lost connection or a replica that is about to end leaves unanswered is
    /// sent again to the next one, until `time` is over.
    async fn ask(&self, message: &Message, time: Duration) -> Result<(Arc<Live>, Answer), ControlError> {
        let deadline = Instant::now() + time;
        let mut refused = ControlError::Unavailable("no replica answers".to_owned());
        for _ in 0..MAX_ATTEMPTS {
            let live = self.live(deadline).await?;
            let expectation = message.is_prompt.then(|| live.expect_answer());
            let Ok(exchanged) =
                timeout_at(deadline, live.exchange(message.request(self.shared.settings.protocol))).await
            else {
                live.cut_off();
                return Err(ControlError::Unavailable(format!("{} did not answer in time", live.endpoint)));
            };
            let answer = match exchanged {
                Ok(answer) => answer,
                Err(error) => {
                    live.leave();
                    refused = self.note(error.to_string());
                    continue;
                }
            };
            if let Some(expectation) = expectation {
                expectation.answered();
            }
            if live.spoken().is_some_and(|spoken| spoken < OLDEST_PROTOCOL) {
                return Err(ControlError::Refused(format!(
                    "{} is too old: upgrade the control plane first",
                    live.endpoint
                )));
            }
            if answer.status == StatusCode::SERVICE_UNAVAILABLE {
                refused = refusal::from_answer(answer.status, &answer.body);
                if answer.headers.contains_key(LEAVING_HEADER) {
                    live.leave();
                    continue;
                }
                if live.unwell_for() >= self.shared.settings.unwell && self.shared.endpoints().len() > 1 {
                    live.leave();
                }
                self.note(refused.to_string());
                return Err(refused);
            }
            live.good();
            self.shared.failures.store(0, Ordering::Relaxed);
            *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return Ok((live, answer));
        }
        Err(refused)
    }

    fn note(&self, trouble: String) -> ControlError {
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.clone());
        ControlError::Unavailable(trouble)
    }
}

/// What is sent, as often as it takes.
pub(crate) struct Message {
    method: Method,
    path: String,
    body: bytes::Bytes,
    /// Whether the answer comes at once: not so for a long poll.
    is_prompt: bool,
}

impl Message {
    fn ping() -> Self {
        Self { method: Method::GET, path: path::PING.to_owned(), body: bytes::Bytes::new(), is_prompt: true }
    }

    fn post(path: &str, body: Vec<u8>) -> Self {
        Self { method: Method::POST, path: path.to_owned(), body: body.into(), is_prompt: true }
    }

    fn long_poll(path: &str, have: Option<u64>) -> Self {
        let path = have.map_or_else(|| path.to_owned(), |have| format!("{path}?have={have}"));
        Self { method: Method::GET, path, body: bytes::Bytes::new(), is_prompt: false }
    }

    fn request(&self, protocol: u32) -> Request<LinkBody> {
        let body = Full::new(self.body.clone()).map_err(|never| match never {}).boxed_unsync();
        request(self.method.clone(), &self.path, protocol, body)
    }
}

/// A request as every replica wants it.
pub(crate) fn request(method: Method, path: &str, protocol: u32, body: LinkBody) -> Request<LinkBody> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    let uri = http::Uri::builder().scheme("https").authority(CONTROL_NAME).path_and_query(path).build();
    *request.uri_mut() = uri.unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(PROTOCOL_HEADER, HeaderValue::from(protocol));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}
