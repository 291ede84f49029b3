//! Answers what the control plane asks of this node: waits for calls and dials back to whoever made each.
//!
//! Every answer has a connection of its own, so that somebody who reads slowly holds up nobody else, and ending it ends
//! everything that belongs to it. It goes to a replica that proves itself with a certificate of the same authority, whatever
//! address the call names. The question is put to the node only after the replica has taken the ticket.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Method, StatusCode};
use http_body::Frame as BodyFrame;
use http_body_util::{BodyExt, Limited, StreamBody};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wherry_agent_api::{
    Call, ControlError, ExecOutcome, ExecQuery, InstanceStats, LogQuery, LogStream, NodeError, NodeServices, Question,
    Session, SessionQuery, StatsQuery,
};

use super::conversation;
use super::dial::{LinkBody, Live, dial};
use super::settings::uniform;
use super::{Endpoint, LinkClient, Shared, request};
use crate::frames::{End, Frame, FrameReader, pieces};
use crate::refusal;
use crate::server::generation_of;
use crate::wire::{GENERATION_HEADER, INSTANCE_HEADER, path};

/// Answers at once. A replica grants a few connections more to one node.
pub(crate) const MAX_ANSWERS: usize = 96;
/// Refusals at once, when there are that many answers.
const MAX_REFUSALS: usize = 8;
/// The shortest time between two questions for calls that brought nothing, and after an error.
const PAUSE: Duration = Duration::from_secs(1);
/// The same where the node is not taken, or not any more.
const PAUSE_WHEN_REFUSED: Duration = Duration::from_secs(15);
/// How often a replica is dialled for one answer.
const DIALS: u32 = 3;
/// Bytes of a refusal that are read.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// Answers calls for as long as it is not stopped.
#[derive(Debug)]
pub struct Answerer;

impl Answerer {
    /// Begins to ask for calls on `link` and to answer them by `services`. The task ends after `stop`, with all answers that
    /// are under way. Must be called inside a tokio runtime.
    pub fn start(link: Arc<LinkClient>, services: Arc<dyn NodeServices>, stop: CancellationToken) -> JoinHandle<()> {
        tokio::spawn(async move {
            let answers = TaskTracker::new();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = take_calls(&link, &services, &answers, &stop) => {}
            }
            answers.close();
            answers.wait().await;
        })
    }
}

async fn take_calls(
    link: &LinkClient,
    services: &Arc<dyn NodeServices>,
    answers: &TaskTracker,
    stop: &CancellationToken,
) {
    let (room, room_to_refuse) = (Arc::new(Semaphore::new(MAX_ANSWERS)), Arc::new(Semaphore::new(MAX_REFUSALS)));
    loop {
        let asked = Instant::now();
        let found = link.calls().await;
        if let Err(error) = &found {
            tracing::debug!(%error, "calls cannot be asked for");
        }
        let pause = match &found {
            Ok(calls) if !calls.is_empty() => Duration::ZERO,
            Ok(_) | Err(ControlError::Unavailable(_)) => PAUSE,
            Err(_) => PAUSE_WHEN_REFUSED,
        };
        let calls = found.unwrap_or_default();
        tokio::time::sleep_until(asked + pause / 2 + uniform(pause / 2, &*link.shared.entropy)).await;
        for call in calls {
            let Some((ticket, reply_to)) = way_back(&call, link) else { continue };
            let asked = asked_for(&call);
            let (services, place): (Arc<dyn NodeServices>, _) = match place(&room) {
                Some(place) => (Arc::clone(services), place),
                None => match place(&room_to_refuse) {
                    Some(place) => (Arc::new(Busy), place),
                    None => continue,
                },
            };
            let (shared, stop) = (Arc::clone(&link.shared), stop.clone());
            answers.spawn(async move {
                let _place = place;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = answer(&shared, &ticket, &reply_to, asked, services) => {}
                }
            });
        }
    }
}

fn place(room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(room).try_acquire_owned().ok()
}

/// Where to go with which ticket: read apart from the question, which may be one that this version does not know.
fn way_back(call: &Value, link: &LinkClient) -> Option<(String, Endpoint)> {
    let text = |field: &str| call.get(field).and_then(Value::as_str);
    let node = text("node")?;
    if node != link.node().to_string() {
        tracing::warn!(node, "a call for another node came here and is not answered");
        return None;
    }
    let reply_to = text("reply_to")?.parse();
    let reply_to =
        reply_to.inspect_err(|error| tracing::warn!(%error, "a call says not where to dial back to")).ok()?;
    Some((text("ticket")?.to_owned(), reply_to))
}

/// What is asked, and what the answer is bound to.
struct Asked {
    question: Option<Question>,
    instance: String,
    generation: Option<String>,
}

fn asked_for(call: &Value) -> Asked {
    if let Ok(Call { question, .. }) = serde_json::from_value(call.clone()) {
        let instance = question.instance().to_string();
        let generation = generation_of(&question).map(|generation| generation.0.to_string());
        return Asked { question: Some(question), instance, generation };
    }
    let field = |name: &str| call.get("question").and_then(|question| question.get(name));
    Asked {
        question: None,
        instance: field("instance").and_then(Value::as_str).unwrap_or_default().to_owned(),
        generation: field("generation").and_then(Value::as_u64).map(|number| number.to_string()),
    }
}

async fn answer(shared: &Shared, ticket: &str, reply_to: &Endpoint, asked: Asked, services: Arc<dyn NodeServices>) {
    let Some(live) = dial_back(shared, reply_to).await else { return };
    // Whatever happens, nothing is left of it.
    let _end = CutOffAtEnd(&live);
    let (frames, sent) = mpsc::channel::<Bytes>(1);
    let body = stream::unfold(sent, |mut sent| async {
        let bytes = sent.recv().await?;
        Some((Ok::<_, std::io::Error>(BodyFrame::data(bytes)), sent))
    });
    let body: LinkBody = StreamBody::new(body).boxed_unsync();
    let Some(request) = answer_request(shared, ticket, &asked, body) else { return };
    let response = match timeout(shared.settings.message, live.open(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return tracing::warn!(%error, "a call cannot be answered"),
        Err(_) => {
            return tracing::warn!(%reply_to, "a call cannot be answered: the replica does not take the ticket in time");
        }
    };
    let status = response.status();
    let still_read = response.into_body();
    if status != StatusCode::OK {
        let body = Limited::new(still_read, MAX_REFUSAL_BYTES).collect();
        let body = timeout(shared.settings.message, body).await.ok().and_then(Result::ok);
        let error = refusal::from_answer(status, &body.map(http_body_util::Collected::to_bytes).unwrap_or_default());
        return tracing::debug!(%reply_to, %error, "a call is not to be answered any more");
    }
    let mut asker = FrameReader::new(axum::body::Body::new(still_read));
    let answered = match asked.question {
        Some(Question::Session(query)) => conversation::produce(query, &*services, &frames, &mut asker).await,
        question => tokio::select! {
            biased;
            () = gone(&mut asker) => false,
            () = produce(question, services, &frames) => true,
        },
    };
    // What was sent last is on its way; the replica says when it has it.
    drop(frames);
    if answered {
        gone(&mut asker).await;
    }
}

/// Waits until the answer is not read any more.
async fn gone(asker: &mut FrameReader) {
    while asker.next().await.is_ok() {}
}

struct CutOffAtEnd<'a>(&'a Live);

impl Drop for CutOffAtEnd<'_> {
    fn drop(&mut self) {
        self.0.cut_off();
    }
}

async fn dial_back(shared: &Shared, reply_to: &Endpoint) -> Option<Live> {
    for attempt in 1..=DIALS {
        match dial(reply_to, Arc::clone(&shared.tls), &shared.settings).await {
            Ok(live) => return Some(live),
            Err(error) => tracing::warn!(attempt, %error, "a call cannot be answered"),
        }
        if attempt < DIALS {
            tokio::time::sleep(uniform(shared.settings.first_wait, &*shared.entropy)).await;
        }
    }
    None
}

fn answer_request(shared: &Shared, ticket: &str, asked: &Asked, body: LinkBody) -> Option<http::Request<LinkBody>> {
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if ticket.is_empty() || !is_plain(ticket) {
        tracing::warn!("a call has a ticket that is none");
        return None;
    }
    let mut request = request(Method::POST, &format!("{}{ticket}", path::ANSWER), shared.settings.protocol, body);
    let headers = request.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(INSTANCE_HEADER, HeaderValue::from_str(&asked.instance).ok()?);
    if let Some(generation) = &asked.generation {
        headers.insert(GENERATION_HEADER, HeaderValue::from_str(generation).ok()?);
    }
    Some(request)
}

/// Sends the answer, waiting for each frame to be taken. Ends early when nobody takes them any more.
async fn produce(question: Option<Question>, services: Arc<dyn NodeServices>, frames: &mpsc::Sender<Bytes>) {
    let ended = match question {
        Some(Question::Logs(query) | Question::LogsSince(query)) => {
            produce_output(services.logs(query).await, frames).await
        }
        Some(Question::Exec(query)) => produce_outcome(services.exec(query).await, frames).await,
        Some(Question::Stats(query)) => produce_stats(services.stats(query).await, frames).await,
        Some(Question::Session(_)) | None => {
            Some(Frame::Failed(NodeError::Unavailable("this agent is too old for the question".to_owned())))
        }
    };
    if let Some(last) = ended {
        let _ = frames.send(last.encode()).await;
    }
}

async fn produce_output(stream: Result<LogStream, NodeError>, frames: &mpsc::Sender<Bytes>) -> Option<Frame> {
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error) => return Some(Frame::Failed(error)),
    };
    frames.send(Frame::Begun.encode()).await.ok()?;
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(bytes) => send_all(bytes, Frame::Output, frames).await?,
            Err(error) => return Some(Frame::Failed(error)),
        }
    }
    Some(Frame::Ended(End::default()))
}

async fn produce_outcome(outcome: Result<ExecOutcome, NodeError>, frames: &mpsc::Sender<Bytes>) -> Option<Frame> {
    let ExecOutcome { exit_code, mut stdout, mut stderr, mut truncated } = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Some(Frame::Failed(error)),
    };
    for output in [&mut stdout, &mut stderr] {
        truncated |= output.len() > ExecOutcome::MAX_OUTPUT_BYTES;
        output.truncate(ExecOutcome::MAX_OUTPUT_BYTES);
    }
    send_all(stdout, Frame::Stdout, frames).await?;
    send_all(stderr, Frame::Stderr, frames).await?;
    Some(Frame::Ended(End { exit_code: Some(exit_code), truncated }))
}

async fn produce_stats(stats: Result<Vec<InstanceStats>, NodeError>, frames: &mpsc::Sender<Bytes>) -> Option<Frame> {
    let document = stats.and_then(|stats| {
        serde_json::to_vec(&stats).map_err(|error| NodeError::Unavailable(format!("no answer can be made: {error}")))
    });
    match document {
        Ok(document) => {
            send_all(document, Frame::Output, frames).await?;
            Some(Frame::Ended(End::default()))
        }
        Err(error) => Some(Frame::Failed(error)),
    }
}

async fn send_all(bytes: Vec<u8>, frame: fn(Bytes) -> Frame, frames: &mpsc::Sender<Bytes>) -> Option<()> {
    for piece in pieces(bytes) {
        frames.send(frame(piece).encode()).await.ok()?;
    }
    Some(())
}

/// A node that answers too much already.
struct Busy;

impl Busy {
    fn error() -> NodeError {
        NodeError::Unavailable("this node answers as many questions as it can".to_owned())
    }
}

#[async_trait]
impl NodeServices for Busy {
    async fn logs(&self, _query: LogQuery) -> Result<LogStream, NodeError> {
        Err(Self::error())
    }

    async fn exec(&self, _query: ExecQuery) -> Result<ExecOutcome, NodeError> {
        Err(Self::error())
    }

    async fn session(&self, _query: SessionQuery) -> Result<Session, NodeError> {
        Err(Self::error())
    }

    async fn stats(&self, _query: StatsQuery) -> Result<Vec<InstanceStats>, NodeError> {
        Err(Self::error())
    }
}
