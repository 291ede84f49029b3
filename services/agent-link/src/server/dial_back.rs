//! Questions to nodes that listen on nothing: a [`Call`] with a one-time ticket goes out over the board, the node dials back
//! to this replica with it.
//!
//! Invariants:
//! - a ticket is 256 random bits, is kept as a hash, works once, for [`Call::LIFETIME`], at this replica, with the certificate
//!   of the node that was asked, for the instance and the generation of the question;
//! - one that is shown wrongly is not used up: who stole it cannot even be in the way;
//! - a question is answered once. A call is handed out once and can be lost on its way, with the replica or the connection
//!   that had it: a question that is not answered soon is called again, with another ticket;
//! - who asked and went away is not waited for: its tickets are of no use from then on;
//! - of an answer, and of what is said to a node in a conversation, no more is held here than one frame and what the connection's window allows.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::sink;
use futures_util::stream::{self, StreamExt as _};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use wherry_agent_api::{
    Call, CallBoard, ExecOutcome, ExecQuery, InstanceStats, LogQuery, LogStream, NodeDirectory, NodeError,
    NodeServices, Question, Session, SessionInput, SessionOutput, SessionQuery, StatsQuery,
};
use wherry_model::{Clock, Entropy, Generation, InstanceId, NodeId, Timestamp};

use super::limits::Shares;
use crate::frames::{CutOff, End, Frame, FrameReader};

/// Questions of this replica that wait for nodes at once.
const MAX_WAITING: usize = 1_024;
/// Of them for one node: a node answers only so many at once.
const MAX_WAITING_FOR_A_NODE: usize = 64;
/// After so long without an answer the node is called again.
const CALL_AGAIN: Duration = Duration::from_secs(15);
/// How long the board may take.
const POST: Duration = Duration::from_secs(10);
/// How long a node may take to say whether it has the output that is asked for.
const BEGIN: Duration = Duration::from_secs(30);
/// How much longer than a program's own time its answer may take.
const PROGRAM_WAY: Duration = Duration::from_secs(30);

type TicketHash = [u8; 32];

/// The way from this replica to any node of the fleet.
pub struct DialBack {
    board: Arc<dyn CallBoard>,
    reply_to: String,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tickets: Mutex<HashMap<TicketHash, Ticket>>,
    /// Questions that wait, in all and by node.
    room: Semaphore,
    shares: Shares,
    myself: Weak<Self>,
}

/// What a ticket is good for.
struct Ticket {
    node: NodeId,
    instance: InstanceId,
    /// Where the question is about one.
    generation: Option<Generation>,
    expires_at: Timestamp,
    answer: Arc<Slot>,
}

/// Where the answer goes; empty once a node has dialled back.
struct Slot(Mutex<Option<oneshot::Sender<Answer>>>);

/// A node has dialled back.
struct Answer {
    body: Body,
    read: ReadToEnd,
    say: mpsc::Sender<Bytes>,
}

/// Whoever asked, as the answer has it.
pub(super) struct Asker {
    /// Resolves when the answer is not read any more.
    pub(super) is_read: oneshot::Receiver<std::convert::Infallible>,
    /// What is said to the node meanwhile; its end says that there is no more.
    pub(super) says: mpsc::Receiver<Bytes>,
}

/// Held as long as somebody reads the answer.
pub(super) type ReadToEnd = oneshot::Sender<std::convert::Infallible>;

/// A ticket that was right, and is used.
pub(super) struct Claim(oneshot::Sender<Answer>);

/// Why a ticket opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TicketError {
    /// It never existed, was used, has expired, or whoever asked has gone.
    Unknown,
    /// It was made for another node, instance or generation.
    Foreign,
}

impl std::fmt::Debug for DialBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DialBack")
            .field("reply_to", &self.reply_to)
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl DialBack {
    /// Asks over `board`; nodes dial back to `reply_to`, the agents' port of this replica as they reach it,
    /// `https://host:port`. The same value goes into [`super::Services`] of that port.
    pub fn new(
        board: Arc<dyn CallBoard>,
        reply_to: String,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            board,
            reply_to,
            clock,
            entropy,
            tickets: Mutex::default(),
            room: Semaphore::new(MAX_WAITING),
            shares: Shares::new(MAX_WAITING_FOR_A_NODE),
            myself: Weak::clone(myself),
        })
    }

    /// The same as a directory that does not keep it alive: for the control plane, which is itself the board.
    pub fn directory(&self) -> Arc<dyn NodeDirectory> {
        Arc::new(Directory(Weak::clone(&self.myself)))
    }

    /// How many questions wait for a node that has not dialled back yet.
    pub fn waiting(&self) -> usize {
        MAX_WAITING - self.room.available_permits()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<TicketHash, Ticket>> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses a ticket, if all is right.
    pub(super) fn claim(
        &self,
        ticket: &str,
        node: NodeId,
        instance: Option<InstanceId>,
        generation: Option<Generation>,
    ) -> Result<Claim, TicketError> {
        let hash: TicketHash = Sha256::digest(ticket.as_bytes()).into();
        let mut table = self.table();
        let known = table.get(&hash).ok_or(TicketError::Unknown)?;
        if known.expires_at <= self.clock.now() {
            table.remove(&hash);
            return Err(TicketError::Unknown);
        }
        if known.node != node || Some(known.instance) != instance || known.generation != generation {
            return Err(TicketError::Foreign);
        }
        let used = table.remove(&hash).ok_or(TicketError::Unknown)?;
        used.answer.take().map(Claim).ok_or(TicketError::Unknown)
    }

    /// Calls the node until it has dialled back. Nothing is left behind when this is dropped.
    async fn ask(&self, node: NodeId, question: Question) -> Result<AnswerReader, NodeError> {
        let too_many = || unavailable("too many questions wait for nodes");
        let _room = self.room.try_acquire().map_err(|_| too_many())?;
        let _share = self.shares.take(node).ok_or_else(too_many)?;
        let (answer, mut answered) = oneshot::channel();
        let slot = Arc::new(Slot(Mutex::new(Some(answer))));
        let mut tickets = Tickets { dial_back: self, hashes: Vec::new() };
        let deadline = Instant::now() + Call::LIFETIME;
        while Instant::now() < deadline {
            let ticket = tickets.another(node, &question, &slot);
            let call = Call {
                ticket,
                node,
                reply_to: self.reply_to.clone(),
                expires_at: self.clock.now().plus(Call::LIFETIME),
                question: question.clone(),
            };
            match timeout(POST, self.board.post_call(call)).await {
                Ok(Ok(())) => {}
                // What was called before may be answered yet.
                trouble if tickets.hashes.len() > 1 => {
                    tracing::debug!(%node, ?trouble, "a node that has not answered cannot be called again");
                }
                Ok(Err(error)) => return Err(NodeError::Unavailable(format!("the node cannot be called: {error}"))),
                Err(_) => return Err(unavailable("the node cannot be called in time")),
            }
            let again = (Instant::now() + CALL_AGAIN).min(deadline);
            match timeout_at(again, &mut answered).await {
                Ok(Ok(Answer { body, read, say })) => {
                    return Ok(AnswerReader { _read: read, frames: FrameReader::new(body), say: Some(say) });
                }
                Ok(Err(_)) => break,
                Err(_) => {}
            }
        }
        Err(unavailable("the node did not answer the call"))
    }

    fn ticket(&self) -> (String, TicketHash) {
        let mut bits = [0_u8; 32];
        self.entropy.fill(&mut bits);
        let ticket = URL_SAFE_NO_PAD.encode(bits);
        let hash = Sha256::digest(ticket.as_bytes()).into();
        (ticket, hash)
    }
}

/// The generation that a question is bound to: the numbers of runs tell output of one from that of another.
pub(crate) const fn generation_of(question: &Question) -> Option<Generation> {
    match question {
        Question::Logs(_) | Question::LogsSince(_) => None,
        Question::Exec(query) => Some(query.generation),
        Question::Session(query) => Some(query.generation),
        Question::Stats(query) => Some(query.generation),
    }
}

/// The tickets of one question; taken away from who comes later when it is dropped.
struct Tickets<'a> {
    dial_back: &'a DialBack,
    hashes: Vec<TicketHash>,
}

impl Tickets<'_> {
    fn another(&mut self, node: NodeId, question: &Question, answer: &Arc<Slot>) -> String {
        let (ticket, hash) = self.dial_back.ticket();
        let known = Ticket {
            node,
            instance: question.instance(),
            generation: generation_of(question),
            expires_at: self.dial_back.clock.now().plus(Call::LIFETIME),
            answer: Arc::clone(answer),
        };
        self.dial_back.table().insert(hash, known);
        self.hashes.push(hash);
        ticket
    }
}

impl Drop for Tickets<'_> {
    fn drop(&mut self) {
        let mut table = self.dial_back.table();
        for hash in &self.hashes {
            table.remove(hash);
        }
    }
}

impl Slot {
    fn take(&self) -> Option<oneshot::Sender<Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Claim {
    /// Hands the body to whoever asked; none if nobody waits.
    pub(super) fn answer(self, body: Body) -> Option<Asker> {
        let (read, is_read) = oneshot::channel();
        let (say, says) = mpsc::channel(1);
        self.0.send(Answer { body, read, say }).ok().map(|()| Asker { is_read, says })
    }
}

impl NodeDirectory for DialBack {
    fn services(&self, node: NodeId) -> Arc<dyn NodeServices> {
        self.directory().services(node)
    }
}

struct Directory(Weak<DialBack>);

impl NodeDirectory for Directory {
    fn services(&self, node: NodeId) -> Arc<dyn NodeServices> {
        Arc::new(RemoteNode { dial_back: Weak::clone(&self.0), node })
    }
}

/// One node as this replica asks it.
struct RemoteNode {
    dial_back: Weak<DialBack>,
    node: NodeId,
}

impl RemoteNode {
    async fn ask(&self, question: Question) -> Result<AnswerReader, NodeError> {
        let dial_back = self.dial_back.upgrade();
        dial_back.ok_or_else(|| unavailable("this replica is about to end"))?.ask(self.node, question).await
    }
}

#[async_trait]
impl NodeServices for RemoteNode {
    async fn logs(&self, query: LogQuery) -> Result<LogStream, NodeError> {
        let question = if query.since.is_some() { Question::LogsSince } else { Question::Logs };
        let mut answer = self.ask(question(query)).await?;
        match timeout(BEGIN, answer.frames.next()).await {
            Ok(Ok(Frame::Begun)) => Ok(output(answer)),
            Ok(Ok(Frame::Failed(error))) => Err(error),
            Ok(Ok(_)) => Err(garbage()),
            Ok(Err(cut_off)) => Err(cut_off.into()),
            Err(_) => Err(unavailable("the node took too long to begin its answer")),
        }
    }

    async fn exec(&self, query: ExecQuery) -> Result<ExecOutcome, NodeError> {
        let patience = Duration::from_secs(u64::from(query.timeout_seconds)).saturating_add(PROGRAM_WAY);
        let answer = self.ask(Question::Exec(query)).await?;
        let outcome = timeout(patience, outcome(answer)).await;
        outcome.unwrap_or_else(|_| Err(unavailable("the node took too long to answer")))
    }

    async fn session(&self, query: SessionQuery) -> Result<Session, NodeError> {
        let mut answer = self.ask(Question::Session(query)).await?;
        match timeout(BEGIN, answer.frames.next()).await {
            Ok(Ok(Frame::Begun)) => Ok(conversation(answer)),
            Ok(Ok(Frame::Failed(error))) => Err(error),
            Ok(Ok(_)) => Err(garbage()),
            Ok(Err(cut_off)) => Err(cut_off.into()),
            Err(_) => Err(unavailable("the node took too long to begin the conversation")),
        }
    }

    async fn stats(&self, query: StatsQuery) -> Result<Vec<InstanceStats>, NodeError> {
        let answer = self.ask(Question::Stats(query)).await?;
        let document = timeout(BEGIN, document(answer)).await;
        let document = document.unwrap_or_else(|_| Err(unavailable("the node took too long to answer")))?;
        serde_json::from_slice(&document).map_err(|_| garbage())
    }
}

/// An answer as it comes. The node is told when this is dropped.
struct AnswerReader {
    _read: ReadToEnd,
    frames: FrameReader,
    /// Goes last: that it has gone means that there is no more to say, which is wrong of who is gone.
    say: Option<mpsc::Sender<Bytes>>,
}

/// The node is told when the output is dropped.
fn conversation(mut answer: AnswerReader) -> Session {
    let say = answer.say.take();
    let output = stream::unfold(Some(answer), |answer| async {
        let mut answer = answer?;
        let said = match answer.frames.next().await {
            Ok(Frame::Stdout(bytes)) => Ok(SessionOutput::Stdout(bytes.into())),
            Ok(Frame::Stderr(bytes)) => Ok(SessionOutput::Stderr(bytes.into())),
            Ok(Frame::Ended(End { exit_code: Some(code), .. })) => {
                return Some((Ok(SessionOutput::Exited(code)), None));
            }
            Ok(Frame::Failed(error)) => Err(error),
            Ok(_) => Err(garbage()),
            Err(cut_off) => Err(cut_off.into()),
        };
        let next = said.is_ok().then_some(answer);
        Some((said, next))
    });
    let input = sink::unfold(say, |say, message: SessionInput| async move {
        let over = || unavailable("the conversation is over");
        let to = say.as_ref().ok_or_else(over)?;
        for frame in said(message) {
            to.send(frame.encode()).await.map_err(|_| over())?;
        }
        Ok(say)
    });
    Session { input: Pin::from(Box::new(input) as Box<_>), output: output.boxed() }
}

/// What goes over the wire, in pieces that every agent takes.
fn said(message: SessionInput) -> Vec<Frame> {
    match message {
        SessionInput::Data(bytes) => {
            let bytes = Bytes::from(bytes);
            let starts = (0..bytes.len()).step_by(Session::MAX_MESSAGE_BYTES);
            let piece = |start: usize| bytes.slice(start..bytes.len().min(start + Session::MAX_MESSAGE_BYTES));
            starts.map(|start| Frame::Input(piece(start))).collect()
        }
        SessionInput::End => vec![Frame::InputEnded],
        SessionInput::Resize(size) => vec![Frame::Resized(size)],
    }
}

fn output(answer: AnswerReader) -> LogStream {
    let chunks = stream::unfold(Some(answer), |answer| async {
        let mut answer = answer?;
        match answer.frames.next().await {
            Ok(Frame::Output(bytes)) => Some((Ok(bytes.into()), Some(answer))),
            Ok(Frame::Ended(_)) => None,
            Ok(Frame::Failed(error)) => Some((Err(error), None)),
            Ok(_) => Some((Err(garbage()), None)),
            Err(cut_off) => Some((Err(cut_off.into()), None)),
        }
    });
    chunks.boxed()
}

async fn outcome(mut answer: AnswerReader) -> Result<ExecOutcome, NodeError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        let (to, bytes) = match answer.frames.next().await? {
            Frame::Begun => continue,
            Frame::Stdout(bytes) => (&mut stdout, bytes),
            Frame::Stderr(bytes) => (&mut stderr, bytes),
            Frame::Failed(error) => return Err(error),
            Frame::Ended(end) => {
                let exit_code = end.exit_code.ok_or_else(garbage)?;
                return Ok(ExecOutcome { exit_code, stdout, stderr, truncated: end.truncated });
            }
            _ => return Err(garbage()),
        };
        if to.len() + bytes.len() > ExecOutcome::MAX_OUTPUT_BYTES {
            return Err(garbage());
        }
        to.extend_from_slice(&bytes);
    }
}

/// An answer in one piece.
async fn document(mut answer: AnswerReader) -> Result<Vec<u8>, NodeError> {
    let mut document = Vec::new();
    loop {
        match answer.frames.next().await? {
            Frame::Output(bytes) if document.len() + bytes.len() <= InstanceStats::MAX_ANSWER_BYTES => {
                document.extend_from_slice(&bytes);
            }
            Frame::Failed(error) => return Err(error),
            Frame::Ended(_) => return Ok(document),
            _ => return Err(garbage()),
        }
    }
}

impl From<CutOff> for NodeError {
    fn from(cut_off: CutOff) -> Self {
        Self::Unavailable(cut_off.to_string())
    }
}

fn garbage() -> NodeError {
    CutOff::Garbage.into()
}

fn unavailable(sentence: &str) -> NodeError {
    NodeError::Unavailable(sentence.to_owned())
}
